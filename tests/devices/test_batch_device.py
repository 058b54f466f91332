"""BATCH: groups of inferences on a device whose batches end when the test says so, and on the CPU."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from support.onnx_models import make_model

import cpuruntime as ov
from cpuruntime.devices import batch_gain
from cpuruntime.devices.batch import batcher, sizes
from cpuruntime.devices.batch.model import BatchModel
from cpuruntime.devices.batch.request import BatchRequest
from cpuruntime.devices.batch.sizes import Sizes
from cpuruntime.devices.batch.worker import Worker
from cpuruntime.devices.completion import Completion
from cpuruntime.devices.interface import TERMS, DeviceModel, DeviceRequest, Terms
from cpuruntime.devices.ports import BoundArrays, PortInfo
from cpuruntime.devices.reference import ReferencePlugin
from cpuruntime.errors import CancelledError, DeadlineExceededError, Error, InvalidArgumentError, ModelError
from cpuruntime.graph import Graph, PartialShape, Type
from cpuruntime.host.ledger import Ledger
from cpuruntime.properties import PROPERTIES, Settings
from cpuruntime.properties.hint import Priority

SECOND = 10**9
COLUMNS = 16  # a row is as long as the alignment


class ManualRequest(BoundArrays, DeviceRequest):
    """Computes y = 2 x when the test lets it."""

    def __init__(self, model: ManualModel) -> None:
        self.model = model
        self.inference = Completion()
        self.terms = TERMS
        self.cancelled = False
        self.ended = 0
        self.bind_own(model.inputs, model.outputs)

    def set_input(self, index: int, array: np.ndarray) -> None:
        self._inputs[index] = array

    def set_output(self, index: int, array: np.ndarray) -> None:
        self._outputs[index] = array

    @property
    def x(self) -> np.ndarray:
        return self.bound_inputs()[0]

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> None:
        if self.model.refuses:
            raise self.model.refuses
        self.inference, self.terms, self.cancelled = Completion(), terms, False
        if function is not None:
            self.inference.notify(function)
        self.model.started.append(self)

    def finish(self) -> None:
        """Compute; a negative number is an error, in whichever row."""
        error = ModelError("a negative number") if (self.x < 0).any() else None
        if error is None:
            self._outputs[0][...] = 2 * self.x
        self.ended = max(one.ended for one in self.model.started) + self.model.took
        self.inference.complete(CancelledError("as asked") if self.cancelled else error)

    @property
    def is_over(self) -> bool:
        return self.inference.is_over

    def wait(self, timeout: float | None = None) -> bool:
        return self.inference.wait(timeout)

    def result(self) -> tuple[BaseException | None, int]:
        return self.inference.error, self.inference.ended

    def notify(self, function: Callable[[], None]) -> None:
        self.inference.notify(function)

    def moments(self) -> tuple[int, int, int] | None:
        return (0, 0, self.ended) if self.model.took else None

    def cancel(self) -> bool:
        self.cancelled = True
        return not self.inference.is_over


class ManualModel(DeviceModel):
    """A model [rows, 16] to [rows, 16]; `started` are the requests with an inference in flight or one that is over."""

    def __init__(self, rows: int, started: list[ManualRequest]) -> None:
        port = PortInfo("x", Type.f32, PartialShape([rows, COLUMNS]))
        names = {"NETWORK_NAME": "m", "EXECUTION_DEVICES": ["MANUAL"], "OPTIMAL_NUMBER_OF_INFER_REQUESTS": 1}
        super().__init__([port], [port], names)
        self.started = started
        self.refuses: Exception | None = None
        self.took = 0

    def create_request(self) -> ManualRequest:
        return ManualRequest(self)

    def close(self) -> None:
        self.closed = True


class Device:
    """A model for batches of 4 over a device that runs one at a time; `requests` have rows of 1, 2, 3..."""

    def __init__(
        self, requests: int = 8, timeout: int = 0, times: dict[int, int] | None = None, turns: int = 0
    ) -> None:
        self.started: list[ManualRequest] = []
        single, four = (ManualModel(rows, self.started) for rows in (1, 4))
        times = times or {1: 10 * SECOND, 4: 11 * SECOND}
        self.sizes = Sizes(single, {4: four}, times, {4: [Worker(four, 4) for _ in range(2)]}, [], turns)
        self.model = BatchModel("BATCH:MANUAL(4)", self.sizes, Settings(PROPERTIES, {"AUTO_BATCH_TIMEOUT": timeout}))
        self.requests = [self.model.create_request() for _ in range(requests)]
        for number, request in enumerate(self.requests):
            request.input_array(0, (1, COLUMNS))[...] = number + 1

    def start(self, *numbers: int, **terms: Any) -> None:
        for number in numbers:
            self.requests[number].start(Terms(**terms))

    def sizes_started(self) -> list[int]:
        return [len(request.x) for request in self.started]

    def error(self, number: int) -> BaseException | None:
        assert self.requests[number].is_over
        return self.requests[number].result()[0]

    def check(self, *numbers: int) -> None:
        for number in numbers:
            assert self.error(number) is None
            np.testing.assert_array_equal(self.requests[number].output_array(0), np.full((1, COLUMNS), 2 * number + 2))


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.model.close()


def test_what_waits_while_the_device_is_busy_is_one_batch_on_its_own_memory(device: Device) -> None:
    device.start(7, 2, 0, 3)
    assert device.sizes_started() == [1]
    device.start(1)
    assert device.sizes_started() == [1, 4]  # handed over ahead: the device need not wait for it
    batch = device.started[1]
    for number in range(4):
        own = device.requests[number].input_array(0, (1, COLUMNS))
        assert np.shares_memory(batch.x, own)
        assert own.ctypes.data % 64 == 0
    device.started[0].finish()
    batch.finish()
    device.check(7, 0, 1, 2, 3)
    assert "groups so far: 1 of 1, 1 of 4" in device.model.explain().decisions


def test_the_first_member_that_is_announced_finds_all_of_its_group_over(device: Device) -> None:
    device.start(7, 0, 1, 2, 3)
    seen: list[list[bool]] = []
    for number in range(4):
        device.requests[number].notify(lambda: seen.append([device.requests[one].is_over for one in range(4)]))
    device.started[0].finish()
    device.started[1].finish()
    assert seen == [[True] * 4] * 4
    device.check(0, 1, 2, 3)


def test_in_a_closed_loop_groups_come_to_be_neighbours(device: Device) -> None:
    device.start(*range(8))
    for step in range(40):
        device.started[step].finish()
        for number in range(8):
            if device.requests[number].is_over:
                device.start(number)
    assert device.sizes_started()[-4:] == [4] * 4
    for group in device.started[-4:]:
        assert any(np.shares_memory(group.x, request.inputs[0]) for request in device.requests)


@pytest.mark.parametrize(("longest", "are_neighbours"), [(SECOND, True), (1, False)])
def test_neighbours_pass_over_one_that_has_not_waited_for_long(longest: int, are_neighbours: bool) -> None:
    device = Device(requests=12, times={1: longest, 4: longest})
    device.start(0, 1, 2, 3, 4, 5, 8, 9, 10, 11)
    device.started[0].finish()
    assert np.shares_memory(device.started[2].x, device.requests[8].inputs[0]) == are_neighbours


def test_memory_of_the_user_and_of_several_batches_is_copied(device: Device) -> None:
    x, y = np.full((1, COLUMNS), 3, np.float32), np.zeros((1, COLUMNS), np.float32)
    device.requests[2].set_input(0, x)
    device.requests[2].set_output(0, y)
    device.start(0, 1, 2, 5, 6)
    device.started[0].finish()
    assert not any(np.shares_memory(device.started[1].x, device.requests[number].inputs[0]) for number in (1, 2, 5, 6))
    device.started[1].finish()
    device.check(0, 1, 2, 5, 6)
    assert (y == 6).all()
    device.start(0, 1, 2, 3, 4)  # one bound other memory, so all inputs are copied
    device.started[2].finish()
    device.started[3].finish()
    device.check(0, 1, 2, 3, 4)


def test_a_partial_group_is_a_padded_batch_and_writes_to_no_other_request(device: Device) -> None:
    untouched = device.requests[3].output_array(0)
    untouched[...] = -5
    device.start(4, 0, 1, 2)
    device.started[0].finish()
    assert device.sizes_started() == [1, 4]
    assert (device.started[1].x[3] == device.started[1].x[2]).all()
    device.started[1].finish()
    device.check(4, 0, 1, 2)
    assert (untouched == -5).all()


def test_one_bad_member_fails_alone(device: Device) -> None:
    device.requests[1].inputs[0][...] = -1
    device.start(4, 0, 1, 2, 3)
    for step in range(6):
        device.started[step].finish()
    assert device.sizes_started() == [1, 4, 1, 1, 1, 1]
    assert isinstance(device.error(1), ModelError)
    device.check(4, 0, 2, 3)


def test_a_device_that_refuses_batches_runs_the_members_one_by_one(device: Device) -> None:
    device.sizes.models[4].refuses = Error("no batches today")
    device.start(4, 0, 1)
    device.started[0].finish()
    device.started[1].finish()
    device.started[2].finish()
    assert device.sizes_started() == [1, 1, 1]
    device.check(4, 0, 1)


def test_a_member_is_cancelled_without_the_others_and_a_batch_when_all_are(device: Device) -> None:
    device.start(4, 0, 1, 2)
    assert device.requests[1].cancel()
    assert isinstance(device.error(1), CancelledError)  # at once: it waited
    device.start(3)
    device.started[0].finish()
    batch = device.started[1]
    assert device.requests[0].cancel()
    assert not device.requests[0].is_over
    assert not batch.cancelled
    batch.finish()
    assert isinstance(device.error(0), CancelledError)
    device.check(2, 3)
    assert not device.requests[0].cancel()

    device.start(4, 0, 1)
    device.started[2].finish()
    assert device.requests[0].cancel()
    assert device.requests[1].cancel()
    assert device.started[3].cancelled
    device.started[3].finish()
    assert isinstance(device.error(0), CancelledError)
    assert isinstance(device.error(1), CancelledError)


def test_deadlines_are_of_members(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    later = 1 << 62
    device.start(4)
    device.start(0, deadline=1)
    assert device.requests[0].wait(60)
    assert isinstance(device.error(0), DeadlineExceededError)  # it waited
    device.start(1, 2, deadline=later)
    device.start(3)
    device.started[0].finish()
    assert device.started[1].terms.deadline == 0  # one member has none
    monkeypatch.setattr(batcher, "perf_counter_ns", lambda: later)
    device.started[1].finish()
    assert isinstance(device.error(1), DeadlineExceededError)
    device.check(4, 3)


def test_urgent_inferences_go_first_and_make_their_group_urgent(device: Device) -> None:
    device.start(7)
    device.start(0, 1, priority=Priority.LOW)
    device.start(2, 3, 4, 5, priority=Priority.HIGH)
    device.started[0].finish()
    assert sorted(device.started[1].x[:, 0]) == [3, 4, 5, 6]
    assert device.started[1].terms.priority == Priority.HIGH
    device.started[1].finish()
    device.started[2].finish()
    device.check(*range(6), 7)


def test_one_full_group_is_handed_over_ahead_and_no_partial_one() -> None:
    device = Device(requests=13)
    device.start(*range(12))
    assert device.sizes_started() == [1, 4]
    device.started[0].finish()
    assert device.sizes_started() == [1, 4, 4]
    device.started[1].finish()
    assert device.sizes_started() == [1, 4, 4]  # three wait
    device.start(12)
    assert device.sizes_started() == [1, 4, 4, 4]
    device.started[2].finish()
    device.started[3].finish()
    device.check(*range(13))
    device.model.close()


def test_a_size_that_turns_out_to_gain_nothing_goes_while_its_batches_run() -> None:
    device = Device(requests=14, turns=1)
    single, four = device.sizes.single, device.sizes.models[4]
    single.took, four.took = 2 * SECOND, 9 * SECOND  # compiling had measured 10 and 11
    device.start(*range(14))
    finished = 0
    while finished < len(device.started):
        device.started[finished].finish()
        finished += 1
        if not four.closed:
            device.start(*(number for number, one in enumerate(device.requests) if one.is_over))
    device.check(*range(14))
    assert not single.closed
    assert 3 <= device.sizes_started().count(4) <= 6  # some were in flight when the last turn ended
    assert "sizes in use, with their times: 1 2e+03 ms" in device.model.explain().decisions
    device.start(0, 1, 2, 3, 4)
    while finished < len(device.started):
        device.started[finished].finish()
        finished += 1
    assert device.sizes_started()[-5:] == [1] * 5
    device.check(*range(5))
    device.model.close()
    assert single.closed


def test_a_closed_model_finishes_what_was_started_and_its_thread_ends() -> None:
    before = threading.enumerate()
    device = Device()
    (thread,) = (one for one in threading.enumerate() if one not in before)
    device.start(4, 0, 1)
    device.model.close()
    with pytest.raises(Error, match="closed"):
        device.start(2)
    assert not device.sizes.single.closed
    device.started[0].finish()
    device.started[1].finish()
    device.check(4, 0, 1)
    assert device.sizes.single.closed
    assert device.sizes.models[4].closed
    thread.join(20)
    assert not thread.is_alive()


def wait_for_four(waiting: int, free: int) -> int:
    return 1000 * SECOND if waiting < 4 else 0


def test_a_group_is_waited_for_until_it_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(timeout=1_000_000)
    monkeypatch.setattr(device.model.batcher.window, "wait", wait_for_four)
    device.start(0, 1, 2)
    assert device.started == []
    device.start(3)
    assert device.sizes_started() == [4]
    device.start(4)
    device.started[0].finish()
    assert device.sizes_started() == [4]
    device.model.close()  # nothing comes any more
    while len(device.started) < 2:
        os.sched_yield()
    device.started[1].finish()
    device.check(*range(5))


def test_a_group_is_waited_for_no_longer_than_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(timeout=1)
    monkeypatch.setattr(device.model.batcher.window, "wait", wait_for_four)
    device.start(0)
    while not device.started:
        os.sched_yield()
    device.started[0].finish()
    device.check(0)
    device.model.close()


def test_a_call_on_an_idle_device_runs_on_the_callers_thread(device: Device) -> None:
    (request,) = device.requests[:1]
    assert isinstance(request, BatchRequest)
    threads = []

    def run() -> None:
        threads.append(threading.current_thread())
        device.start(1, 2)  # while it runs
        request.single.inference.complete()

    request.single.run = run
    request.run()
    assert threads == [threading.current_thread()]
    assert device.sizes_started() == [4]
    device.started[0].finish()
    device.check(1, 2)


def product(rows: int = 1) -> bytes:
    """y = relu(x w), [rows, 16] to [rows, 5]."""
    weights = np.random.default_rng(3).standard_normal((16, 5), dtype=np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"])]
    constants = [numpy_helper.from_array(weights, "w")]
    return make_model(nodes, {"x": [rows, 16]}, {"y": [rows, 5]}, constants=constants).SerializeToString()


@pytest.mark.parametrize("rows", [1, 2])
def test_batches_on_the_cpu_give_the_results_of_single_inferences(
    rows: int, monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    monkeypatch.setattr(batch_gain, "GAIN", 1e9)
    monkeypatch.setattr(batch_gain, "SHORTEST", 0)
    core = ov.Core()
    compiled = core.compile_model(product(rows), "BATCH:CPU(3)")
    assert compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") == 3
    xs = np.random.default_rng(1).standard_normal((60, rows, 16), dtype=np.float32)
    found: dict[int, np.ndarray] = {}
    queue = ov.AsyncInferQueue(compiled, 7)
    queue.set_callback(lambda request, index: found.__setitem__(index, request.results[0].copy()))
    for index, x in enumerate(xs):
        queue.start_async([x], index)
    queue.wait_all()
    single = core.compile_model(product(rows), "CPU")
    for index, x in enumerate(xs):
        np.testing.assert_allclose(found[index], single([x])[0], rtol=1e-5, atol=1e-6)
    decisions = compiled.explain().decisions
    assert any(line.startswith("a batch of 3 takes") and line.endswith("it is used") for line in decisions)


def test_a_model_that_mixes_samples_runs_one_by_one_and_says_why() -> None:
    nodes = [helper.make_node("Softmax", ["x"], ["y"], name="n", axis=0)]
    model = make_model(nodes, {"x": [1, 3]}, {"y": [1, 3]}).SerializeToString()
    compiled = ov.Core().compile_model(model, "BATCH:REFERENCE(4)")
    assert any("Softmax 'n'" in line and "one by one" in line for line in compiled.explain().decisions)
    assert (compiled([np.zeros((1, 3), np.float32)])[0] == 1).all()
    assert compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") == 1


def test_a_batch_that_gains_nothing_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_gain, "GAIN", 0)
    monkeypatch.setattr(batch_gain, "SHORTEST", 0)
    monkeypatch.setattr(sizes, "NEAR", 0)
    decisions = ov.Core().compile_model(product(), "BATCH:REFERENCE(2)").explain().decisions
    assert any(line.endswith("it gains too little and is not used") for line in decisions)


def test_inferences_that_take_no_time_form_no_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_gain, "SHORTEST", 10**12)
    compiled = ov.Core().compile_model(product(), "BATCH:REFERENCE(2)")
    assert any("too little for groups" in line for line in compiled.explain().decisions)
    assert compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") == ov.Core().compile_model(
        product(), "REFERENCE"
    ).get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")


def test_batch_takes_one_device() -> None:
    with pytest.raises(InvalidArgumentError, match="BATCH takes one device"):
        ov.Core().compile_model(product(), "BATCH:REFERENCE,NULL")
    with pytest.raises(InvalidArgumentError, match=r"none are named: write BATCH:CPU\(4\)"):
        ov.Core().compile_model(product(), "BATCH")


class Eager(ReferencePlugin):
    """REFERENCE that asks for batches of models of one row."""

    def optimal_batch_size(self, graph: Graph, settings: Settings) -> int:
        return 8 if graph.inputs[0].static_shape[0] == 1 else 2


@pytest.fixture
def eager(register: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    register("EAGER", f"{__name__}:Eager")
    monkeypatch.setattr(batch_gain, "GAIN", 1e9)
    monkeypatch.setattr(batch_gain, "SHORTEST", 0)


@pytest.mark.parametrize(
    ("rows", "config", "largest"),
    [
        (1, {"PERFORMANCE_HINT": "THROUGHPUT"}, 8),
        (1, {"PERFORMANCE_HINT": "THROUGHPUT", "PERFORMANCE_HINT_NUM_REQUESTS": 4}, 4),
        (1, {"PERFORMANCE_HINT": "THROUGHPUT", "ALLOW_AUTO_BATCHING": True, "AUTO_BATCH_TIMEOUT": 7}, 8),
        (1, {"PERFORMANCE_HINT": "THROUGHPUT", "ALLOW_AUTO_BATCHING": False}, 1),
        (1, {"PERFORMANCE_HINT": "THROUGHPUT", "PERFORMANCE_HINT_NUM_REQUESTS": 2}, 1),
        (1, {"PERFORMANCE_HINT": "LATENCY"}, 1),
        (2, {"PERFORMANCE_HINT": "THROUGHPUT"}, 1),
    ],
)
@pytest.mark.parametrize("device", ["EAGER", "MULTI:EAGER"])
def test_a_device_that_asks_for_batches_gets_them_for_throughput(
    eager: None, rows: int, config: dict[str, Any], largest: int, device: str
) -> None:
    with ov.Core().compile_model(product(rows), device, {"NUM_STREAMS": 1, **config}) as compiled:
        assert compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") == largest
        assert compiled.get_property("EXECUTION_DEVICES") == ["EAGER"]
        if "AUTO_BATCH_TIMEOUT" in config:
            assert compiled.get_property("AUTO_BATCH_TIMEOUT") == 7


def test_batch_takes_the_size_that_the_device_asks_for(eager: None) -> None:
    with ov.Core().compile_model(product(), "BATCH:EAGER", {"PERFORMANCE_HINT": "THROUGHPUT"}) as compiled:
        assert sum(line.startswith("a batch of") for line in compiled.explain().decisions) == 3  # 2, 4, 8


def test_the_timeout_changes_while_the_model_runs() -> None:
    device = Device(timeout=1000)
    device.model.set_property({"AUTO_BATCH_TIMEOUT": 0})
    assert device.model.get_property("AUTO_BATCH_TIMEOUT") == 0
    assert device.model.batcher.window.limit == 0
    device.model.close()
    with ov.Core().compile_model(product(), "BATCH:REFERENCE(2)") as compiled:
        compiled.set_property({"AUTO_BATCH_TIMEOUT": 5})
        assert compiled.get_property("AUTO_BATCH_TIMEOUT") == 5
