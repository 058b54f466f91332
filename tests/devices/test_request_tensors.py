"""Infer requests: inputs of every kind, outputs, tensors, dynamic shapes."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper
from support.onnx_models import one_input, two_inputs

import cpuruntime as ov
from cpuruntime import InvalidArgumentError, Tensor, Type
from cpuruntime.api.request.conversion import to_array
from cpuruntime.devices.ports import PortInfo

X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)
Y = np.ones((2, 3), np.float32)


@pytest.fixture
def request_of_two() -> ov.InferRequest:
    """sum = x + y, result = relu(sum)."""
    return ov.Core().compile_model(two_inputs(), "REFERENCE").create_infer_request()


@pytest.fixture
def dynamic() -> ov.InferRequest:
    """sum = x + y, result = relu(sum), all [?,3]."""
    return ov.Core().compile_model(two_inputs(["n", 3]), "REFERENCE").create_infer_request()


def of_types(node: NodeProto, x: int, y: int, length: int) -> ModelProto:
    """One node with input x and output y of these element types."""
    ports = [helper.make_tensor_value_info(name, kind, [length]) for name, kind in (("x", x), ("y", y))]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


class Torch:
    """An array that is not NumPy's, as torch's tensors are."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array


# Inputs


@pytest.mark.parametrize(
    "inputs",
    [
        {"x": X, "y": Y},
        {0: X, 1: Y},
        {"x": X, 1: Y},
        [X, Y],
        (X, Y),
        {"x": Tensor(X), "y": Tensor(Y, shared_memory=True)},
        [np.asfortranarray(X), Y],
        [X.tolist(), Y.tolist()],
        [X.astype(int).tolist(), Y],
        [Torch(X), Torch(Y)],
    ],
)
@pytest.mark.parametrize("share", [False, True])
def test_inputs_are_taken_in_many_forms(request_of_two: ov.InferRequest, inputs: Any, share: bool) -> None:
    for _ in range(2):
        np.testing.assert_array_equal(request_of_two.infer(inputs, share_inputs=share)["sum"], X + 1)
    request_of_two.start_async(inputs, share_inputs=share)
    request_of_two.wait()
    np.testing.assert_array_equal(request_of_two.results["sum"], X + 1)


def test_inputs_by_port_of_the_compiled_model_and_of_the_model() -> None:
    model = ov.Core().read_model(two_inputs())
    compiled = ov.Core().compile_model(model, "REFERENCE")
    for x, y in ((compiled.input(0), compiled.input("y")), (model.input(0), model.input(1))):
        found = compiled({x: X, y: Y})
        np.testing.assert_array_equal(found[model.output("sum")], X + 1)
    assert compiled.create_infer_request().get_tensor(model.input(0)).shape == [2, 3]


def test_the_only_input_needs_no_name() -> None:
    compiled = ov.Core().compile_model(one_input(), "REFERENCE")
    for inputs in (X, X.tolist(), [X], Tensor(X), tuple(X.tolist())):
        np.testing.assert_array_equal(compiled(inputs)[0], -X)


def test_scalars_fit_inputs_of_one_element() -> None:
    compiled = ov.Core().compile_model(one_input([1, 1]), "REFERENCE")
    for inputs in (2, 2.0, np.float64(2), np.float32(2), np.array(2, np.float32)):
        assert compiled(inputs)[0].tolist() == [[-2]]


def test_inputs_that_are_not_mentioned_keep_their_data(request_of_two: ov.InferRequest) -> None:
    request_of_two.infer([X, Y])
    np.testing.assert_array_equal(request_of_two.infer({"y": 2 * Y})["sum"], X + 2)
    np.testing.assert_array_equal(request_of_two.infer()["sum"], X + 2)
    np.testing.assert_array_equal(request_of_two.infer({})["sum"], X + 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"q": X}, "Port for tensor name q was not found. The model has: 'x', 'y'."),
        ({"sum": X}, "Port for tensor name sum was not found"),
        ({2: X}, "No input has index 2: indexes go from 0 to 1"),
        ({1.5: X}, "Incompatible key type for input: 1.5"),
        ([X, Y, X], "3 inputs given; the model has 2"),
        (X, "Which input?"),
        ("x", "Which input?"),
        ({"x": X.astype(np.complex64)}, "Input 'x': values of type complex64 do not fit float32 (f32)"),
        ({"x": np.full((2, 3), None)}, "Input 'x': values of type object do not fit float32 (f32)"),
        ({"x": X[:1]}, "Input 'x': shape [1,3] given, [2,3] needed"),
        ({"x": X.reshape(3, 2)}, "Input 'x': shape [3,2] given, [2,3] needed"),
        ({"x": X[0]}, "Input 'x': shape [3] given"),
        ({"x": 1.0}, "Input 'x': shape [] given"),
        ({"x": [[1.0], [2.0, 3.0]]}, "Input 'x': list is no array"),
        ({"x": [["a"] * 3] * 2}, "do not fit float32 (f32)"),
        ({"x": None}, "Input 'x': no value given (None)"),
        ({"x": object()}, "Input 'x': object is no array"),
        ({"x": {1, 2}}, "Input 'x': set is no array"),
        ({"x": Tensor(X.astype(np.int32))}, "Input 'x': a tensor of type i32 given, f32 needed"),
        ({"x": Tensor(X[:1])}, "Input 'x': shape [1,3] given"),
    ],
)
def test_wrong_inputs_are_refused_at_once(request_of_two: ov.InferRequest, inputs: Any, message: str) -> None:
    request_of_two.infer([X, Y])
    for call in (
        request_of_two.infer,
        request_of_two.start_async,
        lambda given: request_of_two.infer(given, share_inputs=True),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            call(inputs)
        assert message in str(caught.value)
    request_of_two.wait()
    np.testing.assert_array_equal(request_of_two.infer([X, Y])["sum"], X + 1)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4", "i1", "i4", "i8", "u1", "u2", "?", "O", "U1"])
@pytest.mark.parametrize("wrap", [np.asarray, Torch])
def test_arrays_of_another_dtype_are_converted(request_of_two: ov.InferRequest, kind: str, wrap: Any) -> None:
    given = np.array([[0, 1, 2], [3, 4, 5]]).astype(kind)
    for share in (False, True):
        found = request_of_two.infer([wrap(given), Y], share_inputs=share)["sum"]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, given.astype(np.float32) + 1)


@pytest.mark.parametrize(
    ("element_type", "given", "expected"),
    [
        (Type.u8, [3.0], 3),
        (Type.u8, np.array([255], np.int64), 255),
        (Type.u8, [300], None),
        (Type.u8, [-1], None),
        (Type.u8, np.array([256.0]), None),
        (Type.u8, [math.nan], None),
        (Type.u8, np.array([300], object), None),
        (Type.u8, ["7"], 7),
        (Type.i64, [math.inf], None),
        (Type.i64, np.array([2**63], np.uint64), None),
        (Type.i64, np.array([2.0**63]), None),
        (Type.i64, np.array([2**62 + 1], object), 2**62 + 1),
        (Type.i32, np.array([3], ml_dtypes.int4), 3),
        (Type.i32, np.array([3], ml_dtypes.bfloat16), 3),
        (Type.u4, np.array([15]), 15),
        (Type.u4, np.array([16]), None),
        (Type.boolean, np.array([2.5]), True),
        (Type.boolean, [0], False),
        (Type.f16, np.array([1e9]), math.inf),
        (Type.bf16, np.array([1.5], np.float16), 1.5),
        (Type.f32, [1j], None),
    ],
)
def test_values_are_converted_where_the_type_holds_them(element_type: Type, given: Any, expected: Any) -> None:
    port = PortInfo("x", element_type, ov.PartialShape([1]))
    if expected is not None:
        assert to_array(given, port).tolist() == [expected]
        return
    name = element_type.get_type_name()
    with pytest.raises(InvalidArgumentError, match=rf"do not fit {element_type.to_dtype()} \({name}\)"):
        to_array(given, port)


def test_fractions_are_cut_off_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    port = PortInfo("an input that no other test has", Type.i64, ov.PartialShape([2]))
    for _ in range(2):
        assert to_array(np.array([1.5, -1.5]), port).tolist() == [1, -1]
    assert [record.message for record in caplog.records] == [
        "Input 'an input that no other test has': fractions of float64 values are cut off for int64"
    ]


def test_kinds_of_arguments_that_are_not_taken_are_type_errors(request_of_two: ov.InferRequest) -> None:
    request, compiled = request_of_two, request_of_two.get_compiled_model()
    for call in (
        lambda: request.infer({0.0: X}),
        lambda: request.infer({(1,): X}),
        lambda: request.infer({"x": None}),
        lambda: request.infer({"x": object()}),
        lambda: request.get_tensor(0),
        lambda: request.set_tensor("x", X),
        lambda: request.results[None],
        lambda: request.results[0.5],
        lambda: compiled.input(1.0),
    ):
        with pytest.raises(TypeError):
            call()
    for far in (lambda: compiled.input(5), lambda: request.get_input_tensor(5)):
        with pytest.raises(IndexError, match="indexes go from 0 to 1"):
            far()


def test_copied_inputs_may_change_and_shared_ones_are_read_again(request_of_two: ov.InferRequest) -> None:
    x = X.copy()
    request_of_two.infer([x, Y])
    x += 1
    np.testing.assert_array_equal(request_of_two.infer()["sum"], X + 1)
    request_of_two.infer([x, Y], share_inputs=True)
    x += 1
    np.testing.assert_array_equal(request_of_two.infer()["sum"], X + 3)


def test_copying_never_writes_into_memory_that_was_shared_before(request_of_two: ov.InferRequest) -> None:
    x = X.copy()
    request_of_two.infer([x, Y], share_inputs=True)
    request_of_two.infer([5 * Y, Y])
    np.testing.assert_array_equal(x, X)
    output = np.zeros_like(X)
    request_of_two.set_tensor("sum", Tensor(output, shared_memory=True))
    request_of_two.infer([output, Y], share_inputs=True)
    request_of_two.set_tensor("sum", Tensor(Type.f32, [2, 3]))
    request_of_two.infer([5 * Y, Y])
    np.testing.assert_array_equal(output, Y)


@pytest.mark.parametrize("bind", [lambda r, t: r.set_tensor("x", t), lambda r, t: r.infer([t, Y])])
def test_copying_fills_the_tensor_that_was_set_and_it_stays_bound(request_of_two: ov.InferRequest, bind: Any) -> None:
    tensor = Tensor(X)
    bind(request_of_two, tensor)
    np.testing.assert_array_equal(request_of_two.infer([5 * Y, Y])["sum"], 6 * Y)
    np.testing.assert_array_equal(tensor.data, 5 * Y)
    tensor.data[...] = 8
    np.testing.assert_array_equal(request_of_two.infer()["sum"], 9 * Y)
    assert request_of_two.get_tensor("x") is tensor


def test_copying_leaves_a_read_only_tensor_alone(request_of_two: ov.InferRequest) -> None:
    frozen = X.copy()
    frozen.flags.writeable = False
    request_of_two.set_tensor("x", Tensor(frozen, shared_memory=True))
    np.testing.assert_array_equal(request_of_two.infer([5 * Y, Y])["sum"], 6 * Y)
    np.testing.assert_array_equal(frozen, X)


# Outputs


def test_results_are_copies_unless_they_are_to_be_shared(request_of_two: ov.InferRequest) -> None:
    copied = request_of_two.infer([X, Y])
    shared = request_of_two.infer([X, Y], share_outputs=True)
    request_of_two.infer([5 * Y, Y])
    np.testing.assert_array_equal(copied["sum"], X + 1)
    np.testing.assert_array_equal(shared["sum"], 6 * Y)
    assert np.shares_memory(shared["sum"], request_of_two.get_tensor("sum").data)
    kept = request_of_two.results["sum"]
    request_of_two.infer([X, Y])
    np.testing.assert_array_equal(kept, 6 * Y)


def test_results_are_a_mapping(request_of_two: ov.InferRequest) -> None:
    results = request_of_two.infer([X, Y])
    ports = request_of_two.model_outputs
    assert list(results) == list(results.keys()) == ports
    assert len(results) == 2
    assert results.names() == ({"sum"}, {"result"})
    assert [array is results[index] for index, array in enumerate(results.values())] == [True, True]
    assert results.to_tuple()[1] is results.to_dict()[ports[1]] is dict(results.items())[ports[1]]
    assert ports[0] in results
    assert "sum" in results
    assert results.get("q") is None
    assert repr(results).startswith("{<ConstOutput: names[sum] shape[2,3] type: f32>: array(")
    for key in ("q", 2, -3):
        with pytest.raises(KeyError):
            results[key]
    with pytest.raises(KeyError, match="Did you mean 'result'"):
        results["resutl"]


def test_elements_narrower_than_a_byte_may_come_packed(device: str) -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    request = ov.compile_model(of_types(node, TensorProto.INT4, TensorProto.FLOAT, 3), device).create_infer_request()
    memory = np.array([0xF1, 0x08], np.uint8)
    tensor = Tensor(memory, [3], Type.i4)
    request.set_input_tensor(tensor)
    assert request.infer()[0].tolist() == [1, -1, -8]
    memory[0] = 0x23
    assert request.infer()[0].tolist() == [3, 2, -8]
    assert request.infer(np.array([1, 2, 3]))[0].tolist() == [1, 2, 3]
    assert memory.tolist() == [0x23, 8]


def test_strings_are_decoded_or_not(device: str) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    compiled = ov.compile_model(of_types(node, TensorProto.STRING, TensorProto.STRING, 2), device)
    request = compiled.create_infer_request()
    for given in (np.array(["ä", "b"]), ["ä", "b"], np.array(["ä", "b"], object), Tensor(["ä", "b"])):
        found = [request.infer(given)[0], request.results[0], compiled(given)[0], request.infer(given, False, True)[0]]
        assert [(one.dtype.kind, one.tolist()) for one in found] == [("U", ["ä", "b"])] * 4
        assert request.infer(decode_strings=False)[0].tolist() == ["ä".encode(), b"b"]
        assert request.get_output_tensor().str_data.tolist() == ["ä", "b"]
    with pytest.raises(InvalidArgumentError, match="holds str or bytes, not int"):
        request.infer(np.array([1, 2], object))


# Tensors


def test_tensors_are_refused_that_do_not_fit(request_of_two: ov.InferRequest) -> None:
    wrong = [
        (Tensor(Type.i32, [2, 3]), "tensor of type i32 given, f32 needed"),
        (Tensor(Type.f32, [3, 2]), r"shape \[3,2\] given, \[2,3\] needed"),
        (X, "a Tensor is needed, not ndarray"),
    ]
    for tensor, message in wrong:
        for name in ("x", "sum"):
            with pytest.raises(InvalidArgumentError, match=message):
                request_of_two.set_tensor(name, tensor)
    frozen = X.copy()
    frozen.flags.writeable = False
    with pytest.raises(InvalidArgumentError, match="read only"):
        request_of_two.set_tensor("sum", Tensor(frozen, shared_memory=True))
    with pytest.raises(InvalidArgumentError, match="not contiguous"):
        request_of_two.set_tensor("sum", Tensor(Tensor(Type.f32, [2, 4]), [0, 0], [2, 3]))


def test_tensors_are_found_by_name_port_and_index(request_of_two: ov.InferRequest) -> None:
    request = request_of_two
    tensor = Tensor(X)
    request.set_tensors({"x": tensor, request.model_inputs[1]: Tensor(Y)})
    assert request.get_tensor("x") is request.get_input_tensor(0) is request.input_tensors[0] is tensor
    request.set_input_tensors({0: Tensor(Y), "y": Tensor(Y)})
    request.set_output_tensors({1: tensor})
    request.infer()
    assert tensor.data.tolist() == (2 * Y).tolist()
    request.set_input_tensor(tensor=Tensor(X), index=0)
    total = Tensor(Type.f32, [2, 3])
    request.set_output_tensor(0, total)
    request.infer()
    assert total.data.tolist() == (X + 1).tolist()
    for call in (
        lambda: request.get_tensor("q"),
        lambda: request.get_tensor(0),  # type: ignore[arg-type]
        lambda: request.get_input_tensor(),
        lambda: request.get_output_tensor(2),
        lambda: request.set_input_tensor(tensor),
        lambda: request.set_output_tensor(2, tensor),
    ):
        with pytest.raises(InvalidArgumentError):
            call()
    assert request.get_tensor(name="x") is request.get_tensor(port=request.model_inputs[0])
    request.set_tensor(name="x", tensor=tensor)
    request.set_tensor(port=request.model_inputs[1], tensor=Tensor(Y))
    assert request.get_tensor("x") is tensor
    assert (request.query_state(), request.reset_state()) == ([], None)
    with pytest.raises(TypeError):
        request.set_output_tensors([tensor])  # type: ignore[arg-type]


def test_a_part_of_a_tensor_is_an_input(request_of_two: ov.InferRequest) -> None:
    whole = Tensor(np.zeros((2, 4), np.float32))
    request_of_two.set_tensor("x", Tensor(whole, [0, 1], [2, 4]))
    whole.data[...] = 3
    np.testing.assert_array_equal(request_of_two.infer({"y": Y})["sum"], 4 * Y)
    whole.data[...] = 4
    np.testing.assert_array_equal(request_of_two.infer()["sum"], 5 * Y)
    np.testing.assert_array_equal(request_of_two.infer([X, Y])["sum"], X + 1)
    np.testing.assert_array_equal(request_of_two.infer()["sum"], X + 1)


def test_a_bound_tensor_that_takes_another_shape_is_noticed(request_of_two: ov.InferRequest) -> None:
    for name, others in (("x", {"y": Y}), ("sum", [X, Y])):
        tensor = Tensor(X)
        request_of_two.set_tensor(name, tensor)
        tensor.shape = [4, 4]
        with pytest.raises(InvalidArgumentError, match=r"shape \[4,4\] given, \[2,3\] needed"):
            request_of_two.infer(others)
        tensor.shape = [2, 3]
        request_of_two.infer(others)


def test_an_input_tensor_of_static_shape_keeps_it(request_of_two: ov.InferRequest) -> None:
    with pytest.raises(InvalidArgumentError, match=r"shape \[4,4\] given, \[2,3\] needed"):
        request_of_two.get_tensor("x").shape = [4, 4]
    with pytest.raises(InvalidArgumentError, match="shared memory"):
        request_of_two.get_tensor("sum").shape = [4, 4]


# Dynamic shapes


def test_dynamic_shapes_follow_the_inputs(dynamic: ov.InferRequest) -> None:
    assert dynamic.get_tensor("x").shape == dynamic.get_tensor("sum").shape == [0, 3]
    for rows in (2, 5, 2):
        array = np.ones((rows, 3), np.float32)
        for share in (False, True):
            assert dynamic.infer([array, array], share)["sum"].tolist() == [[2] * 3] * rows
            assert dynamic.get_tensor("sum").shape == [rows, 3]
            assert dynamic.results["result"].shape == (rows, 3)


def test_tensors_taken_early_follow_dynamic_shapes(dynamic: ov.InferRequest) -> None:
    inputs, output = dynamic.get_input_tensor(0), dynamic.get_output_tensor(0)
    for rows in (2, 5, 2):
        dynamic.infer([np.full((rows, 3), rows, np.float32), np.ones((rows, 3), np.float32)])
        assert output.data.tolist() == [[rows + 1] * 3] * rows
        assert inputs.data.tolist() == [[rows] * 3] * rows
    dynamic.start_async([np.ones((4, 3), np.float32)] * 2)
    dynamic.wait()
    assert output.shape == [4, 3]
    inputs.shape = [1, 3]
    inputs.data[...] = 7
    assert dynamic.infer({"y": Y[:1]})["sum"].tolist() == [[8] * 3] == output.data.tolist()


def test_copying_gives_a_bound_tensor_another_shape(dynamic: ov.InferRequest) -> None:
    tensor = Tensor(Type.f32, [1, 3])
    dynamic.set_tensor("x", tensor)
    assert dynamic.infer([X, Y])["sum"].tolist() == (X + 1).tolist()
    assert tensor.data.tolist() == X.tolist()


def test_a_dynamic_input_gets_memory_by_its_tensor_s_shape(dynamic: ov.InferRequest) -> None:
    for name in ("x", "y"):
        tensor = dynamic.get_tensor(name)
        tensor.shape = [4, 3]
        assert tensor.data.ctypes.data % 64 == 0
        tensor.data[...] = 2
    assert dynamic.infer()["sum"].tolist() == [[4] * 3] * 4
    with pytest.raises(InvalidArgumentError, match=r"shape \[4,4\] given, \[\?,3\] needed"):
        dynamic.get_tensor("x").shape = [4, 4]


def test_a_dynamic_input_needs_data(dynamic: ov.InferRequest) -> None:
    with pytest.raises(InvalidArgumentError, match="No data for the input of dynamic shape 'x', 'y'"):
        dynamic.infer()
    with pytest.raises(InvalidArgumentError, match="dynamic shape 'y'"):
        dynamic.start_async({"x": X})
    assert dynamic.infer({"y": Y})["sum"].shape == (2, 3)


def test_a_dynamic_input_keeps_its_rules(dynamic: ov.InferRequest) -> None:
    for wrong in (X[0], X[:, :2], X[None]):
        with pytest.raises(InvalidArgumentError, match=r"\[\?,3\] needed\.$"):
            dynamic.infer([wrong, Y])


def test_the_least_shape_of_a_bounded_input_is_assigned_as_any_other() -> None:
    model = ov.Core().read_model(one_input(["n", 3]))
    model.reshape([(2, 4), 3])
    with ov.Core().compile_model(model) as compiled:
        request = compiled.create_infer_request()
        tensor = request.get_input_tensor()
        assert tensor.shape == [0, 3]
        tensor.shape = [2, 3]
        tensor.data[:] = X
        assert request.infer()[0].tolist() == (-X).tolist()


def test_a_bound_tensor_takes_on_the_shape_of_a_dynamic_output(dynamic: ov.InferRequest) -> None:
    tensor = Tensor(Type.f32, [1, 3])
    dynamic.set_tensor("sum", tensor)
    dynamic.infer([X, Y])
    assert tensor.data.tolist() == (X + 1).tolist()
    assert dynamic.get_tensor("sum") is tensor
    dynamic.set_tensor("sum", Tensor(np.zeros((1, 3), np.float32), shared_memory=True))
    with pytest.raises(InvalidArgumentError, match="shared memory has 3"):
        dynamic.infer([X, Y])
    dynamic.start_async([X, Y])
    with pytest.raises(InvalidArgumentError, match="shared memory has 3"):
        dynamic.wait()


def test_a_bound_tensor_of_a_dynamic_input_may_change_its_shape(dynamic: ov.InferRequest) -> None:
    x = Tensor(Type.f32, [1, 3])
    dynamic.set_tensor("x", x)
    assert dynamic.infer({"y": Y[:1]})["sum"].shape == (1, 3)
    x.shape = [2, 3]
    x.data[...] = 8
    assert dynamic.infer({"y": Y})["sum"].tolist() == [[9] * 3] * 2
