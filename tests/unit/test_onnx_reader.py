"""Reading ONNX models: what is accepted, in every form, and what it becomes."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.reader_models import FLOAT, dense_model, model_of

from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import InvalidArgumentError, ModelError, UnsupportedError
from cpuruntime.frontend.reader import read
from cpuruntime.graph import PartialShape, Type, verify
from cpuruntime.operators.shape_inference import evaluate


def test_a_model_becomes_a_graph():
    graph = read(dense_model())
    verify(graph)
    assert graph.name == "small"
    assert graph.opsets == {"": 17}
    assert [str(value) for value in graph.inputs] == ["x: f32[?,4]"]
    assert [str(value) for value in graph.outputs] == ["y: f32[?,3]"]
    assert graph.input_bounds == {"x": PartialShape("[?,4]")}
    gemm, relu = graph.nodes
    assert (gemm.op_type, gemm.name, gemm.domain, gemm.version, gemm.origins) == ("Gemm", "gemm", "", 17, ["gemm"])
    assert [value.name for value in gemm.inputs] == ["x", "w", "b"]
    assert relu.inputs[0] is gemm.outputs[0]


def as_path(model, folder):
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


SOURCES = {
    "Path": as_path,
    "str": lambda model, folder: str(as_path(model, folder)),
    "bytes": lambda model, folder: model.SerializeToString(),
    "bytearray": lambda model, folder: bytearray(model.SerializeToString()),
    "BytesIO": lambda model, folder: io.BytesIO(model.SerializeToString()),
    "ModelProto": lambda model, folder: model,
}


@pytest.mark.parametrize("rows", [4, 700], ids=["small", "large"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same(source, rows, tmp_path):
    model = dense_model(rows, 501)
    before = model.SerializeToString()
    graph = read(SOURCES[source](model, tmp_path))
    constants = {value.name: value.constant for value in graph.constants()}
    for tensor in model.graph.initializer:
        np.testing.assert_array_equal(constants[tensor.name], numpy_helper.to_array(tensor))
        assert not constants[tensor.name].flags.writeable
        assert constants[tensor.name].flags.aligned
    assert model.SerializeToString() == before


def test_an_open_file(tmp_path):
    with as_path(dense_model(), tmp_path).open("rb") as file:
        assert len(read(file).nodes) == 2


def test_a_bytesio_is_read_from_its_position():
    stream = io.BytesIO(b"junk" + dense_model().SerializeToString())
    stream.seek(4)
    assert len(read(stream).nodes) == 2


@pytest.mark.parametrize("source", [5, None, ["m.onnx"]])
def test_other_sources_are_refused(source):
    with pytest.raises(InvalidArgumentError, match="isn't supported as 'model' argument"):
        read(source)


def test_a_text_stream_is_refused():
    with pytest.raises(InvalidArgumentError, match="binary"):
        read(io.StringIO("text"))


def test_separate_weights_are_refused():
    with pytest.raises(InvalidArgumentError, match="no separate weights"):
        read(dense_model(), b"weights")


def test_weights_are_held_once(tmp_path):
    """Reading from a file keeps one copy of the weights and nothing else of their size, at any time."""
    path = as_path(dense_model(2048, 2048), tmp_path)
    size = path.stat().st_size
    tracemalloc.start()
    try:
        graph = read(path)
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(graph.nodes) == 2
    assert size > 16 << 20
    assert current < 1.05 * size
    assert peak < 1.05 * size


@pytest.mark.parametrize("opset", [7, 9, 13, onnx.defs.onnx_opset_version()])
def test_opsets(opset):
    graph = read(model_of([helper.make_node("Relu", ["x"], ["y"])], opset=opset))
    assert graph.nodes[0].version == opset


@pytest.mark.parametrize("ir_version", [3, 4, 8, onnx.IR_VERSION])
def test_ir_versions(ir_version):
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], ir_version=ir_version)
    assert model.ir_version == ir_version
    assert [node.op_type for node in read(model).nodes] == ["Relu"]


@pytest.mark.parametrize("opset", [0, onnx.defs.onnx_opset_version() + 1])
def test_other_opsets_are_refused(opset):
    with pytest.raises(UnsupportedError, match=f"opset {opset}; supported are 1 to {onnx.defs.onnx_opset_version()}"):
        read(model_of([helper.make_node("Relu", ["x"], ["y"])], opset=opset))


def test_newer_ir_version_is_refused():
    model = dense_model()
    model.ir_version = onnx.IR_VERSION + 1
    with pytest.raises(UnsupportedError, match=f"IR version {onnx.IR_VERSION + 1}; supported are 1 to"):
        read(model)


def test_initializers_that_are_listed_as_inputs_are_constants():
    model = dense_model()
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [4, 3]))
    graph = read(model)
    assert [value.name for value in graph.inputs] == ["x"]
    assert graph.nodes[0].inputs[1].constant is not None


def test_the_default_domain_has_two_names():
    model = model_of([helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")])
    model.opset_import[0].domain = "ai.onnx"
    graph = read(model)
    assert graph.opsets == {"": 17}
    assert graph.nodes[0].domain == ""


def test_other_domains_of_onnx():
    model = model_of([helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=0.5)])
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    graph = read(model)
    assert (graph.nodes[0].domain, graph.nodes[0].version) == ("ai.onnx.ml", 3)
    assert str(graph.outputs[0]) == "y: f32[2,4]"


def test_nodes_in_any_order_are_sorted():
    names = [f"v{i}" for i in range(9)]
    nodes = [helper.make_node("Relu", [a], [b], name=b) for a, b in zip(["x", *names], [*names, "y"])]
    in_order = read(model_of(nodes))
    reversed_order = read(model_of(nodes[::-1]))
    assert [node.name for node in in_order.nodes] == [*names, "y"]
    assert [node.name for node in reversed_order.nodes] == [*names, "y"]


def test_the_order_of_the_file_is_kept():
    nodes = [helper.make_node("Relu", ["x"], [f"v{i}"], name=f"n{i}") for i in range(20)]
    nodes.append(helper.make_node("Sum", [f"v{i}" for i in range(20)], ["y"], name="sum"))
    assert [node.name for node in read(model_of(nodes)).nodes] == [*(f"n{i}" for i in range(20)), "sum"]


def test_names_of_nodes_are_made_unique():
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="same"),
        helper.make_node("Relu", ["a"], ["b"], name="same"),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"], name="same_2"),
    ]
    names = [node.name for node in read(model_of(nodes)).nodes]
    assert len(set(names)) == 4
    assert names[0] == "same"
    assert all(names)


def test_absent_inputs_and_outputs():
    nodes = [
        helper.make_node("Clip", ["x", "", "high"], ["c"]),
        helper.make_node("LSTM", ["s", "w", "r", "", "", ""], ["", "y", ""], hidden_size=2),
    ]
    model = model_of(
        nodes,
        {"x": [2], "s": [5, 1, 3], "w": [1, 8, 3], "r": [1, 8, 2]},
        ("c", "y"),
        {"high": np.array(6, np.float32)},
    )
    clip, lstm = read(model).nodes
    assert clip.inputs[1] is None
    assert clip.inputs[2].name == "high"
    assert lstm.inputs[3:] == [None] * 3
    assert [value.name for value in lstm.outputs] == ["", "y"]
    assert str(lstm.outputs[1]) == "y: f32[1,1,2]"


def test_attributes_become_python_values():
    table = np.arange(3, dtype=np.int64)
    nodes = [
        helper.make_node("LRN", ["x"], ["a"], alpha=0.5, size=3),
        helper.make_node("MaxPool", ["a"], ["y"], kernel_shape=[2, 2], auto_pad="VALID"),
        helper.make_node("ConstantOfShape", ["k"], ["z"], value=numpy_helper.from_array(table[1:2])),
    ]
    graph = read(model_of(nodes, {"x": [1, 2, 4, 4]}, ("y", "z"), {"k": table}))
    lrn, pool, constant = graph.nodes
    assert lrn.attributes == {"alpha": 0.5, "size": 3}
    assert pool.attributes == {"kernel_shape": [2, 2], "auto_pad": "VALID"}
    np.testing.assert_array_equal(constant.attributes["value"], [1])


def constants(**attributes):
    return model_of([helper.make_node("Constant", [], ["y"], **attributes)], {})


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": numpy_helper.from_array(np.array([[1, 2]], np.int8))}, np.array([[1, 2]], np.int8)),
        ({"value_float": 1.5}, np.array(1.5, np.float32)),
        ({"value_floats": [1.5, 2]}, np.array([1.5, 2], np.float32)),
        ({"value_int": 3}, np.array(3, np.int64)),
        ({"value_ints": [3, 4]}, np.array([3, 4], np.int64)),
        ({"value_string": "s"}, np.array("s", object)),
        ({"value_strings": ["s", "t"]}, np.array(["s", "t"], object)),
    ],
)
def test_constant_nodes_become_constants(attributes, expected):
    graph = read(constants(**attributes))
    assert graph.nodes == []
    found = graph.outputs[0].constant
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    verify(graph)


@pytest.mark.parametrize("attributes", [{}, {"value_int": 1, "value_float": 2.0}])
def test_constant_nodes_have_one_value(attributes):
    with pytest.raises(ModelError, match="it needs one value"):
        read(constants(**attributes))


NUMERIC = [t for t in Type.members() if t.is_static() and t is not Type.string]


@pytest.mark.parametrize("element_type", NUMERIC, ids=lambda t: t.get_type_name())
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "fields"])
def test_initializers_of_every_type(element_type, raw):
    signed = element_type.is_signed() and element_type not in (Type.f8e8m0,)
    numbers = [0, 1, 1, -1 if signed else 1, 1] if element_type is not Type.f8e8m0 else [1, 2, 4, 1, 1]
    array = np.array(numbers, np.float32).astype(element_type.to_dtype())
    number = element_type.to_onnx()
    data = numpy_helper.from_array(array).raw_data if raw else array.astype(np.float32).tolist()
    if raw:
        tensor = helper.make_tensor("y", number, [5], data, raw=True)
    else:
        tensor = helper.make_tensor("y", number, [5], array.tolist() if not element_type.is_real() else data)
    model = model_of([], {})
    model.graph.initializer.append(tensor)
    value = read(model).outputs[0]
    assert value.element_type is element_type
    assert value.constant.dtype == element_type.to_dtype()
    np.testing.assert_array_equal(value.constant.astype(np.float32), array.astype(np.float32))


def test_bfloat16_bits():
    model = model_of([], {})
    model.graph.initializer.append(
        helper.make_tensor("y", TensorProto.BFLOAT16, [2], np.array([0x3F80, 0xC000], np.uint16).tobytes(), raw=True)
    )
    found = read(model).outputs[0].constant
    assert found.dtype == ml_dtypes.bfloat16
    assert found.astype(np.float32).tolist() == [1.0, -2.0]


def test_strings_and_scalars_and_empty_arrays():
    model = model_of([], {}, ("s", "scalar", "empty"))
    model.graph.initializer.extend(
        [
            helper.make_tensor("s", TensorProto.STRING, [2], ["a", "é"]),
            numpy_helper.from_array(np.array(7, np.int32), "scalar"),
            numpy_helper.from_array(np.zeros((0, 3), np.float32), "empty"),
        ]
    )
    text, scalar, empty = (value.constant for value in read(model).outputs)
    assert text.tolist() == ["a", "é"]
    assert scalar.shape == ()
    assert scalar == 7
    assert empty.shape == (0, 3)


def test_raw_booleans_are_normalised():
    model = model_of([], {})
    model.graph.initializer.append(helper.make_tensor("y", TensorProto.BOOL, [3], b"\x00\x01\x02", raw=True))
    assert read(model).outputs[0].constant.view(np.uint8).tolist() == [0, 1, 1]


def sparse(values, indices, dims) -> onnx.ModelProto:
    model = model_of([], {})
    tensor = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array(values, np.float32), "y"),
        numpy_helper.from_array(np.array(indices, np.int64), "i"),
        dims,
    )
    model.graph.sparse_initializer.append(tensor)
    return model


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]], ids=["linear", "coordinates"])
def test_sparse_initializers_become_dense(indices):
    found = read(sparse([7, 8], indices, [2, 3])).outputs[0].constant
    np.testing.assert_array_equal(found, [[0, 7, 0], [0, 0, 8]])


@pytest.mark.parametrize(
    ("indices", "dims", "message"),
    [
        ([1, 6], [2, 3], "lies outside"),
        ([-1, 2], [2, 3], "lies outside"),
        ([[0, 3], [1, 0]], [2, 3], "lies outside"),
        ([1], [2, 3], "2. values need int64 indices"),
        ([1, 2], [-2, 3], "negative"),
        ([1, 2], [2**32, 2**32], "overflows"),
    ],
)
def test_wrong_sparse_initializers(indices, dims, message):
    with pytest.raises(ModelError, match=message):
        read(sparse([7, 8], indices, dims))


def test_a_sparse_bomb_is_refused():
    with pytest.raises(UnsupportedError, match="MiB when dense"):
        read(sparse([7, 8], [1, 2], [1 << 20, 1 << 20]))


def test_outputs_may_be_inputs_and_constants():
    graph = read(model_of([], {"x": [3]}, ("x", "c"), {"c": np.ones(2, np.float32)}))
    assert graph.outputs[0] is graph.inputs[0]
    assert graph.outputs[1].constant is not None
    verify(graph)


def test_shapes_of_inputs():
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", 3, -1, 0]})
    assert str(read(model).inputs[0]) == "x: f32[?,3,?,0]"
    model.graph.input[0].type.tensor_type.ClearField("shape")
    graph = read(model)
    assert str(graph.inputs[0]) == "x: f32[...]"
    assert graph.input_bounds["x"] == PartialShape.dynamic()
    assert PortInfo.inputs_of(graph)[0].partial_shape == PartialShape.dynamic()


def function_model(body=None, calls=("F",), functions=()) -> onnx.ModelProto:
    """y = F(x), F(a) = relu(a + a)."""
    body = body or [helper.make_node("Add", ["a", "a"], ["s"]), helper.make_node("Relu", ["s"], ["b"])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    names = ["x", *(f"v{i}" for i in range(len(calls) - 1)), "y"]
    model = model_of([helper.make_node(f, [a], [b], domain="my") for f, a, b in zip(calls, names, names[1:])])
    model.opset_import.append(opsets[1])
    model.functions.append(helper.make_function("my", "F", ["a"], ["b"], body, opsets))
    for name, nodes in functions:
        model.functions.append(helper.make_function("my", name, ["a"], ["b"], nodes, opsets))
    return model


def test_functions_are_inlined():
    graph = read(function_model(calls=("F", "F")))
    assert [node.op_type for node in graph.nodes] == ["Add", "Relu", "Add", "Relu"]
    verify(graph)
    assert str(graph.outputs[0]) == "y: f32[2,4]"


def test_a_function_that_calls_itself():
    with pytest.raises(ModelError, match="'F' calls itself"):
        read(function_model([helper.make_node("F", ["a"], ["b"], domain="my")]))


def test_a_function_called_with_too_many_inputs():
    model = function_model()
    model.graph.node[0].input.extend(["x", "x"])
    with pytest.raises(ModelError, match="3 inputs, the function has 1"):
        read(model)


def test_functions_that_call_each_other():
    body = [helper.make_node("G", ["a"], ["b"], domain="my")]
    other = [helper.make_node("F", ["a"], ["b"], domain="my")]
    with pytest.raises(ModelError, match="calls itself"):
        read(function_model(body, functions=[("G", other)]))


def test_functions_that_expand_without_end():
    """Each calls the next twice: 2**40 nodes."""

    def twice(name):
        return [helper.make_node(name, ["a"], ["m"], domain="my"), helper.make_node(name, ["m"], ["b"], domain="my")]

    chain = [(f"G{i}", twice(f"G{i + 1}")) for i in range(40)]
    chain.append(("G40", [helper.make_node("Relu", ["a"], ["b"])]))
    with pytest.raises(ModelError, match="more than 50000 nodes"):
        read(function_model(calls=("G0",), functions=chain))


def constant_body(size):
    """Two nodes that a call copies, one of them with `size` bytes."""
    data = numpy_helper.from_array(np.zeros(size, np.uint8))
    return [helper.make_node("Constant", [], ["c"], value=data), helper.make_node("Add", ["a", "c"], ["b"])]


def attribute_body(levels, uses):
    """Functions that hand an attribute down: each names it in `uses` calls of the next, the last in constants."""
    found = []
    for level in range(levels):
        nodes = []
        for index in range(uses):
            last = level == levels - 1
            node = helper.make_node(
                "Constant" if last else f"G{level + 1}", [], [f"m{index}"], domain="" if last else "my"
            )
            node.attribute.append(
                onnx.AttributeProto(name="value", ref_attr_name="value", type=onnx.AttributeProto.TENSOR)
            )
            nodes.append(node)
        nodes.append(helper.make_node("Identity", ["m0"], ["b"]))
        found.append((f"G{level}", nodes))
    return found


def test_a_function_whose_constant_is_copied_by_each_call():
    """1 MB of model took 3 GB of memory with 1000 calls, and 300 GB with 100,000."""
    model = function_model(constant_body(1 << 20))
    call = model.graph.node[0]
    del model.graph.node[:]
    for index in range(1025):
        node = model.graph.node.add()
        node.CopyFrom(call)
        node.output[0] = f"r{index}"
    with pytest.raises(ModelError, match="more than 1024 MiB"):
        read(model)


def test_an_attribute_that_functions_copy():
    """The attribute of one call is copied for each use, in the functions that it is handed down to, too."""
    model = function_model(calls=("G0",), functions=attribute_body(2, 50))
    for function in model.functions:
        function.attribute.append("value")
    model.graph.node[0].attribute.append(
        helper.make_attribute("value", numpy_helper.from_array(np.zeros(1 << 20, np.uint8)))
    )
    with pytest.raises(ModelError, match="more than 1024 MiB"):
        read(model)


def test_names_inside_functions_do_not_grow_with_the_names_of_calls():
    """Each node of a function has the name of its call in its own name and in those of its values."""
    model = function_model()
    model.graph.node[0].name = "n" * 100_000
    assert max(len(node.name) for node in read(model).nodes) < 200


def branch(name: str, *nodes, output: str, initializers=()) -> onnx.GraphProto:
    return helper.make_graph(
        list(nodes), name, [], [helper.make_tensor_value_info(output, FLOAT, None)], list(initializers)
    )


def if_model(*then_nodes) -> onnx.ModelProto:
    """y = relu(x) * k if c else x + h, where h is made outside the branches."""
    then_nodes = then_nodes or (helper.make_node("Relu", ["x"], ["t0"]), helper.make_node("Mul", ["t0", "k"], ["t"]))
    then_branch = branch("then", *then_nodes, output="t", initializers=[numpy_helper.from_array(np.float32(2), "k")])
    else_branch = branch("else", helper.make_node("Add", ["x", "h"], ["e"]), output="e")
    model = model_of(
        [
            helper.make_node("If", ["c"], ["y"], name="if", then_branch=then_branch, else_branch=else_branch),
            helper.make_node("Neg", ["x"], ["h"], name="outside"),
        ]
    )
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    return model


def test_what_subgraphs_read_are_inputs_of_their_node():
    graph = read(if_model())
    outside, node = graph.nodes
    assert (outside.name, node.name) == ("outside", "if")
    assert node.attributes["captures"] == ["h", "x"]
    assert [value.name for value in node.inputs] == ["c", "h", "x"]
    bodies = node.bodies
    assert [value.name for value in bodies["then_branch"].inputs] == ["h", "x"]
    assert [inner.op_type for inner in bodies["then_branch"].nodes] == ["Relu", "Mul"]
    assert str(bodies["else_branch"].outputs[0]) == "e: f32[2,4]"
    assert str(graph.outputs[0]) == "y: f32[2,4]"
    verify(graph)


@pytest.mark.parametrize("condition", [True, False])
def test_subgraphs_can_be_evaluated(condition):
    node = read(if_model()).nodes[1]
    x = np.array([[1, -2, 3, -4]], np.float32)
    (found,) = evaluate(node, [np.array(condition), -x, x])
    np.testing.assert_array_equal(found, np.maximum(x, 0) * 2 if condition else x - x)


def test_operators_in_subgraphs_are_checked():
    with pytest.raises(UnsupportedError, match="no operator 'Rleu'"):
        read(if_model(helper.make_node("Rleu", ["x"], ["t"])))
    with pytest.raises(ModelError, match="'nowhere' does not exist"):
        read(if_model(helper.make_node("Relu", ["nowhere"], ["t"])))


def test_bulk_data_in_subgraphs_and_constants(tmp_path):
    """A file large enough for its bulk data to be cut out keeps those of subgraphs."""
    table = np.arange(700_000, dtype=np.float32).reshape(-1, 4)
    model = if_model(
        helper.make_node("Constant", [], ["big"], value=numpy_helper.from_array(table)),
        helper.make_node("Constant", [], ["one"], value_int=1),
        helper.make_node("Gather", ["big", "one"], ["row"], axis=0),
        helper.make_node("Add", ["x", "row"], ["t"]),
    )
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c2"], value=numpy_helper.from_array(table)))
    model.graph.output.append(helper.make_tensor_value_info("c2", FLOAT, None))
    graph = read(as_path(model, tmp_path))
    np.testing.assert_array_equal(graph.outputs[1].constant, table)
    node = next(node for node in graph.nodes if node.op_type == "If")
    (found,) = evaluate(node, [np.array(True), *(np.zeros((1, 4), np.float32) for _ in node.inputs[1:])])
    np.testing.assert_array_equal(found, table[1:2])


def test_light_models_of_the_onnx_package():
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for path in sorted(folder.glob("*.onnx")):
        graph = read(path)
        verify(graph)
        assert len(graph.inputs) == 1
        assert all(value.is_static for node in graph.nodes for value in node.outputs), path.name
        assert graph.outputs[0].static_shape[:2] == (1, 1000)
