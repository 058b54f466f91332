"""MULTI: one queue, several devices; nothing is lost when one of them fails."""

from __future__ import annotations

import gc
import heapq
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx.parser
import pytest

import cpuruntime as ov
from cpuruntime.devices.composed.members import Inference, Member, Worker
from cpuruntime.devices.composed.policies import RoundRobin, by_priority, earliest_finish
from cpuruntime.devices.interface import Terms
from cpuruntime.devices.serial import Compute, SerialPlugin
from cpuruntime.errors import DeviceUnavailableError, InvalidArgumentError, UnsupportedError
from cpuruntime.graph import Graph
from cpuruntime.properties import Settings
from cpuruntime.properties.hint import Priority
from cpuruntime.testing import simulated
from cpuruntime.testing.probes import device_request_of
from cpuruntime.testing.simulated import SimulatedClock

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[2, 3] x) => (float[2, 3] y) { y = Neg (x) }"""
OPEN = MODEL.replace("2, 3", "N, 3")


class Faulty(SerialPlugin):
    """Negates; `fault(n)` is called before the n-th inference, and may raise or wait."""

    fault: Callable[[int], object] = staticmethod(lambda number: None)
    refusal: Exception | None = None
    count = 0

    def prepare(self, graph: Graph, settings: Settings) -> Compute:
        if Faulty.refusal is not None:
            raise Faulty.refusal

        def compute(inputs: Sequence[np.ndarray], begin: Callable[[int], None]) -> list[np.ndarray]:
            Faulty.count += 1
            Faulty.fault(Faulty.count)
            return [-inputs[0]]

        return compute


@pytest.fixture
def faulty(register: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> type[Faulty]:
    register("FAULTY", f"{__name__}:Faulty")
    monkeypatch.setattr(Faulty, "count", 0)
    monkeypatch.setattr(Faulty, "refusal", None)
    monkeypatch.setattr(Faulty, "fault", staticmethod(lambda number: None))
    return Faulty


def compiled(device: str, text: str = MODEL, **config: Any) -> ov.CompiledModel:
    return ov.Core().compile_model(onnx.parser.parse_model(text), device, config)


def data(seed: int, rows: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 3), np.float32)


def run_many(model: ov.CompiledModel, count: int) -> dict[int, np.ndarray]:
    """The results of `count` requests by a queue, by number; each callback counts once."""
    queue, found, calls = ov.AsyncInferQueue(model, 4), {}, []
    lock = threading.Lock()

    def note(request: ov.InferRequest, number: int) -> None:
        with lock:
            calls.append(number)
            found[number] = request.get_output_tensor().data.copy()

    queue.set_callback(note)
    for number in range(count):
        queue.start_async([data(number)], number)
    queue.wait_all()
    assert sorted(calls) == list(range(count))
    return found


def test_the_optimum_is_the_sum_and_numbers_count() -> None:
    model = compiled("MULTI:CPU(3),REFERENCE(2)")
    assert model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") == 5
    assert model.get_property("EXECUTION_DEVICES") == ["CPU", "REFERENCE"]
    assert model.get_property("MULTI_DEVICE_PRIORITIES") == "CPU(3),REFERENCE(2)"


def test_it_is_no_device_of_its_own() -> None:
    assert "MULTI" not in ov.Core().available_devices
    assert "FP32" in ov.Core().get_property("MULTI:CPU,REFERENCE", "OPTIMIZATION_CAPABILITIES")
    model = ov.Core().read_model(onnx.parser.parse_model(MODEL))
    assert set(ov.Core().query_model(model, "MULTI:CPU,REFERENCE").values()) == {"MULTI:CPU,REFERENCE"}


@pytest.mark.parametrize("policy", ["EARLIEST_FINISH", "ROUND_ROBIN", "DEVICE_PRIORITY"])
def test_all_policies_compute_all_requests(policy: str) -> None:
    model = compiled("MULTI:CPU(1),REFERENCE(1)", SCHEDULE_POLICY=policy)
    for number, result in run_many(model, 60).items():
        np.testing.assert_array_equal(result, -data(number))
    assert f"SCHEDULE_POLICY is {policy}" in str(model.explain())


def test_the_memory_is_the_user_s_own() -> None:
    request = compiled("MULTI:CPU,REFERENCE").create_infer_request()
    source, target = ov.Tensor(data(1)), ov.Tensor(np.zeros((2, 3), np.float32))
    request.set_input_tensor(source)
    request.set_output_tensor(target)
    request.infer()
    np.testing.assert_array_equal(target.data, -data(1))
    request.start_async()
    request.wait()
    assert request.get_output_tensor().data is not None
    assert np.shares_memory(request.get_output_tensor().data, target.data)


def test_open_shapes_keep_their_results() -> None:
    model = compiled("MULTI:CPU(1),REFERENCE(1)", OPEN)
    requests = [model.create_infer_request() for _ in range(4)]
    for turn in range(3):
        for rows, request in enumerate(requests, turn):
            request.start_async([data(rows, rows)])
        for request in requests:
            request.wait()
        for rows, request in enumerate(requests, turn):
            np.testing.assert_array_equal(request.get_output_tensor().data, -data(rows, rows))


@pytest.mark.parametrize("error", [DeviceUnavailableError("It is gone."), MemoryError(), ZeroDivisionError("bad")])
def test_what_a_device_fails_in_runs_elsewhere(faulty: type[Faulty], error: Exception) -> None:
    def fail(number: int) -> None:
        if number % 3 == 0:
            raise error

    faulty.fault = staticmethod(fail)
    model = compiled("MULTI:FAULTY(2),REFERENCE(1)", SCHEDULE_POLICY="DEVICE_PRIORITY")
    for number, result in run_many(model, 100).items():
        np.testing.assert_array_equal(result, -data(number))
    request = model.create_infer_request()
    for number in range(20):
        np.testing.assert_array_equal(request.infer([data(number)])[0], -data(number))


def test_what_waits_begins_when_a_pause_ends(
    register: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    register("SIMULATED", "cpuruntime.testing.simulated:SimulatedPlugin")
    monkeypatch.setattr(simulated, "clock", clock := SimulatedClock())
    core = ov.Core()
    core.set_property("SIMULATED.0", {"SIMULATED_FAILS_AT": 1})
    core.set_property("SIMULATED.1", {"SIMULATED_INFERENCE_MS": 5000})
    config = {"SCHEDULE_POLICY": "DEVICE_PRIORITY"}
    model = core.compile_model(onnx.parser.parse_model(MODEL), "MULTI:SIMULATED.0(1),SIMULATED.1(1)", config)
    first, second = model.create_infer_request(), model.create_infer_request()
    first.set_callback(lambda nothing: None, None)  # so the device calls when it fails, unasked
    first.start_async([data(1)])
    clock.wait_for(1)  # SIMULATED.0 failed; SIMULATED.1 has it, and sleeps
    second.start_async([data(2)])
    assert second.wait_for(30_000)
    np.testing.assert_array_equal(second.get_output_tensor().data, -data(2))
    assert not first.wait_for(0)
    clock.advance(5000)
    first.wait()
    np.testing.assert_array_equal(first.get_output_tensor().data, -data(1))


def test_a_fault_of_the_data_does_not(faulty: type[Faulty]) -> None:
    def refuse(number: int) -> None:
        raise InvalidArgumentError("Index 7 is beyond the table.")

    faulty.fault = staticmethod(refuse)
    model = compiled("MULTI:FAULTY(1),REFERENCE(1)", SCHEDULE_POLICY="DEVICE_PRIORITY")
    with pytest.raises(InvalidArgumentError, match="Index 7"):
        model([data(1)])
    request = model.create_infer_request()
    request.start_async([data(1)])
    with pytest.raises(InvalidArgumentError, match="Index 7"):
        request.wait()
    assert faulty.count == 2


@pytest.mark.parametrize("waits", [False, True])
def test_a_model_is_given_back_after_an_error(faulty: type[Faulty], waits: bool) -> None:
    def refuse(number: int) -> None:
        raise InvalidArgumentError("Index 7 is beyond the table.")

    def use() -> weakref.ref[ov.CompiledModel]:
        """Its frame, with the model, is in the traceback of the error, which the device's request has."""
        model = compiled("MULTI:FAULTY(1),REFERENCE(1)", SCHEDULE_POLICY="DEVICE_PRIORITY")
        request = model.create_infer_request()
        request.infer([data(1)])
        faulty.fault = staticmethod(refuse)
        if waits:
            request.set_callback(lambda nothing: None, None)
            request.start_async([data(1)])
        with pytest.raises(InvalidArgumentError, match="Index 7"):
            request.wait() if waits else request.infer([data(1)])
        return weakref.ref(model)

    model = use()
    gc.collect()
    assert model() is None


def test_an_inference_that_runs_where_it_is_started_has_a_latency() -> None:
    model = compiled("MULTI:REFERENCE,NULL", SCHEDULE_POLICY="DEVICE_PRIORITY")
    request = model.create_infer_request()
    for _ in range(3):
        request.start_async([data(1)])
        request.wait()
        assert 0 < request.latency < 60_000


def test_the_error_comes_through_where_no_device_is_left(faulty: type[Faulty]) -> None:
    def lose(number: int) -> None:
        raise DeviceUnavailableError("It is gone.")

    faulty.fault = staticmethod(lose)
    model = compiled("MULTI:FAULTY")
    for _ in range(3):  # a device that pauses is tried where there is no other one
        with pytest.raises(DeviceUnavailableError, match="It is gone"):
            model([data(1)])
    faulty.fault = staticmethod(lambda number: None)
    np.testing.assert_array_equal(model([data(1)])[0], -data(1))


def test_a_device_that_does_not_load_is_left_out(faulty: type[Faulty], caplog: pytest.LogCaptureFixture) -> None:
    faulty.refusal = UnsupportedError("Neg is not supported.")
    model = compiled("MULTI:FAULTY,REFERENCE")
    assert model.get_property("EXECUTION_DEVICES") == ["REFERENCE"]
    assert "FAULTY is left out: Neg is not supported." in str(model.explain())
    assert any("goes without device FAULTY" in record.getMessage() for record in caplog.records)
    with pytest.raises(UnsupportedError, match="Neg is not supported"):
        compiled("MULTI:FAULTY")


def test_devices_come_and_go_while_it_runs(faulty: type[Faulty]) -> None:
    model = compiled("MULTI:REFERENCE")
    model.set_property({"MULTI_DEVICE_PRIORITIES": "FAULTY(1),REFERENCE"})
    assert model.get_property("EXECUTION_DEVICES") == ["FAULTY", "REFERENCE"]
    run_many(model, 50)
    model.set_property(("MULTI_DEVICE_PRIORITIES", "FAULTY(1)"))
    count = faulty.count
    run_many(model, 5)
    assert faulty.count == count + 5
    with pytest.raises(InvalidArgumentError, match="Unknown device 'GPU"):
        model.set_property({"MULTI_DEVICE_PRIORITIES": "GPU_9"})
    with pytest.raises(UnsupportedError, match="fixed: PERF_COUNT"):
        model.set_property({"PERF_COUNT": True})
    assert model.get_property("EXECUTION_DEVICES") == ["FAULTY"]


def test_requests_go_straight_to_a_sole_device_and_on_when_it_is_replaced(faulty: type[Faulty]) -> None:
    gate = threading.Event()
    faulty.fault = staticmethod(lambda number: gate.wait(60))
    model = compiled("MULTI:FAULTY(1)", OPEN)
    requests = [model.create_infer_request() for _ in range(6)]
    for rows, request in enumerate(requests):
        request.start_async([data(rows, rows)])  # more than the workers: all are in the device's own queue
    assert all(device_request_of(request).straight is not None for request in requests)
    model.set_property({"MULTI_DEVICE_PRIORITIES": "REFERENCE"})
    request = model.create_infer_request()
    np.testing.assert_array_equal(request.infer([data(9, 4)])[0], -data(9, 4))
    gate.set()
    for rows, request in enumerate(requests):
        request.wait()
        np.testing.assert_array_equal(request.get_output_tensor().data, -data(rows, rows))
        np.testing.assert_array_equal(request.infer([data(1, 5)])[0], -data(1, 5))
    assert "REFERENCE: 7 inferences" in str(model.explain())
    model.set_property({"MULTI_DEVICE_PRIORITIES": "REFERENCE,FAULTY"})
    for request in requests:
        np.testing.assert_array_equal(request.infer([data(2, 1)])[0], -data(2, 1))
        assert device_request_of(request).straight is None


@pytest.mark.parametrize("devices", [["CPU", "CPU(1),NULL(1)"], ["REFERENCE(1),CPU(1)", "CPU", "REFERENCE"]])
def test_a_queue_goes_on_while_devices_change(devices: list[str]) -> None:
    model = compiled(f"MULTI:{devices[0]}")
    queue = ov.AsyncInferQueue(model, 3)
    for number in range(240):
        if number % 20 == 10:
            model.set_property({"MULTI_DEVICE_PRIORITIES": devices[number // 20 % len(devices)]})
        queue.start_async([data(number)])
    queue.wait_all()
    assert all(request.get_output_tensor().data.shape == (2, 3) for request in queue)


def test_requests_that_wait_can_be_cancelled_and_expire(faulty: type[Faulty]) -> None:
    entered, gate = threading.Event(), threading.Event()
    faulty.fault = staticmethod(lambda number: (entered.set(), gate.wait(30)))
    model = compiled("MULTI:FAULTY(1)", PERFORMANCE_HINT="LATENCY")
    requests = [model.create_infer_request() for _ in range(4)]
    for request in requests[:3]:
        request.start_async([data(0)])
        assert entered.wait(30)  # else one of an earlier deadline could begin before it
    requests[3].start_async([data(0)], deadline_ms=1)
    with pytest.raises(TimeoutError, match="deadline"):
        requests[3].wait()
    requests[1].cancel()
    with pytest.raises(ov.CancelledError):
        requests[1].wait()
    assert not requests[2].wait_for(0)
    gate.set()
    for request in (requests[0], requests[2]):
        request.wait()
        np.testing.assert_array_equal(request.get_output_tensor().data, -data(0))


def test_closing_lets_requests_that_wait_run(faulty: type[Faulty]) -> None:
    gate = threading.Event()
    faulty.fault = staticmethod(lambda number: gate.wait(30))
    with compiled("MULTI:FAULTY(1),NULL(1)", SCHEDULE_POLICY="DEVICE_PRIORITY") as model:
        requests = [model.create_infer_request() for _ in range(6)]
        for request in requests:
            request.start_async([data(0)])
    gate.set()
    for request in requests:
        request.wait()
    with pytest.raises(ov.Error, match="is closed"):
        requests[0].infer()


@pytest.mark.parametrize(
    ("device", "config", "message"),
    [
        ("MULTI", {}, "MULTI runs other devices, and none are named: write MULTI:CPU"),
        ("MULTI:CPU,CPU", {}, "name CPU twice"),
        ("MULTI:-CPU", {}, "only AUTO takes devices with a minus sign"),
        ("MULTI:CPU(0)", {}, "must be at least 1"),
        ("MULTI:CPU,CPUX", {}, "Unknown device 'CPUX'"),
        ("MULTI:CPU", {"NUM_STREAMS_": 1}, "NUM_STREAMS_"),
        ("MULTI:CPU", {"DEVICE_PROPERTIES": {"GPU": {}}}, "for 'GPU', which is not among its devices: CPU"),
        ("MULTI:CPU", {"DEVICE_PROPERTIES": {"CPU": {"NUM_STREAMS": -7}}}, "NUM_STREAMS"),
        ("MULTI:CPU", {"DEVICE_PROPERTIES": 3}, "DEVICE_PROPERTIES"),
    ],
)
def test_wrong_lists_and_properties(device: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        compiled(device, **config)


def test_properties_of_single_devices() -> None:
    model = compiled("MULTI", MULTI_DEVICE_PRIORITIES="CPU,REFERENCE", DEVICE_PROPERTIES={"CPU": {"NUM_STREAMS": 1}})
    assert model.get_property("EXECUTION_DEVICES") == ["CPU", "REFERENCE"]
    assert "1 stream of" in str(model.explain())


class FakeModel:
    """As many requests as one likes; none can run."""

    def create_request(self) -> object:
        return object()


def burst(services: dict[str, int], count: int, policy: Callable[..., Any]) -> tuple[float, list[str]]:
    """When so many inferences that come at once are over, on a simulated clock, and the device of each."""
    members = [Member(name, FakeModel(), 1, {}) for name in services]  # type: ignore[arg-type]
    for member in members:
        member.service = services[member.name]
    now, waiting, ends = 1, count, []
    order: list[str] = []
    while waiting or ends:
        while waiting and (choice := policy(members, waiting, now)) is not None:
            member, position = choice
            assert position < waiting
            worker: Worker = next(iter(member.idle))
            del member.idle[worker]
            member.busy.add(worker)
            worker.began = now
            heapq.heappush(ends, (now + services[member.name], len(order), worker))
            order.append(member.name)
            waiting -= 1
        now, _, worker = heapq.heappop(ends)
        worker.member.busy.discard(worker)
        worker.member.idle[worker] = None
    return now, order


def test_a_slow_device_never_has_the_last_of_a_burst() -> None:
    services = {"slow": 10_000, "fast": 1_000}
    best = 91_000  # nine of a hundred on the slow one
    assert burst(services, 100, earliest_finish)[0] <= 1.05 * best
    assert burst(services, 100, by_priority)[0] > 1.05 * best
    assert burst(services, 9, earliest_finish) == (9_001, ["fast"] * 9)
    assert burst({"one": 1_000, "two": 1_000}, 100, earliest_finish)[0] == 50_001


def test_one_device_after_the_other() -> None:
    _, order = burst({"a": 1_000, "b": 1_000, "c": 1_000}, 6, RoundRobin())
    assert order == ["a", "b", "c"] * 2


def test_one_that_failed_pauses_and_is_tried_with_a_single_inference() -> None:
    member = Member("a", FakeModel(), 2, {})  # type: ignore[arg-type]
    assert member.note_failure(MemoryError(), 10) is True
    assert member.note_failure(MemoryError(), 11) is False
    first = member.retry_at - 10
    assert not member.takes(member.retry_at - 1)
    assert member.takes(member.retry_at)
    worker = next(iter(member.idle))
    del member.idle[worker]
    member.busy.add(worker)
    assert not member.takes(member.retry_at)
    assert member.note_failure(MemoryError(), now := member.retry_at) is False
    assert member.retry_at - now == 2 * first
    member.note_success(5)
    assert member.takes(0)


def test_order_of_those_that_wait() -> None:
    terms = [Priority.LOW, Priority.HIGH, Priority.MEDIUM]
    late, urgent, usual = (Inference(None, Terms(priority)) for priority in terms)  # type: ignore[arg-type]
    soon = Inference(None, Terms(Priority.MEDIUM, 5))  # type: ignore[arg-type]
    assert sorted([late, urgent, usual, soon]) == [urgent, soon, usual, late]
