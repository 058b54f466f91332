"""Models compiled with LATENCY_TARGET_MS: results, refusals, what the model tells, and that nothing is left behind."""

from __future__ import annotations

import os

import numpy as np
import pytest
from support.onnx_models import one_input
from support.stream_tasks import Gate

import cpuruntime as ov
from cpuruntime.devices.cpu.latency.model import LatencyTargetModel, LatencyTargetRequest
from cpuruntime.errors import InvalidArgumentError, OverloadedError
from cpuruntime.host.ledger import Ledger
from cpuruntime.testing.probes import (
    device_of,
    device_request_of,
    refuse_all,
    running_in,
    wait_over,
    waiting_in,
)

pytestmark = pytest.mark.usefixtures("ledger")

BOUND = {"PERFORMANCE_HINT": "THROUGHPUT", "LATENCY_TARGET_MS": 10_000}


@pytest.fixture
def compiled() -> ov.CompiledModel:
    return ov.compile_model(one_input(), "CPU", BOUND)


def device(model: ov.CompiledModel) -> LatencyTargetModel:
    found = device_of(model)
    assert isinstance(found, LatencyTargetModel)
    return found


def refuse(model: ov.CompiledModel) -> None:
    """As if one inference took longer than the target."""
    refuse_all(device(model).gate.admission)


def test_every_way_to_infer_gives_the_result(compiled: ov.CompiledModel) -> None:
    x = np.float32([[1, 2, 3], [4, 5, 6]])
    assert (compiled([x])[0] == -x).all()
    request = compiled.create_infer_request()
    assert (request.infer([x])[0] == -x).all()
    request.start_async([2 * x])
    request.wait()
    assert (request.get_output_tensor().data == -2 * x).all()
    queue = ov.AsyncInferQueue(compiled)
    results: list[float] = []
    queue.set_callback(lambda request, _: results.append(float(request.get_output_tensor().data[0, 0])))
    for index in range(200):
        queue.start_async([index * x])
    queue.wait_all()
    assert sorted(results) == sorted(float(-index) for index in range(200))
    assert device(compiled).gate.counts.on_time == 203


def test_each_setting_computes_in_the_same_memory(compiled: ov.CompiledModel) -> None:
    admission = device(compiled).gate.admission
    request = compiled.create_infer_request()
    own = ov.Tensor(np.zeros((2, 3), np.float32), shared_memory=True)
    request.set_input_tensor(ov.Tensor(np.full((2, 3), 4, np.float32), shared_memory=True))
    request.set_output_tensor(own)
    for index in range(len(admission.variants)):
        admission.active = index
        own.data[...] = 0
        request.infer()
        assert (own.data == -4).all()
        own.data[...] = 0
        request.start_async()
        request.wait()
        assert (own.data == -4).all()


def test_a_refused_inference_raises_at_once_and_leaves_the_request_idle(compiled: ov.CompiledModel) -> None:
    request = compiled.create_infer_request()
    admission = device(compiled).gate.admission
    before = [variant.service for variant in admission.variants]
    refuse(compiled)
    for call in (request.infer, request.start_async, compiled):
        with pytest.raises(OverloadedError, match=r"so LATENCY_TARGET_MS 10000 would be missed; \d+ refused so far"):
            call()
    for variant, service in zip(admission.variants, before):
        variant.service = service
    request.infer()
    assert device(compiled).gate.counts.refused == 3


def test_the_queue_of_requests_raises_too_and_goes_on(compiled: ov.CompiledModel) -> None:
    queue = ov.AsyncInferQueue(compiled)
    admission = device(compiled).gate.admission
    before = [variant.service for variant in admission.variants]
    refuse(compiled)
    with pytest.raises(OverloadedError):
        queue.start_async()
    for variant, service in zip(admission.variants, before):
        variant.service = service
    for _ in range(2 * len(queue)):
        queue.start_async()
    queue.wait_all()


@pytest.mark.parametrize("told", [False, True])
def test_one_that_the_queue_started_is_refused_later_and_others_go_on(told: bool) -> None:
    model = ov.compile_model(one_input(), "CPU", {**BOUND, "NUM_STREAMS": 1})
    admission = device(model).gate.admission
    queue = ov.AsyncInferQueue(model, 2)
    seen: list[str] = []
    if told:
        queue.set_callback(lambda _, tag: seen.append(tag), on_error=lambda _, tag: seen.append(f"refused {tag}"))
    gate = Gate(device(model).models[0].executor)
    queue.start_async(userdata="first")
    (ticket,) = waiting_in(admission)
    ticket.expected = ticket.arrived + 1  # as above
    target, admission.target = admission.target, 0
    gate.open()
    wait_over(queue[0])
    admission.target = target
    for _ in range(4):
        queue.start_async(userdata="later")
    if told:
        queue.wait_all()
        assert sorted(seen) == ["later"] * 4 + ["refused first"]
    else:
        with pytest.raises(OverloadedError, match="longer than expected"):
            queue.wait_all()
    queue.wait_all()
    assert (device(model).gate.counts.given_up, device(model).gate.counts.on_time) == (1, 4)


def test_one_whose_turn_comes_too_late_is_refused_then() -> None:
    model = ov.compile_model(one_input(), "CPU", {**BOUND, "NUM_STREAMS": 1})
    request = model.create_infer_request()
    admission = device(model).gate.admission
    gate = Gate(device(model).models[0].executor)
    request.start_async()
    (ticket,) = waiting_in(admission)
    ticket.expected = ticket.arrived + 1  # it does not know what keeps the stream
    admission.target = 0
    gate.open()
    with pytest.raises(OverloadedError, match="ms for a stream, longer than expected, and LATENCY_TARGET_MS 0 would"):
        request.wait()
    assert device(model).gate.counts.given_up == 1


def test_a_cancelled_inference_is_forgotten(compiled: ov.CompiledModel) -> None:
    requests = [compiled.create_infer_request() for _ in range(8)]
    for request in requests:
        request.start_async()
        request.cancel()
    for request in requests:
        try:
            request.wait()
        except ov.errors.CancelledError:
            continue
    assert (device(compiled).gate.admission.waiting, len(running_in(device(compiled).gate.admission))) == (0, 0)


def test_what_the_model_tells(compiled: ov.CompiledModel) -> None:
    assert compiled.get_property("LATENCY_TARGET_MS") == 10_000
    assert compiled.get_property("LATENCY_PERCENTILE") == 99
    assert compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") > 2
    active = device(compiled).gate.admission.active
    assert compiled.get_property("NUM_STREAMS") == device(compiled).gate.admission.variants[active].streams
    compiled()
    assert "latency target 10000 ms" in str(compiled.explain(measure=True))
    text = str(compiled.explain())
    assert "latency target 10000 ms: of " in text
    assert "1 on time, 0 late, 0 refused on arrival" in text  # those that measure do not count


def test_streams_that_are_asked_for_are_the_only_setting() -> None:
    model = ov.compile_model(one_input(), "CPU", {**BOUND, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})
    assert [(one.streams, one.threads) for one in device(model).gate.admission.variants] == [(1, 1)]
    model = ov.compile_model(one_input(), "CPU", {"LATENCY_TARGET_MS": 10_000, "PERFORMANCE_HINT": "LATENCY"})
    assert [one.streams for one in device(model).gate.admission.variants] == [1]


def test_dynamic_shapes_have_one_setting() -> None:
    model = ov.compile_model(one_input(("n", 3)), "CPU", BOUND)
    request = model.create_infer_request()
    for rows in (1, 5, 2):
        x = np.full((rows, 3), rows, np.float32)
        assert (request.infer([x])[0] == -x).all()
        request.start_async([x])
        request.wait()
        assert (request.get_output_tensor().data == -x).all()


def test_the_processors_are_leased_once_and_given_back() -> None:
    with ov.compile_model(one_input(), "CPU", BOUND) as model:
        model()
        (holder,) = Ledger().holders()
        assert set(holder.cpus) <= os.sched_getaffinity(0)
    assert Ledger().holders() == []


def test_a_model_with_a_target_has_the_properties_of_one_without(compiled: ov.CompiledModel) -> None:
    without = ov.compile_model(one_input(), "CPU")
    assert without.get_property("SUPPORTED_PROPERTIES") == compiled.get_property("SUPPORTED_PROPERTIES")
    for name in ("LATENCY_TARGET_MS", "LATENCY_PERCENTILE"):
        assert without.get_property(name) == ov.Core().get_property("CPU", name)
    assert (without.get_property("LATENCY_TARGET_MS"), compiled.get_property("LATENCY_TARGET_MS")) == (0, 10_000)


def test_bad_values_are_refused() -> None:
    for config in ({"LATENCY_TARGET_MS": -1}, {"LATENCY_TARGET_MS": "soon"}, {"LATENCY_TARGET_MS": float("nan")},
                   {"LATENCY_PERCENTILE": 100}, {"LATENCY_PERCENTILE": 10}, {"LATENCY_TARGET_MS": True}):  # fmt: skip
        with pytest.raises(InvalidArgumentError, match="is not a number >="):
            ov.compile_model(one_input(), "CPU", config)


def test_profiling(compiled: ov.CompiledModel) -> None:
    timed = ov.compile_model(one_input(), "CPU", {**BOUND, "PERF_COUNT": True})
    request = timed.create_infer_request()
    request.infer()
    assert [row.node_type for row in request.profiling_info if row.status.name == "EXECUTED"] == ["Neg"]
    assert isinstance(device_request_of(request), LatencyTargetRequest)
