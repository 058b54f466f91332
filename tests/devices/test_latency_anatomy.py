"""Where the time of an inference went: parts that follow each other and make up the whole, however it was run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.fake_device import FakeModel, Gate, compile_fake
from support.onnx_models import chain, one_input
from support.stream_tasks import Gate as StreamGate

import cpuruntime as ov
from cpuruntime.api.request.latency import LatencyAnatomy
from cpuruntime.testing.probes import device_of

ROW = np.arange(4, dtype=np.float32)[None]
CLOSE = 0.005  # milliseconds


def parts(anatomy: LatencyAnatomy) -> list[float]:
    return [anatomy.queued, anatomy.bound, anatomy.executed, anatomy.called_back]


def infer(request: ov.InferRequest) -> None:
    request.infer()


def start_and_wait(request: ov.InferRequest) -> None:
    request.start_async()
    request.wait()


def with_callback(request: ov.InferRequest) -> None:
    request.set_callback(lambda _: time.sleep(0.001), None)
    start_and_wait(request)


@pytest.mark.parametrize("run", [infer, start_and_wait, with_callback])
@pytest.mark.parametrize("config", [{"NUM_STREAMS": 1}, {"NUM_STREAMS": 0}, {"PERF_COUNT": True}], ids=str)
def test_the_parts_make_up_the_whole(device: str, config: dict[str, Any], run: Callable[..., None]) -> None:
    request = ov.Core().compile_model(one_input(), device, config).create_infer_request()
    assert request.latency_anatomy == LatencyAnatomy()
    assert request.latency_anatomy.total == 0
    for _ in range(5):
        before = time.perf_counter_ns()
        run(request)
        whole = (time.perf_counter_ns() - before) / 1e6
        anatomy = request.latency_anatomy
        assert all(part >= 0 for part in parts(anatomy))
        assert anatomy.executed > 0
        assert abs(sum(parts(anatomy)) - anatomy.total) < CLOSE
        assert anatomy.total <= whole
        if run is infer:
            assert abs(anatomy.total - request.latency) < CLOSE
        else:
            assert abs(anatomy.total - anatomy.called_back - request.latency) < CLOSE
            assert (anatomy.called_back >= 1) == (run is with_callback)


def test_waiting_for_a_stream_is_told_apart() -> None:
    compiled = ov.Core().compile_model(one_input(), "CPU", {"NUM_STREAMS": 1})
    executor = device_of(compiled).executor
    requests = [compiled.create_infer_request() for _ in range(3)]
    requests[1].set_callback(lambda _: None, None)
    gate = StreamGate(executor)
    for request in requests:
        request.start_async()
    time.sleep(0.02)
    gate.open()
    for request in requests:
        request.wait()
        anatomy = request.latency_anatomy
        assert 20 <= anatomy.queued <= request.latency
        assert anatomy.bound + anatomy.executed < anatomy.queued


def test_a_cancelled_one_executed_for_as_long_as_it_ran() -> None:
    compiled = ov.Core().compile_model(chain(400, 512), "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})
    request = compiled.create_infer_request()
    request.start_async(deadline_ms=10)
    with pytest.raises(ov.DeadlineExceededError):
        request.wait()
    anatomy = request.latency_anatomy
    assert 0 < anatomy.executed <= request.latency
    assert anatomy.total == pytest.approx(request.latency)
    assert request.latency >= 10


def test_on_a_device_that_does_not_tell() -> None:
    request = compile_fake()[0].create_infer_request()
    start_and_wait(request)
    assert parts(request.latency_anatomy) == [0, 0, pytest.approx(request.latency), 0]


def test_while_it_runs(gated: tuple[ov.CompiledModel, FakeModel], gate: Gate) -> None:
    request = gated[0].create_infer_request()
    request.start_async(ROW)
    gate.wait_entered()
    with pytest.raises(ov.BusyError):
        _ = request.latency_anatomy
    gate.open()
    request.wait()


def test_in_the_callback() -> None:
    request = ov.Core().compile_model(one_input(), "CPU").create_infer_request()
    seen: list[LatencyAnatomy] = []
    request.set_callback(lambda _: seen.append(request.latency_anatomy), None)
    start_and_wait(request)
    after = request.latency_anatomy
    assert parts(seen[0])[:3] == parts(after)[:3]
    assert seen[0].called_back == 0 < after.called_back


def test_moments_that_never_came() -> None:
    millisecond = 10**6
    assert LatencyAnatomy.of(0, 0, 0, millisecond, 0) == LatencyAnatomy(0, 0, 1, 0)
    start = 100 * millisecond
    in_queue = LatencyAnatomy.of(start, start + 2 * millisecond, 50, start + 2 * millisecond, 0)
    assert in_queue == LatencyAnatomy(2, 0, 0, 0)
    never_began = LatencyAnatomy.of(start, 0, 50, start + 2 * millisecond, start + 3 * millisecond)
    assert never_began == LatencyAnatomy(0, 2, 0, 1)
    with pytest.raises(AttributeError):
        never_began.queued = 1  # type: ignore[misc]
