"""What is wrong with a model becomes a clear error, and nothing else happens."""

from __future__ import annotations

import io
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.reader_models import FLOAT, dense_model, model_of, one_node

from cpuruntime.errors import Error, ModelError, ModelNotFoundError, UnsupportedError
from cpuruntime.frontend.reader import read


def test_a_missing_file(tmp_path):
    for path in (tmp_path / "none.onnx", str(tmp_path / "none" / "m.onnx"), "", "nul\0byte"):
        with pytest.raises(ModelNotFoundError, match="there is no model file"):
            read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.onnx")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ModelNotFoundError):
        read(tmp_path / "file" / "m.onnx")


def test_a_folder_and_a_pipe(tmp_path):
    with pytest.raises(ModelError, match="is a folder"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="not a regular file"):
        read(tmp_path / "pipe")


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 8


@pytest.mark.parametrize("size", [0, 3 << 20], ids=["small", "large"])
@pytest.mark.parametrize("content", [b"", b"hello, this is text\n" * 50, PNG, b"\x00" * 100, b"\xff" * 100])
def test_files_that_are_not_onnx(content, size, tmp_path):
    data = content + content[:1] * size
    (tmp_path / "m.onnx").write_bytes(data)
    for source in (tmp_path / "m.onnx", data, io.BytesIO(data)):
        with pytest.raises(ModelError, match="not an ONNX model|is empty" if data else "is empty"):
            read(source)


def test_a_parsed_file_without_a_graph():
    with pytest.raises(ModelError, match="no graph or no IR version"):
        read(onnx.ModelProto(ir_version=8))


@pytest.mark.parametrize("rows", [4, 600], ids=["small", "large"])
def test_truncation_anywhere(rows, tmp_path):
    data = dense_model(rows, 500).SerializeToString()
    path = tmp_path / "m.onnx"
    step = max(1, len(data) // 97)
    for length in [*range(0, len(data), step), len(data) - 1]:
        path.write_bytes(data[:length])
        for source in (path, data[:length]):
            with pytest.raises(ModelError):
                read(source)


def test_no_opset():
    model = dense_model()
    del model.opset_import[:]
    with pytest.raises(ModelError, match="imports no operator set"):
        read(model)


def test_two_versions_of_a_domain():
    model = dense_model()
    model.opset_import.append(helper.make_opsetid("ai.onnx", 13))
    with pytest.raises(ModelError, match="versions 17 and 13"):
        read(model)


def test_a_domain_that_is_not_imported():
    with pytest.raises(ModelError, match=r"Foo 'foo': the model does not import its domain 'com\.my'"):
        read(one_node("Foo", domain="com.my"))


def test_an_unknown_operator():
    with pytest.raises(UnsupportedError, match=r"no operator 'Rellu' in opset 17\. Did you mean 'Relu'\?"):
        read(one_node("Rellu"))
    model = one_node("Fancy", domain="com.my")
    model.opset_import.append(helper.make_opsetid("com.my", 1))
    with pytest.raises(UnsupportedError, match=r"domain 'com\.my' has no operator 'Fancy'"):
        read(model)


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "in an If"])
@pytest.mark.parametrize(
    ("op_type", "attributes", "remedy"),
    [("RegexFullMatch", {"pattern": "(a+)+$"}, "Match the strings before"), ("ImageDecoder", {}, "Decode them before")],
)
def test_operators_that_run_code_or_decoders_on_data_of_the_model(op_type, attributes, remedy, inside):
    """At commit 53c12cb the pattern of a model ran in the interpreter's `re`, for minutes, with the GIL."""
    node = helper.make_node(op_type, ["s"], ["y"], "n", **attributes)
    kind = TensorProto.STRING if op_type == "RegexFullMatch" else TensorProto.UINT8
    if inside:
        other = helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(np.array([True])))
        output = helper.make_empty_tensor_value_info("y")
        branches = (helper.make_graph([each], "branch", [], [output]) for each in (node, other))
        node = helper.make_node("If", ["c"], ["z"], "if", then_branch=next(branches), else_branch=next(branches))
    ports = [helper.make_tensor_value_info("s", kind, [1]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    graph = helper.make_graph([node], "g", ports, [helper.make_empty_tensor_value_info("z" if inside else "y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(UnsupportedError, match=f"{op_type} 'n'.*is not supported: .*{remedy}"):
        read(model)


def test_an_operator_of_a_later_opset():
    with pytest.raises(UnsupportedError, match="Gelu is not part of opset 17"):
        read(one_node("Gelu"))


IMAGE = {"x": [1, 4, 9, 9], "w": [8, 4, 3, 3]}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"kernel_shape": [-3, 3]},
            r"Conv 'conv' \(opset 17\): attribute 'kernel_shape' is \[-3, 3\]; every value must",
        ),
        ({"kernel_shape": [5, 5]}, r"kernel_shape \[5, 5\] is not the weights' \[3, 3\]"),
        ({"kernel_shape": [3]}, "kernel_shape"),
        ({"strides": [0, 1]}, "'strides' is"),
        ({"strides": [1, 2**40]}, "'strides' is"),
        ({"strides": [1, 1, 1]}, r"strides has incorrect size\. Inputs: x: f32\[1,4,9,9\], w: f32\[8,4,3,3\]"),
        ({"kernel_shape": [3, 3], "strides": [1, 1, 1]}, r"'strides' is .* kernel_shape \[3, 3\] needs 2 values"),
        ({"kernel_shape": [3, 3], "pads": [1, 1]}, "needs 4 values"),
        ({"dilations": [-1, -1]}, "'dilations' is"),
        ({"pads": [-1, 0, 0, 0]}, "'pads' is"),
        ({"group": 0}, "'group' is 0"),
        ({"group": 3}, "weight channels 4 != input channels 4 / groups 3"),
        ({"group": 2}, "weight channels 4 != input channels 4 / groups 2"),
        ({"kernel_shape": [3, 3], "auto_pad": "SAME"}, "auto_pad is 'SAME', not one of NOTSET, SAME_UPPER"),
        ({"dilations": [9, 9]}, r"output would have the shape"),
        ({"strydes": [1, 1]}, r"there is no attribute 'strydes'\. Did you mean 'strides'"),
        ({"group": "two"}, "attribute 'group' has type string, not int"),
        ({"group": 1.0}, "attribute 'group' has type float, not int"),
        ({"kernel_shape": [float("nan")] * 2}, "attribute 'kernel_shape' has type floats, not ints"),
    ],
)
def test_nonsense_attributes_of_a_convolution(attributes, message):
    with pytest.raises(ModelError, match=message):
        read(one_node("Conv", IMAGE, **attributes))


@pytest.mark.parametrize(
    ("op_type", "shapes", "attributes", "message"),
    [
        ("Conv", {"x": [1, 3, 9, 9], "w": [8, 4, 3, 3]}, {}, "weight channels 4 != input channels 3 / groups 1"),
        ("Conv", {**IMAGE, "b": [7]}, {}, r"the bias has shape \[7\], not \[8\]"),
        ("Conv", {"x": [1, 4, 9, 9], "w": [9, 2, 3, 3]}, {"group": 2}, "9 channels are no multiple of 2 groups"),
        ("Conv", {"x": [1, 4, 9], "w": [8, 4, 3, 3]}, {}, "Conv 'conv'"),
        ("Conv", {"x": [1, 4, 9, 9]}, {}, "1 inputs, the operator takes 2 to 3"),
        ("MaxPool", {"x": [1, 4, 9, 9]}, {}, "attribute 'kernel_shape' is missing; the operator requires it"),
        ("MaxPool", {"x": [1, 4, 9, 9]}, {"kernel_shape": [20, 20]}, "a window of 20 does not fit into 9"),
        ("LRN", {"x": [1, 4, 9, 9]}, {"size": 0}, "'size' is 0"),
        ("LRN", {"x": [1, 4, 9, 9]}, {"size": 3, "alpha": float("nan")}, "'alpha' is nan; it must be a number"),
        ("Softmax", {"x": [2, 4]}, {"axis": 2}, r"'axis' is 2; the input 'x' has 2 dimensions, .* between -2 and 1"),
        ("Flatten", {"x": [2, 4]}, {"axis": 3}, "between -3 and 2"),
        ("LayerNormalization", {"x": [2, 4], "s": [4]}, {"axis": 2**40}, "'axis'"),
        ("Gemm", {"x": [2, 4], "w": [5, 3]}, {}, "the first matrix has 4 columns, the second 5 rows"),
        ("Gemm", {"x": [4, 2], "w": [4, 3]}, {"transB": 1, "transA": 1}, "has 4 columns, the second 3 rows"),
        ("Gemm", {"x": [2, 4], "w": [4, 3], "b": [2]}, {}, r"the bias of shape \[2\] does not fit \[2, 3\]"),
        ("MatMul", {"x": [2, 4], "w": [5, 3]}, {}, "Incompatible dimensions"),
        ("Add", {"x": [2, 4], "z": [3]}, {}, "Incompatible dimensions"),
        ("Concat", {"x": [2, 4], "z": [3, 4]}, {"axis": 1}, "Concat 'concat'"),
        (
            "BatchNormalization",
            {"x": [1, 4, 3], **{name: [5] for name in "abcd"}},
            {},
            r"'a' has shape \[5\], not .* \[4\]",
        ),
        ("Transpose", {"x": [2, 4]}, {"perm": [0, 5]}, "Transpose 'transpose'"),
        ("GatherND", {"x": [2, 4]}, {}, "1 inputs, the operator takes 2"),
        ("Relu", {"x": [2**62, 2**62]}, {}, "overflows 64 bits"),
        ("Relu", {"x": [-7]}, {}, "negative dimension"),
    ],
)
def test_wrong_nodes(op_type, shapes, attributes, message):
    with pytest.raises(ModelError, match=message):
        read(one_node(op_type, shapes, **attributes))


def test_an_attribute_that_crashes_the_inference_of_onnx():
    model = one_node("GatherND", {"x": [2, 2, 2], "i": [2, 1]}, batch_dims=-2)
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(ModelError, match="'batch_dims' is -2"):
        read(model)


def test_an_attribute_that_stalls_the_inference_of_onnx():
    with pytest.raises(ModelError, match="'num_outputs' is 2147483647, and there are 1 outputs"):
        read(one_node("Split", opset=18, num_outputs=2**31 - 1))


def test_types_that_the_operator_does_not_take():
    model = one_node("Conv", IMAGE)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(ModelError, match="input 'x' is i64; 'X' must be one of: f16, f32, f64"):
        read(model)


def test_types_that_disagree():
    model = one_node("Add", {"x": [4], "z": [4]})
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(ModelError, match="input 'z' is f64 and input 'x' is f32; they must have one type"):
        read(model)


def relu(source, target, name=""):
    return helper.make_node("Relu", [source], [target], name=name)


def test_a_cycle():
    nodes = [relu("x", "a", "first"), relu("c", "b", "second"), relu("b", "c", "third"), relu("c", "y", "last")]
    with pytest.raises(ModelError, match=r"has a cycle through '(second|third)', '(second|third)'"):
        read(model_of(nodes))


def test_a_node_that_reads_itself():
    with pytest.raises(ModelError, match="cycle through 'self'"):
        read(model_of([relu("y", "y", "self")]))


def test_names_that_do_not_exist():
    with pytest.raises(
        ModelError, match=r"Relu 'r' \(opset 17\): its input 'data1' does not .* Did you mean 'data_1'\?"
    ):
        read(model_of([relu("data1", "y", "r")], {"data_1": [2]}))
    with pytest.raises(ModelError, match=r"no node makes the graph's output 'logit'\. Did you mean 'logits'\?"):
        read(model_of([relu("x", "logits")], outputs=["logit"]))


def test_names_that_are_used_twice():
    weights = {"w": np.zeros(3, np.float32)}
    with pytest.raises(ModelError, match="'y' of its output is used twice"):
        read(model_of([relu("x", "y"), relu("x", "y")]))
    with pytest.raises(ModelError, match="'x' of its output is used twice"):
        read(model_of([relu("x", "x")], outputs=["x"]))
    with pytest.raises(ModelError, match="'w' of its output is used twice"):
        read(model_of([relu("x", "w")], outputs=["w"], initializers=weights))
    model = model_of([relu("x", "y")], initializers=weights)
    model.graph.initializer.append(model.graph.initializer[0])
    with pytest.raises(ModelError, match="two initializers have the name 'w'"):
        read(model)
    model = model_of([relu("x", "y")])
    model.graph.input.append(model.graph.input[0])
    with pytest.raises(ModelError, match="two inputs have the name 'x'"):
        read(model)
    with pytest.raises(ModelError, match="two outputs of the graph"):
        read(model_of([relu("x", "y")], outputs=["y", "y"]))


def test_names_that_are_missing():
    model = model_of([relu("x", "y")])
    model.graph.input.append(helper.make_tensor_value_info("", FLOAT, [1]))
    with pytest.raises(ModelError, match="an input has no name"):
        read(model)
    model = model_of([relu("x", "y")])
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32)))
    with pytest.raises(ModelError, match="an initializer has no name"):
        read(model)
    with pytest.raises(ModelError, match="no outputs"):
        read(model_of([relu("x", "y")], outputs=[]))


def test_names_that_are_no_text():
    data = one_node("Relu", {"input_name": [3]}).SerializeToString()
    with pytest.raises(ModelError, match="which is not UTF-8 text"):
        read(data.replace(b"input_name", b"input_\xff\xfe\xfdm"))


def test_attributes_that_are_no_text():
    model = one_node("LSTM", {"x": [5, 1, 3], "w": [1, 8, 3], "r": [1, 8, 2]}, hidden_size=2, direction="forward")
    next(a for a in model.graph.node[0].attribute if a.name == "direction").s = b"\xff\xfe"
    with pytest.raises(ModelError, match="'direction' is not UTF-8 text"):
        read(model)


def test_an_attribute_given_twice():
    model = one_node("Softmax", axis=1)
    model.graph.node[0].attribute.append(model.graph.node[0].attribute[0])
    with pytest.raises(ModelError, match="two attributes 'axis'"):
        read(model)


def test_an_attribute_of_a_function_outside_any():
    model = one_node("Softmax", axis=1)
    model.graph.node[0].attribute[0].ref_attr_name = "other"
    with pytest.raises(ModelError, match="outside any function"):
        read(model)


def test_inputs_that_are_no_tensors():
    model = model_of([helper.make_node("SequenceLength", ["s"], ["y"])], {})
    model.graph.input.append(helper.make_tensor_sequence_value_info("s", FLOAT, None))
    assert str(read(model).inputs[0]) == "s: sequence of f32"
    model.graph.input[0].type.map_type.key_type = FLOAT
    with pytest.raises(UnsupportedError, match="input 's' is no tensor but map"):
        read(model)
    model.graph.input[0].ClearField("type")
    with pytest.raises(UnsupportedError, match="without a type"):
        read(model)


def test_inputs_without_or_with_unknown_element_type():
    model = one_node("Relu")
    model.graph.input[0].type.tensor_type.elem_type = 0
    with pytest.raises(ModelError, match="input 'x' has no element type"):
        read(model)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.COMPLEX64
    with pytest.raises(UnsupportedError, match="complex64"):
        read(model)


def initializer(**fields) -> onnx.ModelProto:
    model = model_of([], {})
    model.graph.initializer.append(TensorProto(name="y", **fields))
    return model


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data_type": FLOAT, "dims": [3, 4], "raw_data": bytes(40)}, r"40 bytes .* \[3, 4\] of f32 needs 48"),
        ({"data_type": FLOAT, "dims": [3], "float_data": [1, 2]}, "2 elements of data; its shape .* needs 3"),
        ({"data_type": FLOAT, "dims": [3]}, "0 elements of data"),
        ({"data_type": FLOAT, "dims": [-3], "raw_data": b""}, "negative dimension"),
        ({"data_type": FLOAT, "dims": [2**40, 2**40], "raw_data": b""}, "overflows"),
        ({"data_type": FLOAT, "dims": [2**40], "raw_data": b"1234"}, "4 bytes of data"),
        ({"data_type": FLOAT, "dims": [2**40, 2**40, 0], "raw_data": b""}, "overflows"),
        ({"data_type": 0, "dims": [1], "raw_data": b"1234"}, "no element type"),
        ({"data_type": 99, "dims": [1], "raw_data": b"1234"}, "element type 99"),
        ({"data_type": TensorProto.INT4, "dims": [3], "raw_data": b"1"}, "1 bytes .* of i4 needs 2"),
        ({"data_type": TensorProto.INT4, "dims": [3], "int32_data": [1]}, "1 packed bytes"),
        ({"data_type": TensorProto.STRING, "dims": [2], "string_data": [b"a"]}, "1 elements"),
        ({"data_type": TensorProto.STRING, "dims": [1], "string_data": [b"\xff"]}, "not UTF-8"),
        ({"data_type": TensorProto.COMPLEX64, "dims": [0]}, "complex64"),
    ],
)
def test_wrong_initializers(fields, message):
    with pytest.raises((ModelError, UnsupportedError), match=message):
        read(initializer(**fields))


def test_unused_initializers_are_checked_too():
    model = dense_model()
    model.graph.initializer.append(TensorProto(name="unused", data_type=FLOAT, dims=[7], raw_data=b"1234"))
    with pytest.raises(ModelError, match="initializer 'unused' has 4 bytes"):
        read(model)


def test_a_reshape_that_does_not_fit():
    shape = {"s": np.array([3, 5], np.int64)}
    with pytest.raises(ModelError, match="Reshape 'r'"):
        read(model_of([helper.make_node("Reshape", ["x", "s"], ["y"], name="r")], initializers=shape))


def test_a_shape_with_negative_extents():
    shape = {"s": np.array([3, -5], np.int64)}
    with pytest.raises(ModelError, match=r"ConstantOfShape 'c' .*\[3, -5\] must be a list of extents >= 0"):
        read(model_of([helper.make_node("ConstantOfShape", ["s"], ["y"], name="c")], {}, initializers=shape))


def convolutional_model() -> onnx.ModelProto:
    random = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["a", "s", "s", "s", "s"], ["b"], epsilon=1e-3),
        helper.make_node("Clip", ["b", "low", "high"], ["c"]),
        helper.make_node("Shape", ["c"], ["d"]),
        helper.make_node("Gather", ["d", "zero"], ["e"], axis=0),
        helper.make_node("Concat", ["e", "rest"], ["f"], axis=0),
        helper.make_node("Reshape", ["c", "f"], ["g"]),
        helper.make_node("Softmax", ["g"], ["y"], axis=-1),
    ]
    weights = {
        "w": random.standard_normal((4, 3, 3, 3), np.float32),
        "s": np.ones(4, np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
        "zero": np.array([0]),
        "rest": np.array([-1]),
    }
    return model_of(nodes, {"x": [1, 3, 8, 8]}, initializers=weights)


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """The data with a few bytes changed, removed or inserted."""
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 8])):
        at = int(random.integers(len(changed)))
        kind = random.integers(4)
        if kind == 0:
            del changed[at : at + int(random.integers(1, 8))]
        elif kind == 1:
            changed[at:at] = random.bytes(int(random.integers(1, 8)))
        else:
            changed[at] = int(random.integers(256))
    return bytes(changed)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_read_or_refused(seed):
    random = np.random.default_rng(seed)
    data = convolutional_model().SerializeToString()
    read(data)
    errors = []
    for _ in range(100):
        try:
            read(mutate(data, random))
        except Error as error:
            errors.append(str(error))
    assert 10 < len(errors) < 100
    assert not [text for text in errors if "cannot be read" in text]
