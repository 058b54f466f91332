"""Types and shapes of values, reshaping of models, evaluation of single nodes."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.judge import onnx_runtime
from support.reader_models import dense_model, model_of, one_node

from cpuruntime.errors import InvalidArgumentError, ModelError, UnsupportedError
from cpuruntime.frontend.reader import read
from cpuruntime.graph import Dimension, Graph, Node, PartialShape, Type, Value, verify
from cpuruntime.operators.reshape_targets import groups, new_shape, to_target
from cpuruntime.operators.shape_inference import evaluate, infer_shapes, reshape

make = helper.make_node


def shape_of(graph: Graph, name: str = "y"):
    return next(value.shape for value in graph.values() if value.name == name)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (one_node("Relu", {"x": [2, 3]}), "y: f32[2,3]"),
        (one_node("Add", {"x": [2, 1], "z": [3]}), "y: f32[2,3]"),
        (one_node("Add", {"x": ["n", 1], "z": [3]}), "y: f32[?,3]"),
        (one_node("Conv", {"x": ["n", 4, 9, 9], "w": [8, 4, 3, 3]}, strides=[2, 2]), "y: f32[?,8,4,4]"),
        (one_node("MaxPool", {"x": [1, 4, 9, 9]}, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), "y: f32[1,4,5,5]"),
        (one_node("Gemm", {"x": [2, 4], "w": [3, 4]}, transB=1), "y: f32[2,3]"),
        (one_node("Shape", {"x": ["n", "m"]}), "y: i64[2]"),
        (one_node("Cast", {"x": [2]}, to=TensorProto.BOOL), "y: boolean[2]"),
        (one_node("Flatten", {"x": [2, 3, 4]}), "y: f32[2,12]"),
        (one_node("ReduceMean", {"x": [2, 3]}, keepdims=0), "y: f32[]"),
        (one_node("Dropout", {"x": [2, 3]}), "y: f32[2,3]"),
        (one_node("GroupNormalization", {"x": [2, 4, 3], "s": [4], "b": [4]}, 21, num_groups=2), "y: f32[2,4,3]"),
    ],
)
def test_one_operator(model, expected):
    assert str(read(model).outputs[0]) == expected


def test_the_mask_of_dropout():
    model = model_of([make("Dropout", ["x"], ["y", "mask"])], {"x": [2, 3]}, ["y", "mask"], opset=9)
    assert [str(value) for value in read(model).outputs] == ["y: f32[2,3]", "mask: f32[2,3]"]


def test_unknown_rank():
    model = one_node("Relu", {"x": [2]})
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert str(read(model).outputs[0]) == "y: f32[...]"


def test_shapes_are_recomputed():
    graph = read(one_node("Relu", {"x": [2, 3]}))
    graph.inputs[0].shape = (5, None)
    infer_shapes(graph)
    assert shape_of(graph) == (5, None)


def test_nodes_of_passes_keep_their_shapes():
    graph = read(model_of([make("Relu", ["x"], ["a"]), make("Relu", ["a"], ["y"])], {"x": [2, 3]}))
    graph.nodes[0].domain = "cpuruntime"
    graph.nodes[0].op_type = "Own"
    infer_shapes(graph)
    assert shape_of(graph, "a") == shape_of(graph) == (2, 3)


FLATTEN = [
    make("Shape", ["x"], ["s"]),
    make("Gather", ["s", "zero"], ["n"], axis=0),
    make("Unsqueeze", ["n", "axes"], ["n1"]),
    make("Concat", ["n1", "rest"], ["t"], axis=0),
    make("Reshape", ["x", "t"], ["y"]),
]
FLATTEN_CONSTANTS = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}


@pytest.mark.parametrize(
    ("given", "expected"),
    [([2, 3, 4], (2, 12)), (["n", 3, 4], (None, None)), ([2, "c", 4], (2, None)), (["n", "c", "d"], (None, None))],
)
def test_the_batch_computed_from_the_shape(given, expected):
    """What exporters write for x.view(x.size(0), -1)."""
    graph = read(model_of(FLATTEN, {"x": given}, initializers=FLATTEN_CONSTANTS))
    assert shape_of(graph) == expected


def test_a_known_part_of_an_unknown_shape():
    nodes = [
        make("Shape", ["x"], ["s"]),
        make("Gather", ["s", "one"], ["c"], axis=0),
        make("Concat", ["minus", "c"], ["t"], axis=0),
        make("Reshape", ["x", "t"], ["y"]),
    ]
    graph = read(model_of(nodes, {"x": ["n", 6, 5]}, initializers={"one": np.array([1]), "minus": np.array([-1])}))
    assert shape_of(graph) == (None, 6)


def test_arithmetic_on_shapes():
    """Resize to twice the size by floats, as exporters write it, then a Reshape to half the channels."""
    nodes = [
        make("Shape", ["x"], ["s"], start=2),
        make("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        make("Mul", ["f", "two"], ["g"]),
        make("Floor", ["g"], ["h"]),
        make("Cast", ["h"], ["hw"], to=TensorProto.INT64),
        make("Shape", ["x"], ["nc"], end=2),
        make("Concat", ["nc", "hw"], ["sizes"], axis=0),
        make("Resize", ["x", "", "", "sizes"], ["r"], mode="nearest"),
        make("Slice", ["nc", "one", "end"], ["c"]),
        make("Div", ["c", "half"], ["c2"]),
        make("Concat", ["minus", "c2", "hw"], ["t"], axis=0),
        make("Reshape", ["r", "t"], ["y"]),
    ]
    constants = {
        "two": np.array(2, np.float32),
        "one": np.array([1]),
        "end": np.array([2]),
        "half": np.array([2]),
        "minus": np.array([-1]),
    }
    graph = read(model_of(nodes, {"x": [1, 6, 5, 7]}, initializers=constants))
    assert shape_of(graph, "r") == (1, 6, 10, 14)
    assert shape_of(graph) == (2, 3, 10, 14)


def test_values_that_are_known():
    graph = read(model_of(FLATTEN, {"x": [2, 3, 4]}, initializers=FLATTEN_CONSTANTS))
    known = {value.name: array.tolist() for value, array in infer_shapes(graph).items()}
    assert known == {"s": [2, 3, 4], "n": 2, "n1": [2], "t": [2, -1]}
    verify(graph)


def test_random_numbers_are_not_known():
    graph = read(model_of([make("RandomUniformLike", ["x"], ["y"])], {}, initializers={"x": np.zeros(2, np.float32)}))
    assert infer_shapes(graph) == {}


def test_large_constants_are_not_computed():
    shape = {"k": np.array([1 << 20, 1 << 20])}
    graph = read(model_of([make("ConstantOfShape", ["k"], ["y"])], {}, initializers=shape))
    assert shape_of(graph) == (1 << 20, 1 << 20)
    assert infer_shapes(graph) == {}


def test_weights_made_by_constant_of_shape_cost_no_call_into_onnx(monkeypatch):
    nodes = [make("ConstantOfShape", ["k"], [f"w{i}"]) for i in range(9)]
    graph = read(model_of(nodes, {}, ["w0"], {"k": np.array([64, 64, 3, 3])}))
    monkeypatch.delattr("cpuruntime.operators.shape_inference.infer_node_outputs")
    infer_shapes(graph)
    assert all(value.shape == (64, 64, 3, 3) for node in graph.nodes for value in node.outputs)


def test_a_sequence_has_the_type_of_its_elements():
    graph = read(model_of([make("SplitToSequence", ["x"], ["y"], name="s")]))
    assert str(graph.outputs[0]) == "y: sequence of f32"


RESIZABLE_WEIGHTS = {"m": np.ones((8, 5), np.float32), "target": np.array([1, 8])}


def resizable() -> onnx.ModelProto:
    """Convolution, global pooling, then a Reshape that states the batch, and a Gemm."""
    nodes = [
        make("Conv", ["x", "w"], ["a"], name="conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        make("GlobalAveragePool", ["a"], ["b"], name="pool"),
        make("Reshape", ["b", "target"], ["c"], name="flatten"),
        make("Gemm", ["c", "m"], ["y"], name="gemm"),
    ]
    weights = {"w": np.ones((8, 3, 3, 3), np.float32), **RESIZABLE_WEIGHTS}
    return model_of(nodes, {"x": [1, 3, 16, 16]}, initializers=weights)


@pytest.mark.parametrize(
    ("shape", "outputs"),
    [
        ([4, 3, 16, 16], (4, 5)),
        ([1, 3, 32, 24], (1, 5)),
        ("[4,3,?,?]", (4, 5)),
        (PartialShape("[?,3,16,16]"), (None, 5)),
        ([-1, 3, (16, 64), "?"], (None, 5)),
        ((Dimension(1, 8), 3, 16, 16), (None, 5)),
    ],
)
def test_reshape(shape, outputs):
    graph = read(resizable())
    before = str(graph)
    result = reshape(graph, {"x": shape})
    verify(result)
    assert shape_of(result) == outputs
    assert result.input_bounds == {"x": PartialShape(shape)}
    assert str(graph) == before
    assert graph.input_bounds == {"x": PartialShape([1, 3, 16, 16])}


def test_reshape_to_dynamic_and_back():
    dynamic = reshape(read(resizable()), {"x": "[?,3,?,?]"})
    assert shape_of(reshape(dynamic, {"x": [6, 3, 20, 20]})) == (6, 5)


def test_a_size_that_a_later_matrix_does_not_take():
    graph = read(model_of([*resizable().graph.node][2:], {"b": [1, 8, 1, 1]}, initializers=RESIZABLE_WEIGHTS))
    with pytest.raises(InvalidArgumentError, match=r"Gemm 'gemm' .*has 32 columns, the second 8 rows"):
        reshape(graph, {"b": [1, 8, 2, 2]})


def test_a_target_that_fits_is_kept():
    graph = read(model_of([make("Reshape", ["x", "t"], ["y"])], {"x": [1, 6]}, initializers={"t": np.array([1, -1])}))
    assert shape_of(reshape(graph, {"x": [2, 6]})) == (1, 12)


def test_channel_shuffles_follow_the_size():
    nodes = [
        make("Reshape", ["x", "split"], ["a"]),
        make("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
        make("Reshape", ["b", "merge"], ["y"]),
    ]
    targets = {"split": np.array([1, 2, 3, 8, 8]), "merge": np.array([1, 6, 8, 8])}
    graph = read(model_of(nodes, {"x": [1, 6, 8, 8]}, initializers=targets))
    assert shape_of(reshape(graph, {"x": [3, 6, 10, 12]})) == (3, 6, 10, 12)
    dynamic = reshape(graph, {"x": "[?,6,?,?]"})
    assert shape_of(dynamic, "a") == (None, 2, 3, None, None)
    assert shape_of(dynamic) == (None, 6, None, None)
    static = reshape(dynamic, {"x": [3, 6, 10, 12]})
    assert shape_of(static) == (3, 6, 10, 12)
    assert [node.inputs[1].constant.tolist() for node in static.nodes[::2]] == [[3, 2, 3, 10, 12], [3, 6, 10, 12]]


def test_reshape_of_an_unknown_input():
    with pytest.raises(InvalidArgumentError, match=r"no input 'y'.*Inputs: 'x'\."):
        reshape(read(resizable()), {"y": [1]})
    with pytest.raises(InvalidArgumentError, match="Did you mean 'data_0'"):
        reshape(read(one_node("Relu", {"data_0": [1]})), {"data0": [1]})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([1, 4, 16, 16], r"'x' with shape \[1,4,16,16\]: Conv 'conv' .*weight channels 3 != input channels 4"),
        ([1, 3, 16], "Conv 'conv'"),
        ([1, 3, 16, 16, 16], "Conv 'conv'"),
        ([1, 3, 2**40, 2**40], "overflows"),
        ("[1,3,x,16]", 'Cannot parse dimension: "x"'),
        (7, "7 is no shape"),
    ],
)
def test_reshape_to_what_the_model_does_not_take(shape, message):
    graph = read(resizable())
    before = str(graph)
    with pytest.raises(InvalidArgumentError, match=message):
        reshape(graph, {"x": shape})
    assert str(graph) == before


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([1, 6, 4], [1, 2, 3, 4], [([0], [0]), ([1], [1, 2]), ([2], [3])]),
        ([1, 2048, 1, 1], [1, 2048], [([0], [0]), ([1, 2, 3], [1])]),
        ([2, 3], [3, 2], [([0, 1], [0, 1])]),
        ([4], [1, 4], [([0], [0, 1])]),
        ([6], [6, 1, 1], [([0], [0, 1, 2])]),
        ([2, 3], [5], None),
        ([0, 3], [0], None),
        ([], [1], None),
    ],
)
def test_groups_of_dimensions(before, after, expected):
    found = groups(before, after)
    assert found == expected if found is None else [(list(a), list(b)) for a, b in found] == expected


@pytest.mark.parametrize(
    ("before", "after", "now", "expected", "target"),
    [
        ([1, 8, 1, 1], [1, 8], [4, 8, 1, 1], [4, 8], [4, 8]),
        ([1, 8, 2, 2], [1, 32], [4, 8, 3, 3], [4, 72], [4, 72]),
        ([1, 8, 1, 1], [1, 8], [None, 8, 1, 1], [None, 8], [0, 8]),
        ([1, 8, 2, 2], [1, 32], [None, 8, None, 2], [None, None], [0, -1]),
        ([1, 6, 8, 8], [1, 2, 3, 8, 8], [2, 6, None, 8], [2, 2, 3, None, 8], [2, 2, 3, -1, 8]),
        ([1, 6, 8, 8], [1, 2, 3, 8, 8], [2, 6, None, None], [2, 2, 3, None, None], None),
        ([1, 6, 4], [1, 2, 3, 4], [1, 12, 4], [1, 4, 3, 4], [1, 4, 3, 4]),
        ([1, 6, 4], [1, 2, 3, 4], [1, 7, 4], None, None),
        ([2, 3], [6], [None, 3], [None], [-1]),
        ([1, 6], [1, 6], [1, 6, 1], None, None),
        ([1, 6], [1, 6], [0, 6], None, None),
    ],
)
def test_new_shapes_and_targets(before, after, now, expected, target):
    shape = new_shape(before, after, now)
    assert shape == expected
    assert shape is None or to_target(before, after, shape) == target


def node_of(op_type: str, inputs: int = 1, outputs: int = 1, version: int = 17, **attributes) -> Node:
    values = [Value(f"i{index}") for index in range(inputs)]
    return Node(
        op_type, op_type.lower(), values, [Value(f"o{index}") for index in range(outputs)], attributes, "", version
    )


def i64(*numbers):
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    ("node", "arrays", "expected"),
    [
        (node_of("Add", 2), [i64(1, 2), i64(3, 4)], i64(4, 6)),
        (node_of("Sub", 2), [i64(1, 2), np.array(3)], i64(-2, -1)),
        (node_of("Mul", 2), [np.float32([2, 3]), np.float32(4)], np.float32([8, 12])),
        (node_of("Div", 2), [i64(7, 9), i64(2, 3)], i64(3, 3)),
        (node_of("Cast", to=TensorProto.INT32), [np.float32([1.7, -1.7])], np.array([1, -1], np.int32)),
        (node_of("Concat", 2, axis=0), [i64(1), i64(2, 3)], i64(1, 2, 3)),
        (node_of("Gather", 2, axis=1), [np.eye(3), i64(2)], np.eye(3)[:, 2:]),
        (node_of("Gather", 2), [i64(5, 6), np.array(-1)], np.array(6)),
        (node_of("Shape", start=-2), [np.zeros((2, 3, 4))], i64(3, 4)),
        (node_of("Squeeze"), [np.zeros((1, 3, 1))], np.zeros(3)),
        (node_of("Squeeze", 2), [np.zeros((1, 3, 1)), i64(2)], np.zeros((1, 3))),
        (node_of("Squeeze", version=11, axes=[0]), [np.zeros((1, 3, 1))], np.zeros((3, 1))),
        (node_of("Unsqueeze", 2), [np.zeros(3), i64(0, 2)], np.zeros((1, 3, 1))),
        (node_of("Unsqueeze", version=11, axes=[-1]), [np.zeros(3)], np.zeros((3, 1))),
        (node_of("Identity"), [i64(1)], i64(1)),
        (node_of("ConstantOfShape"), [i64(2, 2)], np.zeros((2, 2), np.float32)),
        (node_of("ConstantOfShape", value=i64(7)), [i64(2)], i64(7, 7)),
        (node_of("Relu"), [np.float32([-1, 2])], np.float32([0, 2])),
        (node_of("Softmax", axis=0), [np.float32([0, 0])], np.float32([0.5, 0.5])),
        (node_of("Softmax", version=11), [np.zeros((1, 2, 2), np.float32)], np.full((1, 2, 2), 0.25, np.float32)),
        (
            node_of("Softmax", version=11, axis=-1),
            [np.zeros((1, 2, 2), np.float32)],
            np.full((1, 2, 2), 0.5, np.float32),
        ),
        (node_of("Hardmax", version=11), [np.float32([[[1, 2], [4, 3]]])], np.float32([[[0, 0], [1, 0]]])),
        (node_of("LogSoftmax", version=11), [np.float32([[[7], [-99]]])], np.float32([[[0], [-106]]])),
        (node_of("Clip", 3), [np.float32([-1, 9]), None, np.float32(6)], np.float32([-1, 6])),
        (node_of("Transpose", perm=[1, 0]), [np.eye(2, 3)], np.eye(3, 2)),
        (node_of("ReduceSum", 2, keepdims=0), [np.ones((2, 3)), i64(1)], np.full(2, 3.0)),
    ],
    ids=lambda value: value.op_type if isinstance(value, Node) else "",
)
def test_evaluate(node, arrays, expected):
    node.inputs = [None if array is None else value for value, array in zip(node.inputs, arrays)]
    for _ in range(2):  # the second time with what the first has cached
        (found,) = evaluate(node, arrays)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


IMAGE = np.random.default_rng(5).standard_normal((2, 5, 7, 6), np.float32)
CHANNEL = np.random.default_rng(6).random((4, 5), np.float32) + np.float32(0.5)


@pytest.mark.parametrize(
    ("op_type", "opset", "attributes", "arrays"),
    [
        ("BatchNormalization", 7, {}, [IMAGE, *CHANNEL]),
        ("BatchNormalization", 9, {"epsilon": 0.1, "momentum": 0.5}, [IMAGE, *CHANNEL]),
        ("BatchNormalization", 15, {}, [IMAGE, *CHANNEL]),
        ("LRN", 7, {"size": 3, "alpha": 0.5}, [IMAGE]),
        ("LRN", 13, {"size": 5, "alpha": 0.5, "beta": 0.6, "bias": 2.0}, [IMAGE]),
        ("MaxPool", 8, {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"}, [IMAGE]),
        ("MaxPool", 12, {"kernel_shape": [4, 3], "auto_pad": "SAME_LOWER"}, [IMAGE]),
        ("AveragePool", 7, {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"}, [IMAGE]),
        ("Conv", 7, {"strides": [2, 2], "auto_pad": "SAME_LOWER"}, [IMAGE, IMAGE[:, :, :3, :4]]),
        ("Softmax", 9, {"axis": 2}, [IMAGE]),
        ("LogSoftmax", 11, {}, [IMAGE]),
        ("Hardmax", 11, {"axis": -2}, [IMAGE]),
    ],
)
def test_evaluate_where_onnx_reference_errs_or_might(op_type, opset, attributes, arrays):
    shapes = {f"i{index}": array.shape for index, array in enumerate(arrays)}
    model = one_node(op_type, shapes, opset, **attributes)
    model.ir_version = 8
    (expected,) = onnx_runtime(model, dict(zip(shapes, arrays)))
    graph = read(model)
    (found,) = evaluate(graph.nodes[0], arrays)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape == shape_of(graph)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_several_and_absent_outputs():
    x = np.float32([3, 1, 2])
    node = node_of("TopK", 2, 2)
    values, indices = evaluate(node, [x, i64(2)])
    assert values.tolist() == [3, 2]
    assert indices.tolist() == [0, 2]
    node = Node("TopK", "t", node.inputs, [Value(""), Value("i")], {}, "", 17)
    assert evaluate(node, [x, i64(1)])[1].tolist() == [0]


def test_strings():
    node = node_of("StringNormalizer", case_change_action="UPPER")
    (found,) = evaluate(node, [np.array(["a", "b"], object)])
    assert Type(found.dtype) is Type.string
    assert found.tolist() == ["A", "B"]


def test_evaluators_live_as_long_as_their_nodes():
    attributes = {"ngram_counts": [0], "ngram_indexes": [0], "pool_int64s": [1], "max_skip_count": 0}
    node = node_of("TfIdfVectorizer", mode="TF", min_gram_length=1, max_gram_length=1, **attributes)
    evaluate(node, [i64(1)])
    alive = weakref.ref(node)
    del node
    gc.collect()
    assert alive() is None


def test_division_by_zero_is_silent():
    (found,) = evaluate(node_of("Div", 2), [np.float32([1]), np.float32([0])])
    assert np.isinf(found).all()


def test_what_cannot_be_evaluated():
    with pytest.raises(ModelError, match=r"Gather 'gather' \(opset 17\): cannot be evaluated: IndexError"):
        evaluate(node_of("Gather", 2), [i64(1), i64(5)])
    with pytest.raises(ModelError, match="MatMul"):
        evaluate(node_of("MatMul", 2), [np.eye(2), np.eye(3)])
    with pytest.raises(ModelError, match=r"shape \[-1\] has a negative extent"):
        evaluate(node_of("ConstantOfShape"), [i64(-1)])
    with pytest.raises(UnsupportedError, match="no such operator"):
        evaluate(Node("Foo", "f", [Value("x")], [Value("y")], {}, "my.domain", 1), [i64(1)])
    with pytest.raises(UnsupportedError, match="RegexFullMatch"):
        evaluate(node_of("RegexFullMatch", version=20, pattern="a"), [np.array(["a"], object)])


def test_a_model_is_the_sum_of_its_nodes():
    """Node after node by evaluate() gives what the reference evaluator gives for the whole."""
    model = dense_model()
    graph = read(model)
    x = np.random.default_rng(1).standard_normal((2, 4), np.float32)
    found = {graph.inputs[0]: x}
    for node in graph.nodes:
        arrays = [found.get(value, value.constant) for value in node.inputs]
        found.update(zip(node.outputs, evaluate(node, arrays)))
    w, b = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    np.testing.assert_allclose(found[graph.outputs[0]], np.maximum(x @ w + b, 0), rtol=1e-5)
