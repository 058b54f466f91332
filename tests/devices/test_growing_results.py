"""Results that are inputs of the next inference, as in decoding with a cache of keys and values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from support.judge import Net, check, onnx_runtime

import cpuruntime as ov


def decoder(share_shape: bool = False) -> onnx.ModelProto:
    """present = past with one more row; y = a product with all rows so far."""
    n = Net(opset=18)
    x, past = n.input(1, 8, name="x"), n.input("past", 8, name="past")
    new = n("MatMul", x, n.weights(8, 8))
    present = n("Add", past, new) if share_shape else n("Concat", past, new, axis=0)
    n.output(present, n("MatMul", x, n("Transpose", present, perm=[1, 0])))
    return n.model()


def steps(model: onnx.ModelProto, count: int) -> list[tuple[dict[str, np.ndarray], list[np.ndarray]]]:
    """The feeds and results of decoding by ONNX Runtime."""
    random, past, found = np.random.default_rng(0), np.ones((2, 8), np.float32), []
    for _ in range(count):
        feeds = {"x": random.standard_normal((1, 8)).astype(np.float32), "past": past}
        found.append((feeds, onnx_runtime(model, feeds)))
        past = found[-1][1][0]
    return found


@pytest.mark.parametrize("share_shape", [False, True])
@pytest.mark.parametrize("device", ["CPU", "REFERENCE"])
def test_results_are_bound_as_inputs(device: str, share_shape: bool) -> None:
    model = decoder(share_shape)
    request = ov.Core().compile_model(model, device).create_infer_request()
    past = np.ones((2, 8), np.float32)
    for feeds, wanted in steps(model, 40):
        found = request.infer({"x": feeds["x"], "past": past}, share_inputs=True, share_outputs=True)
        check([found[0].copy(), found[1].copy()], wanted, 1e-4)
        past = found[0]


def test_the_input_is_not_copied_and_stays_what_it_was() -> None:
    model = decoder()
    request = ov.Core().compile_model(model, "CPU").create_infer_request()
    found = request.infer({"x": np.ones((1, 8), np.float32), "past": np.ones((2, 8), np.float32)}, share_outputs=True)
    present = found[0]
    before = present.copy()
    found = request.infer({"x": np.ones((1, 8), np.float32), "past": present}, share_inputs=True, share_outputs=True)
    assert request.get_input_tensor(1).data.ctypes.data == present.ctypes.data
    assert not np.may_share_memory(found[0], present)
    np.testing.assert_array_equal(present, before)
    np.testing.assert_array_equal(found[0][:3], before)


def test_memory_of_growing_results_is_used_again() -> None:
    model = decoder()
    request = ov.Core().compile_model(model, "CPU").create_infer_request()
    past, places = np.ones((100, 8), np.float32), set()
    for _ in range(20):
        found = request.infer({"x": np.ones((1, 8), np.float32), "past": past}, share_inputs=True, share_outputs=True)
        past = found[0]
        places.add(past.ctypes.data)
    assert len(places) == 2


def test_tensors_are_bound_as_inputs() -> None:
    model = decoder()
    request = ov.Core().compile_model(model, "CPU").create_infer_request()
    request.set_tensor("past", ov.Tensor(np.ones((2, 8), np.float32), shared_memory=True))
    for feeds, wanted in steps(model, 10):
        request.set_tensor("x", ov.Tensor(feeds["x"], shared_memory=True))
        request.infer()
        results: list[Any] = [request.get_output_tensor(index) for index in range(2)]
        check([result.data.copy() for result in results], wanted, 1e-4)
        request.set_tensor("past", results[0])


def test_a_part_of_a_result_is_an_input() -> None:
    request = ov.Core().compile_model(decoder(), "CPU").create_infer_request()
    feeds = {"x": np.ones((1, 8), np.float32), "past": np.arange(32, dtype=np.float32).reshape(4, 8)}
    first = request.infer(feeds, share_outputs=True)[0]
    expected = first.copy()
    for end in (2, 3, 4):
        part = first[1:end]
        found = request.infer({"past": part}, share_inputs=True, share_outputs=True)[0]
        np.testing.assert_array_equal(found[: end - 1], expected[1:end])
        np.testing.assert_array_equal(first, expected)


def test_a_result_that_stays_an_input_is_not_written_to() -> None:
    n = Net(opset=18)
    past, constant = n.input("past", 8, name="past"), n.input("rows", 8, name="constant")
    n.output(n("Concat", past, past, axis=0), n("Neg", constant))
    request = ov.Core().compile_model(n.model(), "CPU").create_infer_request()
    past, first = np.ones((1, 8), np.float32), np.ones((3, 8), np.float32)
    past, negative = request.infer({"past": past, "constant": first}, share_outputs=True).to_tuple()
    places = set()
    for step in range(2, 6):
        found = request.infer({"past": past, "constant": negative}, share_inputs=True, share_outputs=True)
        past, positive = found.to_tuple()
        np.testing.assert_array_equal(past, np.ones((2**step, 8), np.float32))
        np.testing.assert_array_equal(negative, -first)
        np.testing.assert_array_equal(positive, first)
        places.add(positive.ctypes.data)
    assert len(places) == 1


def test_strings_of_dynamic_shape_are_the_next_input() -> None:
    n = Net(opset=18)
    text = n.input("n", dtype=np.dtype(object), name="text")
    n.output(n("Concat", text, text, axis=0), n("Identity", text))
    request = ov.Core().compile_model(n.model(), "CPU").create_infer_request()
    same = np.array(["a", "b"], object)
    for _ in range(3):
        found = request.infer({"text": same}, share_inputs=True, share_outputs=True)
        assert found[0].tolist() == ["a", "b", "a", "b"]
        same = found[1]
        assert same.tolist() == ["a", "b"]
