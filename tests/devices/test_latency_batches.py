"""Models compiled with LATENCY_TARGET_MS whose waiting inferences are served in batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.onnx_models import make_model
from support.stream_tasks import Gate

import cpuruntime as ov
from cpuruntime.devices.cpu.latency import batches
from cpuruntime.devices.cpu.latency.batches import Batch
from cpuruntime.errors import CancelledError, DeadlineExceededError
from cpuruntime.host.ledger import Ledger
from cpuruntime.operators.demand import Demand
from cpuruntime.testing.probes import device_of, device_request_of, part_of, running_in

BOUND = {"PERFORMANCE_HINT": "THROUGHPUT", "LATENCY_TARGET_MS": 60_000, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
WEIGHTS = np.random.default_rng(7).standard_normal((6, 40), dtype=np.float32)


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    """Batches of 2 and 4 are planned, however long they take."""
    monkeypatch.setattr(batches, "GAIN", 1e6)
    monkeypatch.setattr(batches, "SHORTEST", 0)
    monkeypatch.setattr(batches, "LARGEST", 2)
    monkeypatch.setattr(Demand, "is_for_weights", True)


def product(rows: int = 1) -> onnx.ModelProto:
    """y = x w, and the row sums of y; [rows, 6] to [rows, 40] and [rows]."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("ReduceSum", ["y", "axes"], ["s"], keepdims=0),
    ]
    constants = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.array([1], np.int64), "axes")]
    return make_model(nodes, {"x": [rows, 6]}, {"y": [rows, 40], "s": [rows]}, constants=constants)


class Held:
    """A compiled model whose only stream is kept busy until `let_go`, so that what starts meanwhile waits."""

    def __init__(self, model: onnx.ModelProto | None = None, requests: int = 7, rows: int = 1) -> None:
        self.compiled = ov.compile_model(model or product(rows), "CPU", BOUND)
        self.device = device_of(self.compiled)
        self.requests = [self.compiled.create_infer_request() for _ in range(requests)]
        self.x = np.random.default_rng(1).standard_normal((requests, rows, 6), dtype=np.float32)
        self._gate = Gate(self.device.models[0].executor)

    def start(self, **terms: Any) -> None:
        for request, x in zip(self.requests, self.x):
            request.start_async([x], **terms)

    def let_go(self) -> None:
        self._gate.open()

    @property
    def sizes(self) -> list[int]:
        """Of the batches that the requests were in."""
        return [part_of(request).ticket.batch for request in self.requests]

    def check(self, numbers: Sequence[int]) -> None:
        """That these requests have their own results."""
        for number in numbers:
            self.requests[number].wait()
            y = self.x[number] @ WEIGHTS
            np.testing.assert_allclose(self.requests[number].get_output_tensor(0).data, y, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(self.requests[number].get_output_tensor(1).data, y.sum(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 3])
def test_those_that_wait_are_served_together_and_get_their_own_results(rows: int) -> None:
    held = Held(rows=rows)
    for _ in range(3):
        held.start()
        held.let_go()
        held.check(range(7))
    assert held.device.batches[0].most == 4
    assert held.device.gate.counts.on_time == 21


def test_a_batch_takes_as_many_as_wait_up_to_the_largest() -> None:
    held = Held()
    held.start()
    held.let_go()
    held.check(range(7))
    assert held.sizes == [4, 4, 4, 4, 3, 3, 3]


def test_one_alone_is_served_as_ever() -> None:
    held = Held()
    held.let_go()
    held.requests[0].infer([held.x[0]])
    held.check([0])
    held.requests[0].start_async([held.x[0]])
    held.check([0])
    assert part_of(held.requests[0]).ticket.batch == 1


def test_results_go_where_the_user_wants_them() -> None:
    held = Held()
    own = [ov.Tensor(np.zeros((1, 40), np.float32), shared_memory=True) for _ in held.requests]
    for request, tensor in zip(held.requests, own):
        request.set_output_tensor(0, tensor)
    held.start()
    held.let_go()
    held.check(range(7))
    for x, tensor in zip(held.x, own):
        np.testing.assert_allclose(tensor.data, x @ WEIGHTS, rtol=1e-5, atol=1e-5)


def test_each_is_called_back_and_knows_where_its_time_went() -> None:
    held = Held()
    called: list[int] = []
    for number, request in enumerate(held.requests):
        request.set_callback(called.append, number)
    held.start()
    held.let_go()
    held.check(range(7))
    assert sorted(called) == list(range(7))
    for request in held.requests:
        anatomy = request.latency_anatomy
        assert anatomy.queued > 0
        assert anatomy.executed > 0
        assert anatomy.total - anatomy.called_back == pytest.approx(request.latency, abs=0.01)


def test_the_callers_of_infer_share_batches() -> None:
    held = Held()
    threads = [threading.Thread(target=request.infer, args=([x],)) for request, x in zip(held.requests, held.x)]
    for thread in threads:
        thread.start()
    while held.device.gate.admission.waiting < 7:
        threading.Event().wait(0.001)
    held.let_go()
    for thread in threads:
        thread.join()
    held.check(range(7))
    assert max(held.sizes) == 4


def test_one_cancelled_while_it_waits_is_in_no_batch() -> None:
    held = Held()
    held.start()
    held.requests[2].cancel()
    held.let_go()
    with pytest.raises(CancelledError, match="before it began"):
        held.requests[2].wait()
    held.check([0, 1, 3, 4, 5, 6])


@pytest.mark.parametrize("number", [0, 2])
def test_one_cancelled_in_a_batch_takes_nobody_with_it(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()
    gather = Batch.gather

    def cancelling(batch: Batch, requests: Any) -> None:
        if part_of(held.requests[0]) in requests:
            assert device_request_of(held.requests[number]).cancel()
        gather(batch, requests)

    monkeypatch.setattr(Batch, "gather", cancelling)
    held.start()
    held.let_go()
    with pytest.raises(CancelledError, match="in a batch"):
        held.requests[number].wait()
    held.check([other for other in range(7) if other != number])
    held.requests[number].infer([held.x[number]])
    held.check([number])


def test_a_deadline_counts_until_the_batch_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()
    held.start(deadline_ms=60_000)
    passed = part_of(held.requests[1])
    passed.control.deadline = 1
    held.let_go()
    with pytest.raises(DeadlineExceededError):
        held.requests[1].wait()
    held.check([0, 2, 3, 4, 5, 6])
    assert held.sizes[0] == 1  # a batch ends before the one whose deadline has passed
    gather = Batch.gather

    def late(batch: Batch, requests: Any) -> None:
        gather(batch, requests)
        assert requests[0].control.deadline == 0

    monkeypatch.setattr(Batch, "gather", late)
    held.start(deadline_ms=60_000)
    held.check(range(7))


def test_an_error_reaches_the_whole_batch_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()
    gather = Batch.gather

    def failing(batch: Batch, requests: Any) -> None:
        monkeypatch.setattr(Batch, "gather", gather)
        raise MemoryError("no room")

    monkeypatch.setattr(Batch, "gather", failing)
    held.start()
    held.let_go()
    for request in held.requests[:4]:
        with pytest.raises(MemoryError, match="no room"):
            request.wait()
    held.check([4, 5, 6])
    held.start()
    held.check(range(7))
    assert held.device.gate.admission.waiting == len(running_in(held.device.gate.admission)) == 0


def test_a_closed_model_leaves_nobody_waiting() -> None:
    held = Held()
    held.start()
    held.device.models[0].executor.stop(cancel=True, wait=False)
    held.let_go()
    for request in held.requests:
        with pytest.raises(CancelledError, match="released"):
            request.wait()


def test_the_queue_of_requests_and_many_rounds() -> None:
    held = Held()
    held.let_go()
    queue = ov.AsyncInferQueue(held.compiled, 7)
    errors: list[float] = []

    def compare(request: ov.InferRequest, x: np.ndarray) -> None:
        errors.append(float(np.abs(request.get_output_tensor(0).data - x @ WEIGHTS).max()))

    queue.set_callback(compare)
    random = np.random.default_rng(3)
    for _ in range(500):
        x = random.standard_normal((1, 6), dtype=np.float32)
        queue.start_async([x], x)
    queue.wait_all()
    assert len(errors) == 500
    assert max(errors) < 1e-4


def mixing() -> onnx.ModelProto:
    """y = x - the mean of all rows: what one gets depends on the others."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    return make_model(nodes, {"x": [1, 6]}, {"y": [1, 6]})


def reordering() -> onnx.ModelProto:
    """y = x, in a layout where rows of several inferences would change places: [2, 6] by way of [6, 2]."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("Reshape", ["t", "shape"], ["y"]),
    ]
    shape = numpy_helper.from_array(np.array([-1, 6], np.int64), "shape")
    return make_model(nodes, {"x": [2, 6]}, {"y": [2, 6]}, constants=[shape])


def fixed() -> onnx.ModelProto:
    """y = x + c for one row only."""
    c = numpy_helper.from_array(np.ones((1, 6), np.float32), "c")
    nodes = [
        helper.make_node("Concat", ["x", "c"], ["xc"], axis=0),
        helper.make_node("Gather", ["xc", "one"], ["y"]),
    ]
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    return make_model(nodes, {"x": [1, 6]}, {"y": [1, 6]}, constants=[c, one])


@pytest.mark.parametrize("model", [mixing, reordering, fixed])
def test_inferences_that_would_not_keep_apart_are_not_served_together(model: Callable[[], onnx.ModelProto]) -> None:
    compiled = ov.compile_model(model(), "CPU", BOUND)
    assert device_of(compiled).batches[0].most == 1


def test_what_batches_take_is_explained() -> None:
    text = str(ov.compile_model(product(), "CPU", BOUND).explain())
    assert "1x1 " in text
    assert " (2 in " in text
    assert ", 4 in " in text


def test_profiling_does_without() -> None:
    compiled = ov.compile_model(product(), "CPU", {**BOUND, "PERF_COUNT": True})
    assert device_of(compiled).batches[0].most == 1


def test_interrupts_do_not_end_an_inference_before_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()
    part = part_of(held.requests[0])
    wait, strikes = part.wait, [KeyboardInterrupt(), KeyboardInterrupt()]

    def struck() -> bool:
        if strikes:
            raise strikes.pop()
        held.let_go()
        done: bool = wait()
        return done

    monkeypatch.setattr(part, "wait", struck)
    monkeypatch.setattr(held.device.models[0].executor, "cancel", lambda task: None)
    with pytest.raises(KeyboardInterrupt):
        held.requests[0].infer([held.x[0]])
    assert part.is_over


def test_an_error_of_a_signal_handler_after_an_inference_was_queued_does_not_lose_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held()
    executor = held.device.models[0].executor
    submit = executor.submit

    def struck(*arguments: Any) -> None:
        submit(*arguments)
        raise TimeoutError

    for ends_early in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(executor, "submit", struck)
            if not ends_early:
                patch.setattr(executor, "cancel", lambda task: None)
            with pytest.raises(TimeoutError):
                held.requests[0].start_async([held.x[0]])
        assert held.requests[0].is_busy() != ends_early
        assert held.device.gate.admission.waiting == (0 if ends_early else 1)
    held.let_go()
    with pytest.raises(CancelledError):
        held.requests[0].wait()
    assert held.device.gate.admission.waiting == 0
