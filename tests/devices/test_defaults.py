"""Initializers that a model lists as inputs: constants that an inference may give instead."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.judge import Net

import cpuruntime as ov


def model(ir_version: int = 8) -> onnx.ModelProto:
    """y = x * k + m, and a Reshape to a target: k, m and the target have defaults."""
    n = Net()
    x = n("Mul", n.input(2, 3, name="x"), n.constant([2, 2, 2]))
    n.output(n("Reshape", n("Add", x, n.constant([1, 1, 1])), n.integers(6)))
    made = n.model()
    made.ir_version = ir_version
    for name in ("c0", "c1"):
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]))
    made.graph.input.append(helper.make_tensor_value_info("c2", TensorProto.INT64, [1]))
    return made


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def floats(value: float) -> np.ndarray:
    return np.full(3, value, np.float32)


@pytest.mark.parametrize("device", ["CPU", "REFERENCE"])
def test_what_is_given_counts_for_one_inference(device: str) -> None:
    compiled = ov.Core().compile_model(model(), device)
    assert [port.any_name for port in compiled.inputs] == ["x"]
    request = compiled.create_infer_request()
    for infer in (compiled, request.infer):
        np.testing.assert_array_equal(infer({"x": X})[0], X.ravel() * 2 + 1)
        np.testing.assert_array_equal(infer({"x": X, "c0": floats(5)})[0], X.ravel() * 5 + 1)
        np.testing.assert_array_equal(infer({"c1": floats(7), "c0": floats(3)})[0], X.ravel() * 3 + 7)
        np.testing.assert_array_equal(infer({"x": X, "c2": np.array([-1])})["n2_Reshape_0"], X.ravel() * 2 + 1)
        np.testing.assert_array_equal(infer({compiled.input(): X})[0], X.ravel() * 2 + 1)
    kept = compiled({"x": X, "c0": floats(5)})[0]
    compiled({"x": X, "c0": floats(6)})
    np.testing.assert_array_equal(kept, X.ravel() * 5 + 1)


@pytest.mark.parametrize("device", ["CPU", "REFERENCE"])
def test_asynchronous_inferences_replace_constants(device: str) -> None:
    request = ov.Core().compile_model(model(), device).create_infer_request()
    seen: list[object] = []
    output = request.get_output_tensor()
    for given, scale in ((None, 2), (5, 5), (None, 2), (7, 7)):
        k = floats(given or 0)
        request.start_async({"x": X} if given is None else {"x": X, "c0": k})
        k[:] = 0  # it was copied
        request.wait()
        np.testing.assert_array_equal(request.results[0], X.ravel() * scale + 1)
        np.testing.assert_array_equal(output.data, X.ravel() * scale + 1)
        request.set_callback(lambda userdata: seen.append((userdata, request.results[0][1])), given)
    request.start_async({"c0": floats(3)}, userdata="last")
    request.wait()
    request.start_async()
    request.wait()
    assert seen == [(None, 6), (5, 3), (None, 8), ("last", 4), ("last", 3)]


@pytest.mark.parametrize("device", ["CPU", "REFERENCE"])
def test_a_queue_replaces_constants_of_single_inferences(device: str) -> None:
    queue = ov.AsyncInferQueue(ov.Core().compile_model(model(), device), 2)
    found = {}
    queue.set_callback(lambda request, number: found.update({number: request.results[0][1]}))
    for number in range(20):
        queue.start_async({"x": X} if number % 2 else {"x": X, "c0": floats(number)}, number)
    queue.wait_all()
    assert found == {number: 3 if number % 2 else number + 1 for number in range(20)}
    with pytest.raises(ov.InvalidArgumentError, match="name c9 "):
        queue.start_async({"x": X, "c9": floats(1)})
    with pytest.raises(ov.InvalidArgumentError, match="'c0'"):
        queue.start_async({"x": X, "c0": ["a", "b", "c"]})
    queue.set_callback(lambda request, number: None)
    for scale in (4, None):
        queue.start_async({"x": X} if scale is None else {"x": X, "c0": floats(scale)})
        queue.wait_all()
    assert queue.is_ready()


@pytest.mark.parametrize("device", ["CPU", "REFERENCE"])
def test_a_tensor_replaces_a_constant_until_it_is_taken_away(device: str) -> None:
    request = ov.Core().compile_model(model(), device).create_infer_request()
    np.testing.assert_array_equal(request.infer({"x": X})[0], X.ravel() * 2 + 1)
    k = floats(5)
    request.set_tensor("c0", ov.Tensor(k, shared_memory=True))
    request.set_tensors({"c1": ov.Tensor(floats(0))})
    assert request.get_tensor("c0").data is k or np.shares_memory(request.get_tensor("c0").data, k)
    np.testing.assert_array_equal(request.infer()[0], X.ravel() * 5)
    k[:] = 6
    np.testing.assert_array_equal(request.infer({"x": X + 1})[0], (X + 1).ravel() * 6)
    np.testing.assert_array_equal(request.infer({"x": X, "c0": floats(7)})[0], X.ravel() * 7)
    request.start_async()
    request.wait()
    np.testing.assert_array_equal(request.results[0], X.ravel() * 6)
    request.set_tensor("c1", None)
    np.testing.assert_array_equal(request.infer()[0], X.ravel() * 6 + 1)
    request.set_tensor("c0", None)
    np.testing.assert_array_equal(request.infer()[0], X.ravel() * 2 + 1)
    with pytest.raises(ov.InvalidArgumentError, match="'c0' is the model's constant"):
        request.get_tensor("c0")
    for tensor in (np.zeros(3, np.int64), np.zeros(4, np.float32)):
        with pytest.raises(ov.InvalidArgumentError, match="'c0'"):
            request.set_tensor("c0", ov.Tensor(tensor))
    with pytest.raises(ov.InvalidArgumentError, match="name c9 "):
        request.set_tensor("c9", ov.Tensor(floats(1)))
    with pytest.raises(TypeError, match="'c0'"):
        request.set_tensor("c0", floats(1))
    np.testing.assert_array_equal(request.infer()[0], X.ravel() * 2 + 1)


def test_results_go_to_the_tensors_that_were_set() -> None:
    request = ov.Core().compile_model(model(), "CPU").create_infer_request()
    memory = np.zeros(6, np.float32)
    request.set_output_tensor(ov.Tensor(memory, shared_memory=True))
    request.infer({"x": X, "c0": floats(5)})
    np.testing.assert_array_equal(memory, X.ravel() * 5 + 1)
    request.infer({"x": X, "c2": np.array([-1])})  # a target makes the output's shape unknown
    np.testing.assert_array_equal(memory, X.ravel() * 2 + 1)
    request.infer({"x": X, "c1": memory[:3]}, share_inputs=True)
    np.testing.assert_array_equal(memory, X.ravel() * 2 + np.tile([1, 3, 5], 2))


def test_a_constant_changes_a_shape() -> None:
    n = Net()
    n.output(n("Tile", n.input(2, name="x"), n.integers(2)))
    made = n.model()
    made.graph.input.append(helper.make_tensor_value_info("c0", TensorProto.INT64, [1]))
    request = ov.Core().compile_model(made, "CPU").create_infer_request()
    x = np.array([1, 2], np.float32)
    for _ in range(2):
        assert request.infer({"x": x})[0].tolist() == [1, 2, 1, 2]
        assert request.infer({"x": x, "c0": np.array([3])})[0].tolist() == [1, 2, 1, 2, 1, 2]
        request.start_async({"x": x, "c0": np.array([1])})
        request.wait()
        assert request.results[0].tolist() == request.get_output_tensor().data.tolist() == [1, 2]
    memory = np.zeros(4, np.float32)
    request.set_output_tensor(ov.Tensor(memory, shared_memory=True))
    with pytest.raises(ov.InvalidArgumentError, match=r"\[4\].*\[2\]"):
        request.infer({"x": x, "c0": np.array([1])})
    request.infer({"x": x})
    assert memory.tolist() == [1, 2, 1, 2]


def test_wrong_defaults_are_refused() -> None:
    compiled = ov.Core().compile_model(model(), "CPU")
    with pytest.raises(ov.InvalidArgumentError, match="'c0'"):
        compiled({"x": X, "c0": np.zeros(4, np.float32)})
    with pytest.raises(ov.InvalidArgumentError, match="name c9 "):
        compiled({"x": X, "c9": floats(1)})
    with ov.Core().compile_model(model(), "CPU") as closed:
        closed({"x": X, "c0": floats(5)})
    with pytest.raises(ov.errors.Error, match="released"):
        closed({"x": X, "c0": floats(5)})


def test_in_old_files_all_initializers_are_inputs_and_stay_constants() -> None:
    compiled = ov.Core().compile_model(model(ir_version=3), "CPU")
    with pytest.raises(ov.InvalidArgumentError, match="name c0 "):
        compiled({"x": X, "c0": floats(5)})
