"""Inferences in one compiled step: what is unchanged since the last one runs again, and nothing else does."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.onnx_models import one_input, two_inputs

import cpuruntime as ov
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.testing.probes import again_of, bindings_of, device_request_of, is_interpreter_known, make_quick

X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)


def negated(array: np.ndarray) -> list[list[float]]:
    return (-array).tolist()


@pytest.fixture
def request_(monkeypatch: pytest.MonkeyPatch) -> ov.InferRequest:
    """A request with an array bound to it, of which no inference may go by its device any more."""
    compiled = ov.compile_model(one_input(), "CPU", {"NUM_STREAMS": 1})
    request = compiled.create_infer_request()
    request.infer(X)
    request.infer()
    make_quick(request)
    assert again_of(request) is not None
    return request


def refuse(*arguments: object) -> None:
    raise AssertionError("the device was asked")


@pytest.fixture
def alone(request_: ov.InferRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ov.InferRequest]:
    """The request, once more quick, so that a slow moment of the machine does not matter."""
    monkeypatch.setattr(CpuRequest, "run", refuse)
    monkeypatch.setattr(CpuRequest, "start", refuse)

    def get() -> ov.InferRequest:
        make_quick(request_)
        return request_

    return get


def test_what_is_bound_is_inferred_again(alone: Callable[[], ov.InferRequest]) -> None:
    assert alone().infer()[0].tolist() == negated(X)
    alone().get_input_tensor().data[...] = 2 * X
    assert alone().infer()[0].tolist() == negated(2 * X)
    assert alone().infer(share_outputs=True)[0] is alone().get_output_tensor().data
    assert alone().latency > 0
    assert alone().latency_anatomy.total == pytest.approx(alone().latency)
    assert alone().wait_for(0)


def test_an_array_is_copied(alone: Callable[[], ov.InferRequest]) -> None:
    results = [alone().infer(factor * X) for factor in range(3)]
    assert [result[0].tolist() for result in results] == [negated(factor * X) for factor in range(3)]
    assert alone().get_input_tensor().data.tolist() == (2 * X).tolist()
    own = alone().get_input_tensor().data
    assert alone().infer(own)[0].tolist() == alone().infer(own, True)[0].tolist() == negated(2 * X)


def test_it_starts_and_is_over(alone: Callable[[], ov.InferRequest]) -> None:
    alone().start_async(-X, userdata=7)
    request = alone()
    assert request.userdata == 7
    assert not request.is_busy()
    request.wait()
    assert request.results[0].tolist() == negated(-X)


def test_what_an_old_error_left_is_gone(request_: ov.InferRequest) -> None:
    request_.start_async(deadline_ms=1e-6)
    with pytest.raises(ov.DeadlineExceededError):
        request_.wait()
    make_quick(request_)
    request_.infer()
    request_.wait()


def refused(request: ov.InferRequest, inputs: Any, *options: Any) -> str:
    """The error of an inference, or its result."""
    try:
        return str(request.infer(inputs, *options)[0].tolist())
    except (ov.InvalidArgumentError, TypeError) as error:
        return f"{type(error)} {error}"


@pytest.mark.parametrize(
    "inputs",
    [X[:1], X[0], X.astype(np.float64), X.astype(">f4"), np.asfortranarray(X), X[:, ::-1], [X], {0: X}, {"x": -X},
     X.tolist(), ov.Tensor(X), X[None], {3: X}, "text", X.view(np.int32), np.ma.masked_array(X)],
    ids=range(16),
)  # fmt: skip
@pytest.mark.parametrize("shares", [False, True])
def test_everything_else_is_as_ever(request_: ov.InferRequest, inputs: Any, shares: bool) -> None:
    other = ov.compile_model(one_input(), "CPU", {"NUM_STREAMS": 1}).create_infer_request()
    expected = refused(other, inputs, shares)
    make_quick(request_)
    assert refused(request_, inputs, shares) == expected
    request_.set_input_tensor(ov.Tensor(X))
    assert refused(request_, None, shares, 1) == str(negated(X))


def test_an_array_that_is_another_now_is_looked_at(request_: ov.InferRequest) -> None:
    array = X.copy()
    request_.infer(array, share_inputs=True)
    request_.infer(array, share_inputs=True)
    make_quick(request_)
    array[...] = 5
    assert request_.infer(array, share_inputs=True)[0].tolist() == negated(array)
    array.shape = (3, 2)
    with pytest.raises(ov.InvalidArgumentError, match=r"shape \[3,2\] given"):
        request_.infer(array, share_inputs=True)


def test_several_inputs_and_outputs() -> None:
    compiled = ov.compile_model(two_inputs((4,)), "CPU", {"NUM_STREAMS": 1})
    request = compiled.create_infer_request()
    arrays = [np.full(4, number, np.float32) for number in (1, 2)]
    expected = [array.tolist() for array in request.infer(arrays).values()]
    for _ in range(2):
        request.infer(arrays)
        make_quick(request)
        assert [array.tolist() for array in request.infer().values()] == expected


def test_references_are_counted(alone: Callable[[], ov.InferRequest]) -> None:
    request, array = alone(), X.copy()
    held = [array, request.get_output_tensor().data, request.get_input_tensor().data, bindings_of(request).call.ports]
    held += [None, True, False, type(request.infer()), again_of(request)]

    def count() -> list[int]:
        gc.collect()
        return [sys.getrefcount(one) for one in held]

    calls: list[Callable[[], object]] = [
        lambda: alone().infer(), lambda: alone().infer(array), lambda: alone().infer(share_outputs=True),
        lambda: alone().start_async(array), lambda: again_of(alone())([], False, False),
    ]  # fmt: skip
    for call in calls:
        call()
        before = count()
        for _ in range(500):
            call()
        after = count()
        assert all(abs(b - a) < 50 for a, b in zip(before, after)), (before, after)


def test_results_and_inputs_are_freed(alone: Callable[[], ov.InferRequest]) -> None:
    array = X.copy()
    result = alone().infer(array)
    output = result[0]
    assert gc.is_tracked(result)
    dead = [weakref.ref(one) for one in (array, output)]
    del array, output, result
    assert [one() for one in dead] == [None, None]
    shared = alone().infer(share_outputs=True)[0]
    assert np.shares_memory(shared, alone().get_output_tensor().data)


def test_a_dropped_request_leaves_shared_results(request_: ov.InferRequest) -> None:
    make_quick(request_)
    function = again_of(request_)
    array = function(None, False, True)[0]
    copy = array.tolist()
    del request_
    gc.collect()
    assert function(None, False, True)[0].tolist() == copy  # it holds all that it works on


def test_a_closed_model_infers_no_more(request_: ov.InferRequest) -> None:
    with request_.get_compiled_model():
        pass
    make_quick(request_)
    for call in (request_.infer, request_.start_async):
        with pytest.raises(ov.Error, match="takes no more inferences"):
            call()


def test_a_busy_request_refuses_another_thread(request_: ov.InferRequest) -> None:
    results: list[Any] = []

    def infer() -> None:
        for number in range(300):
            try:
                results.append(request_.infer(np.full((2, 3), number, np.float32))[0])
            except ov.BusyError:
                results.append(None)

    threads = [threading.Thread(target=infer) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 900
    assert any(result is not None for result in results)
    assert all(np.unique(result).size == 1 for result in results if result is not None)


def test_a_queue_takes_its_requests_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = ov.compile_model(one_input(), "CPU", {"NUM_STREAMS": 1})
    queue = ov.AsyncInferQueue(compiled, 3)
    for request in queue:
        request.infer(X)
        request.infer()
        make_quick(request)
    monkeypatch.setattr(CpuRequest, "run", refuse)
    monkeypatch.setattr(CpuRequest, "start", refuse)
    for number in range(9):
        for request in queue:
            make_quick(request)
        assert queue.get_idle_request_id() == number % 3
        queue.start_async(number * X, number)
    assert queue.userdata == [6, 7, 8]
    queue.wait_all()
    assert [request.results[0].tolist() for request in queue] == [negated(number * X) for number in (6, 7, 8)]


def test_a_queue_with_a_callback_calls_it(request_: ov.InferRequest) -> None:
    compiled = request_.get_compiled_model()
    queue, called = ov.AsyncInferQueue(compiled, 2), []
    for request in queue:
        request.infer(X)
        request.infer()
        make_quick(request)
    queue.set_callback(lambda request, userdata: called.append(userdata))
    for number in range(20):
        queue.start_async(userdata=number)
    queue.wait_all()
    assert sorted(called) == [*range(20)]


def test_an_interpreter_without_the_lock_has_no_such_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_interpreter_known()
    monkeypatch.setattr(sys, "abiflags", "t")
    assert not is_interpreter_known()
    monkeypatch.undo()
    monkeypatch.setattr("cpuruntime.streams.again.interpreter", lambda: None)
    request = ov.compile_model(one_input(), "CPU", {"NUM_STREAMS": 1}).create_infer_request()
    for number in range(4):
        assert request.infer(number * X)[0].tolist() == negated(number * X)
        assert again_of(request) is None
    assert not device_request_of(request).is_in_flight
