"""Priority and deadline of requests: what may be given, what it does on each device, and in which errors it ends."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from support.fake_device import FakeModel, Gate, compile_fake
from support.onnx_models import chain
from support.stream_tasks import Gate as StreamGate

import cpuruntime as ov
from cpuruntime import AsyncInferQueue, DeadlineExceededError, InvalidArgumentError
from cpuruntime.devices.interface import TERMS
from cpuruntime.properties import hint
from cpuruntime.streams import priorities
from cpuruntime.testing.probes import device_of, device_request_of

Gated = tuple[ov.CompiledModel, FakeModel]

ROW = np.arange(4, dtype=np.float32)[None]


@pytest.fixture(params=["request", "queue"])
def starter(request: pytest.FixtureRequest) -> Any:
    """start_async of a request and of a queue, on the fake device, and the fake request."""
    compiled, _ = compile_fake()
    if request.param == "request":
        one = compiled.create_infer_request()
        return one, one
    queue = AsyncInferQueue(compiled, 1)
    return queue, queue[0]


class TestValues:
    def test_none_are_the_usual_terms(self, starter: Any) -> None:
        start, request = starter
        start.start_async(ROW)
        assert device_request_of(request).terms is TERMS
        request.wait()
        start.start_async(ROW, priority=None, deadline_ms=None)
        assert device_request_of(request).terms is TERMS

    @pytest.mark.parametrize("priority", ["HIGH", "high", hint.Priority.HIGH])
    def test_priorities(self, starter: Any, priority: Any) -> None:
        start, request = starter
        start.start_async(ROW, priority=priority)
        assert device_request_of(request).terms.priority is hint.Priority.HIGH
        assert device_request_of(request).terms.deadline == 0

    @pytest.mark.parametrize("milliseconds", [5000, 5000.0, np.float32(5000), np.int64(5000)])
    def test_deadlines(self, starter: Any, milliseconds: Any) -> None:
        start, request = starter
        before = time.perf_counter_ns()
        start.start_async(ROW, deadline_ms=milliseconds)
        after = time.perf_counter_ns()
        assert device_request_of(request).terms.priority is hint.Priority.MEDIUM
        assert before <= device_request_of(request).terms.deadline - 5_000_000_000 <= after

    @pytest.mark.parametrize(
        ("wrong", "text"),
        [
            (dict(priority="URGENT"), "priority: 'URGENT' is not one of LOW, MEDIUM, HIGH"),
            (dict(priority="HIGHT"), "Did you mean 'HIGH'"),
            (dict(priority=2), "priority: 2 is not one of"),
            (dict(deadline_ms=0), "deadline_ms: 0 is not a finite number of milliseconds > 0.$"),
            (dict(deadline_ms=-1.5), "deadline_ms: -1.5 is not"),
            (dict(deadline_ms=float("nan")), "deadline_ms: nan is not"),
            (dict(deadline_ms=float("inf")), "deadline_ms: inf is not .* None means no deadline"),
            (dict(deadline_ms="5"), "deadline_ms: '5' is not"),
            (dict(deadline_ms=True), "deadline_ms: True is not"),
        ],
    )
    def test_wrong_ones_start_nothing(self, starter: Any, wrong: dict[str, Any], text: str) -> None:
        start, request = starter
        with pytest.raises(InvalidArgumentError, match=text):
            start.start_async(ROW, **wrong)
        assert not request.is_busy()
        start.start_async(ROW)
        request.wait()

    def test_the_error_is_a_timeout(self) -> None:
        assert issubclass(DeadlineExceededError, (ov.Error, TimeoutError))
        assert ov.DeadlineExceededError is DeadlineExceededError


@pytest.mark.parametrize("callback", [False, True])
def test_a_deadline_passes_while_the_inference_runs(device: str, callback: bool) -> None:
    compiled = ov.Core().compile_model(chain(60, 256), device, {"NUM_STREAMS": 1})
    request = compiled.create_infer_request()
    seen: list[Any] = []
    if callback:
        request.set_callback(seen.append, "told")
    request.start_async(deadline_ms=0.5)
    for _ in range(2):
        with pytest.raises(DeadlineExceededError, match="deadline passed"):
            request.wait()
    assert seen == ["told"] * callback
    x = np.ones((256, 256), np.float32)
    request.start_async(x, deadline_ms=60_000)
    request.wait()
    np.testing.assert_array_equal(request.results[0], x)
    request.infer(x)  # it has none


def test_those_that_wait_for_a_stream_end_before_it_is_free() -> None:
    compiled = ov.Core().compile_model(chain(400, 512), "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})
    running, quiet, told = (compiled.create_infer_request() for _ in range(3))
    called = threading.Event()
    told.set_callback(lambda _: called.set(), None)
    running.start_async()
    quiet.start_async(deadline_ms=2)
    told.start_async(deadline_ms=1)
    for request in (quiet, told):
        with pytest.raises(DeadlineExceededError, match="before it began"):
            request.wait()
        assert request.latency_anatomy.executed == request.latency_anatomy.bound == 0
        assert 0 < request.latency_anatomy.queued == request.latency
    assert called.is_set()
    assert running.is_busy()
    running.cancel()
    with pytest.raises(ov.CancelledError):
        running.wait()


def test_the_queue_hands_it_on_and_raises_it() -> None:
    compiled = ov.Core().compile_model(chain(60, 256), "CPU", {"NUM_STREAMS": 1})
    queue = AsyncInferQueue(compiled, 2)
    queue.start_async(deadline_ms=0.5)
    with pytest.raises(DeadlineExceededError):
        queue.wait_all()
    seen: list[int] = []
    queue.set_callback(lambda request, tag: seen.append(tag))
    queue.start_async(userdata=1, deadline_ms=0.5)
    with pytest.raises(DeadlineExceededError):
        queue.wait_all()
    queue.start_async(userdata=2, deadline_ms=60_000)
    queue.wait_all()
    assert seen == [2]


@pytest.mark.parametrize("callback", [False, True])
def test_a_deadline_that_passed_is_no_error_of_later_starts(callback: bool) -> None:
    compiled = ov.Core().compile_model(chain(2, 8), "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})
    queue = AsyncInferQueue(compiled, 2)
    seen: list[str] = []
    if callback:
        queue.set_callback(lambda request, tag: seen.append(tag))
    gate = StreamGate(device_of(compiled).executor)
    late = queue.get_idle_request_id()
    queue.start_async(userdata="late", deadline_ms=1)
    with pytest.raises(DeadlineExceededError, match="before it began"):
        queue[late].wait()
    gate.open()
    x = np.ones((8, 8), np.float32)
    for _ in range(5):
        index = queue.get_idle_request_id()
        queue.start_async(x, userdata="in time", deadline_ms=60_000)
        queue[index].wait()
        np.testing.assert_array_equal(queue[index].results[0], x)
    with pytest.raises(DeadlineExceededError, match="before it began"):
        queue.wait_all()
    assert seen == ["in time"] * 5 * callback


def test_a_deadline_passes_while_all_requests_of_a_queue_are_busy(gated: Gated, gate: Gate) -> None:
    queue = AsyncInferQueue(gated[0], 1)
    queue.start_async(ROW)
    gate.wait_entered()
    with pytest.raises(DeadlineExceededError, match="before a request was idle"):
        queue.start_async(ROW, deadline_ms=5)
    gate.open(2)
    queue.wait_all()
    queue.start_async(ROW, deadline_ms=60_000)
    queue.wait_all()


def test_the_same_on_quiet_requests() -> None:
    compiled = ov.Core().compile_model(chain(400, 512), "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})
    queue = AsyncInferQueue(compiled, 1)
    queue.start_async()
    with pytest.raises(DeadlineExceededError, match="before a request was idle"):
        queue.start_async(deadline_ms=5)
    queue[0].cancel()
    with pytest.raises(ov.CancelledError):
        queue.wait_all()


def test_urgent_requests_go_first() -> None:
    compiled = ov.Core().compile_model(chain(2, 8), "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})
    order: list[str] = []
    requests = {name: compiled.create_infer_request() for name in ("low", "medium", "late", "soon", "high")}
    for name, request in requests.items():
        request.set_callback(order.append, name)
    executor = device_of(compiled).executor
    gate = StreamGate(executor)
    requests["low"].start_async(priority="LOW")
    requests["medium"].start_async()
    requests["late"].start_async(deadline_ms=90_000)
    requests["soon"].start_async(deadline_ms=60_000)
    requests["high"].start_async(priority="HIGH")
    gate.open()
    for request in requests.values():
        request.wait()
    begun = sorted(requests, key=lambda name: device_request_of(requests[name]).moments()[1])  # type: ignore[index]
    assert begun == ["high", "soon", "late", "medium", "low"]
    assert sorted(order) == sorted(requests)


@pytest.mark.parametrize("priority", ["LOW", "MEDIUM", "HIGH"])
def test_the_priority_of_a_model(priority: str) -> None:
    core = ov.Core()
    compiled = core.compile_model(chain(2, 8), "CPU", {"MODEL_PRIORITY": priority, "NUM_STREAMS": 1})
    assert compiled.get_property("MODEL_PRIORITY") == priority
    assert priorities.live(["LOW", "MEDIUM", "HIGH"].index(priority)) >= 1
    x = np.ones((8, 8), np.float32)
    np.testing.assert_array_equal(compiled(x)[0], x)
    assert core.get_property("CPU", "MODEL_PRIORITY") == "MEDIUM"
    with pytest.raises(InvalidArgumentError, match="Did you mean 'HIGH'"):
        core.compile_model(chain(2, 8), "CPU", {"MODEL_PRIORITY": "HIHG"})
