"""Infer requests: the busy rule, waiting, callbacks, errors, cancelling."""

from __future__ import annotations

import re
import threading
from typing import Any

import numpy as np
import pytest
from support.fake_device import FakeModel, Gate, compile_fake
from support.onnx_models import one_input, two_inputs

import cpuruntime as ov
from cpuruntime import BusyError, CancelledError, InvalidArgumentError, Tensor, Type

Gated = tuple[ov.CompiledModel, FakeModel]

X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)
Y = np.ones((2, 3), np.float32)
ROW = np.arange(4, dtype=np.float32)[None]


def test_a_busy_request_refuses_everything_else(gated: Gated, gate: Gate) -> None:
    compiled, _ = gated
    request = compiled.create_infer_request()
    request.start_async(ROW)
    gate.wait_entered()
    tensor = Tensor(Type.f32, [1, 4])
    refused = [
        request.infer,
        request.start_async,
        lambda: request.infer(ROW),
        lambda: request.get_tensor("x"),
        lambda: request.get_input_tensor(),
        lambda: request.get_output_tensor(0),
        lambda: request.set_tensor("x", tensor),
        lambda: request.set_input_tensor(tensor),
        lambda: request.set_output_tensor(tensor),
        lambda: request.set_tensors({"x": tensor}),
        lambda: request.set_callback(print, None),
        lambda: request.input_tensors,
        lambda: request.output_tensors,
        lambda: request.results,
        lambda: request.profiling_info,
    ]
    for call in refused:
        with pytest.raises(BusyError, match="Infer Request is busy"):
            call()
    assert request.wait_for(0) is False
    assert request.latency == 0
    gate.open()
    request.wait()
    np.testing.assert_array_equal(request.results["y"], ROW)


def test_a_tensor_handed_out_cannot_be_resized_while_busy(gated: Gated, gate: Gate) -> None:
    request = gated[0].create_infer_request()
    tensor = request.get_input_tensor()
    request.start_async(ROW)
    gate.wait_entered()
    with pytest.raises(BusyError):
        tensor.shape = [2, 4]
    gate.open()
    request.wait()


def test_a_synchronous_inference_is_busy_too_and_can_be_waited_for(gated: Gated, gate: Gate) -> None:
    request = gated[0].create_infer_request()
    runner = threading.Thread(target=request.infer, args=(ROW,))
    runner.start()
    gate.wait_entered()
    with pytest.raises(BusyError):
        request.start_async()
    assert request.wait_for(0) is False
    waiter = threading.Thread(target=request.wait)
    waiter.start()
    gate.open()
    for thread in (waiter, runner):
        thread.join(30)
        assert not thread.is_alive()
    assert request.wait_for(0) is True


def test_waiting_for_what_was_never_started() -> None:
    request = compile_fake()[0].create_infer_request()
    request.wait()
    assert request.wait_for(1) is False
    assert request.latency == 0.0


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("-inf"), "5", b"5", None, True, [1, 2]])
@pytest.mark.parametrize("started", [False, True])
def test_timeouts_that_are_no_numbers(wrong: Any, started: bool) -> None:
    request = compile_fake()[0].create_infer_request()
    if started:
        request.start_async(ROW)
    text = f"timeout: {wrong!r} is not a finite number of milliseconds >= 0."
    with pytest.raises(InvalidArgumentError, match=f"^{re.escape(text)}$"):
        request.wait_for(wrong)
    request.wait()


@pytest.mark.parametrize("endless", [float("inf"), pytest.param(10**400, id="huge")])
def test_a_timeout_without_end(endless: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"is not a finite .* wait\(\) waits without a limit\.$"):
        compile_fake()[0].create_infer_request().wait_for(endless)


@pytest.mark.parametrize("timeout", [0, 1.5, np.float32(2), np.int64(3), 1.7e308])
def test_timeouts_that_are_numbers(compile_on: Any, timeout: Any) -> None:
    request = compile_on(one_input()).create_infer_request()
    assert request.wait_for(timeout) is False
    request.start_async()
    request.wait()
    assert request.wait_for(timeout) is True
    request.start_async()
    assert request.wait_for(max(timeout, 60_000)) is True


def test_waiting_in_several_threads(gated: Gated, gate: Gate) -> None:
    request = gated[0].create_infer_request()
    request.start_async(ROW)
    waiters = [threading.Thread(target=request.wait) for _ in range(4)]
    for thread in waiters:
        thread.start()
    gate.open()
    for thread in waiters:
        thread.join(30)
        assert not thread.is_alive()
    assert request.wait_for(30000) is True


def fail() -> None:
    raise ov.ModelError("Conv 'c' cannot.")


def test_an_error_surfaces_in_each_wait_until_the_next_start() -> None:
    compiled, model = compile_fake(fail)
    request = compiled.create_infer_request()
    with pytest.raises(ov.ModelError, match="Conv 'c' cannot"):
        request.infer(ROW)
    request.start_async(ROW)
    for _ in range(2):
        with pytest.raises(ov.ModelError, match="Conv 'c' cannot"):
            request.wait()
    with pytest.raises(ov.ModelError):
        request.wait_for(1000)
    model.work = lambda: None
    request.start_async(ROW)
    request.wait()
    request.infer(ROW)
    assert request.wait_for(0) is True


def test_an_error_of_start_leaves_the_request_idle() -> None:
    compiled, model = compile_fake()
    request = compiled.create_infer_request()
    request.infer(ROW)
    model.refusal = ov.Error("closed")
    with pytest.raises(ov.Error, match="closed"):
        request.start_async(ROW)
    model.refusal = None
    request.wait()
    request.start_async(ROW)
    request.wait()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError])
def test_an_interrupt_after_the_inference_was_queued_does_not_lose_it(
    gated: Gated, gate: Gate, kind: type[BaseException]
) -> None:
    compiled, model = gated
    request = compiled.create_infer_request()
    model.interrupt = kind()
    with pytest.raises(kind):
        request.start_async(ROW)
    with pytest.raises(BusyError):
        request.infer()
    gate.open()
    with pytest.raises(CancelledError):
        request.wait()
    model.interrupt = None
    gate.open(2)
    np.testing.assert_array_equal(request.infer(ROW)[0], ROW)


def test_an_interrupt_before_the_inference_was_queued_leaves_the_request_idle() -> None:
    compiled, model = compile_fake()
    request = compiled.create_infer_request()
    model.refusal = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        request.start_async(ROW)
    model.refusal = None
    request.wait()
    np.testing.assert_array_equal(request.infer(ROW)[0], ROW)


def test_cancelling(gated: Gated, gate: Gate) -> None:
    request = gated[0].create_infer_request()
    request.cancel()
    request.start_async(ROW)
    gate.wait_entered()
    request.cancel()
    gate.open()
    with pytest.raises(CancelledError, match="cancelled"):
        request.wait()
    gate.open()
    request.infer(ROW)


def test_a_cancelled_inference_calls_the_callback(gated: Gated, gate: Gate) -> None:
    request = gated[0].create_infer_request()
    seen: list[Any] = []
    request.set_callback(seen.append, "ended")
    request.start_async(ROW)
    request.cancel()
    gate.open()
    with pytest.raises(CancelledError):
        request.wait()
    assert seen == ["ended"]


def test_callbacks_are_for_start_async_and_see_an_idle_request() -> None:
    request = compile_fake()[0].create_infer_request()
    seen: list[Any] = []

    def callback(tag: Any) -> None:
        request.wait()
        seen.append((tag, request.wait_for(0), request.results[0].tolist(), request.userdata))

    request.set_callback(callback, "first")
    request.infer(ROW)
    assert seen == []
    request.start_async(2 * ROW)
    request.wait()
    request.start_async(ROW, "second")
    request.wait()
    assert seen == [("first", True, [[0, 2, 4, 6]], "first"), ("second", True, ROW.tolist(), "second")]
    for wrong in (None, 3):
        with pytest.raises(InvalidArgumentError, match="must be callable"):
            request.set_callback(wrong, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyError("mine"), SystemExit("mine")])
def test_what_a_callback_raises_surfaces_in_wait_with_its_type(error: BaseException) -> None:
    request = compile_fake()[0].create_infer_request()

    def callback(_: Any) -> None:
        raise error

    request.set_callback(callback, None)
    request.start_async(ROW)
    for _ in range(2):
        with pytest.raises(type(error), match="mine"):
            request.wait()
    np.testing.assert_array_equal(request.results[0], ROW)


def test_state_that_can_be_read() -> None:
    request = ov.Core().compile_model(two_inputs(), "REFERENCE").create_infer_request()
    assert request.userdata is None
    assert request.get_compiled_model().inputs == request.model_inputs
    assert [port.any_name for port in request.model_outputs] == ["sum", "result"]
    request.infer([X, Y])
    assert 0 < request.latency < 60_000
    for name, value in (("latency", 1), ("results", {}), ("model_inputs", [])):
        with pytest.raises(AttributeError):
            setattr(request, name, value)
    assert repr(request).startswith("<InferRequest:\ninputs[\n<ConstOutput: names[x] shape[2,3] type: f32>,")
