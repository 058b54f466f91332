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
