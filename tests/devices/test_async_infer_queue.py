"""AsyncInferQueue: taking turns, waiting, callbacks, errors."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from support.fake_device import FakeModel, Gate, compile_fake

import cpuruntime as ov
from cpuruntime import AsyncInferQueue, BusyError, InvalidArgumentError
from cpuruntime.testing.probes import state_of, wait_over

Gated = tuple[ov.CompiledModel, FakeModel]

ROW = np.arange(4, dtype=np.float32)[None]


@pytest.fixture
def queue() -> AsyncInferQueue:
    """Two requests whose inferences return at once."""
    return AsyncInferQueue(compile_fake()[0], 2)


def test_the_number_of_jobs() -> None:
    compiled, _ = compile_fake()
    assert len(AsyncInferQueue(compiled)) == len(AsyncInferQueue(compiled, jobs=0)) == 3
    queue = AsyncInferQueue(compiled, 2)
    assert len(queue) == len(list(queue)) == 2
    assert repr(queue) == "<AsyncInferQueue: 2 jobs>"
    for wrong in (-1, 1.5, True, "2", None):
        with pytest.raises(InvalidArgumentError, match="integer >= 0"):
            AsyncInferQueue(compiled, wrong)  # type: ignore[arg-type]


def test_requests_by_index(queue: AsyncInferQueue) -> None:
    assert [queue[0], queue[1]] == list(queue)
    for wrong in (2, "0"):
        with pytest.raises(IndexError, match="indexes go from 0 to 1"):
            queue[wrong]  # type: ignore[index]


def test_each_inference_reaches_the_callback_with_its_userdata(queue: AsyncInferQueue) -> None:
    seen: list[tuple[float, Any]] = []
    queue.set_callback(lambda request, tag: seen.append((float(request.results["y"][0, 1]), tag)))
    for value in range(20):
        queue.start_async({"x": ROW * value}, value)
    queue.wait_all()
    assert sorted(seen) == [(value, value) for value in range(20)]
    assert set(queue.userdata) <= set(range(20))


def test_results_that_a_callback_stores_stay_what_they_were(queue: AsyncInferQueue) -> None:
    stored: dict[int, np.ndarray] = {}
    queue.set_callback(lambda request, tag: stored.update({tag: next(iter(request.results.values()))}))
    for value in range(12):
        queue.start_async({"x": ROW * value}, value)
    queue.wait_all()
    assert [float(stored[value][0, 1]) for value in range(12)] == list(range(12))


def test_without_a_callback_the_results_are_in_the_requests(queue: AsyncInferQueue) -> None:
    queue.start_async(ROW)
    queue.start_async(2 * ROW, share_inputs=True)
    queue.wait_all()
    assert sorted(float(request.results[0][0, 1]) for request in queue) == [1, 2]
    assert queue.userdata == [None, None]


def test_start_waits_for_an_idle_request(gated: Gated, gate: Gate) -> None:
    queue = AsyncInferQueue(gated[0], 2)
    assert queue.is_ready()
    queue.start_async(ROW)
    queue.start_async(ROW)
    assert not queue.is_ready()
    third = threading.Thread(target=queue.start_async, args=(ROW,))
    third.start()
    gate.wait_entered()
    assert third.is_alive()
    gate.open(3)
    third.join(30)
    assert not third.is_alive()
    queue.wait_all()
    assert queue.is_ready()


def test_the_idle_request_is_the_one_that_starts_next(gated: Gated, gate: Gate) -> None:
    queue = AsyncInferQueue(gated[0], 2)
    first = queue.get_idle_request_id()
    assert queue.get_idle_request_id() == first
    queue[first].get_input_tensor().data[...] = 7
    queue.start_async()
    assert queue.get_idle_request_id() != first
    gate.open()
    queue.wait_all()
    assert queue[first].results[0].tolist() == [[7] * 4]


def test_wrong_inputs_raise_at_once_and_lose_no_request(queue: AsyncInferQueue) -> None:
    for _ in range(5):
        with pytest.raises(InvalidArgumentError, match="shape"):
            queue.start_async(ROW[0])
    queue.start_async(ROW)
    queue.start_async(ROW)
    queue.wait_all()
    assert queue.is_ready()


def test_wait_all_raises_the_first_error_of_a_callback_with_its_type(queue: AsyncInferQueue) -> None:
    def callback(request: ov.InferRequest, tag: int) -> None:
        if tag:
            raise ValueError(f"callback {tag}")

    queue.set_callback(callback)
    for tag in (0, 1):
        queue.start_async(ROW, tag)
    with pytest.raises(ValueError, match="callback 1"):
        queue.wait_all()
    queue.wait_all()
    queue.start_async(ROW, 0)
    queue.wait_all()


@pytest.mark.parametrize("error", [ValueError("1"), IndexError("1"), KeyError("1"), ov.Error("1")])
def test_after_an_error_nothing_starts_until_wait_all(queue: AsyncInferQueue, error: Exception) -> None:
    def callback(request: ov.InferRequest, tag: int) -> None:
        raise error

    queue.set_callback(callback)
    queue.start_async(ROW, 1)
    for request in queue:
        request.wait()
    for call in (lambda: queue.start_async(ROW, 2), queue.get_idle_request_id):
        with pytest.raises(type(error), match="1"):
            call()
    with pytest.raises(type(error), match="1"):
        queue.wait_all()
    assert queue.get_idle_request_id() in (0, 1)


def test_errors_of_inferences_surface_and_skip_the_callback() -> None:
    compiled, model = compile_fake()
    queue = AsyncInferQueue(compiled, 2)
    seen: list[Any] = []
    queue.set_callback(lambda request, tag: seen.append(tag))

    def fail() -> None:
        raise ov.ModelError("Conv 'c' cannot.")

    model.work = fail
    queue.start_async(ROW, "failed")
    with pytest.raises(ov.ModelError, match="Conv 'c' cannot"):
        queue.wait_all()
    model.work = lambda: None
    queue.start_async(ROW, "fine")
    queue.wait_all()
    assert seen == ["fine"]


REFUSALS = [ov.CancelledError("1"), ov.DeadlineExceededError("1"), ov.OverloadedError("1")]


def fail(queue: AsyncInferQueue, model: FakeModel, error: Exception) -> None:
    """An inference of the queue ends with an error."""

    def work() -> None:
        raise error

    for request in queue:
        wait_over(request)
    model.work = work
    index = queue.get_idle_request_id()
    queue.start_async(ROW, str(error))
    with pytest.raises(type(error), match=str(error)):
        queue[index].wait()
    model.work = lambda: None


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("callback", [False, True])
def test_after_a_refusal_others_start(refusal: Exception, callback: bool) -> None:
    compiled, model = compile_fake()
    queue = AsyncInferQueue(compiled, 2)
    seen: list[Any] = []
    if callback:
        queue.set_callback(lambda request, tag: seen.append(tag))
    for turn in range(10):
        fail(queue, model, refusal)
        queue.start_async(ROW, turn)
        assert queue.get_idle_request_id() in (0, 1)
    with pytest.raises(type(refusal), match="1"):
        queue.wait_all()
    queue.wait_all()
    assert seen == list(range(10)) * callback


def test_one_refusal_is_kept_and_an_error_comes_before_it() -> None:
    compiled, model = compile_fake()
    queue = AsyncInferQueue(compiled, 2)
    for number in range(100):
        fail(queue, model, ov.OverloadedError(f"refusal {number}"))
    assert len(state_of(queue).refusals) == 1
    fail(queue, model, ov.ModelError("Conv 'c' cannot."))
    for call in (queue.get_idle_request_id, queue.start_async, queue.wait_all):
        with pytest.raises(ov.ModelError, match="Conv 'c' cannot"):
            call()
    queue.wait_all()
    fail(queue, model, ov.OverloadedError("a new one"))
    with pytest.raises(ov.OverloadedError, match="a new one"):
        queue.wait_all()


@pytest.mark.parametrize("error", [*REFUSALS, ov.ModelError("1")])
def test_each_failure_is_told_to_who_wants_to_know(error: Exception) -> None:
    compiled, model = compile_fake()
    queue = AsyncInferQueue(compiled, 2)
    seen: list[Any] = []

    def on_error(request: ov.InferRequest, tag: Any) -> None:
        assert request in list(queue)
        with pytest.raises(type(error)) as raised:
            request.wait()
        seen.append((tag, raised.value))

    queue.set_callback(lambda request, tag: seen.append((tag, None)), on_error=on_error)
    for turn in range(3):
        fail(queue, model, error)
        queue.start_async(ROW, turn)
        queue.wait_all()  # there is nothing left to raise
    assert seen == [("1", error), (0, None), ("1", error), (1, None), ("1", error), (2, None)]
    queue.set_callback(lambda request, tag: None)
    fail(queue, model, error)
    assert len(seen) == 6
    with pytest.raises(type(error)):
        queue.wait_all()


def test_what_on_error_raises_is_kept() -> None:
    compiled, model = compile_fake()
    queue = AsyncInferQueue(compiled, 1)
    queue.set_callback(lambda request, tag: None, on_error=lambda request, tag: request.wait())
    fail(queue, model, ov.DeadlineExceededError("late"))
    queue.get_idle_request_id()
    with pytest.raises(ov.DeadlineExceededError, match="late"):
        queue.wait_all()
    queue.set_callback(lambda request, tag: None, on_error=lambda request, tag: {}[tag])
    fail(queue, model, ov.DeadlineExceededError("late"))
    for call in (queue.start_async, queue.wait_all):
        with pytest.raises(KeyError, match="late"):
            call()


def test_on_error_may_not_wait_for_its_own_queue() -> None:
    compiled, model = compile_fake()
    queue = AsyncInferQueue(compiled, 1)
    queue.set_callback(lambda request, tag: None, on_error=lambda request, tag: queue.wait_all())
    fail(queue, model, ov.ModelError("1"))
    with pytest.raises(BusyError, match="cannot wait for its own queue"):
        queue.wait_all()


def test_the_callback_must_be_callable(queue: AsyncInferQueue) -> None:
    with pytest.raises(InvalidArgumentError, match="must be callable"):
        queue.set_callback(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="must be callable"):
        queue.set_callback(print, on_error=1)  # type: ignore[arg-type]
    assert state_of(queue).callback is None


def test_a_callback_may_start_more_but_not_wait_for_its_own_queue() -> None:
    compiled, _ = compile_fake()
    queue = AsyncInferQueue(compiled, 2)
    seen: list[int] = []

    def callback(request: ov.InferRequest, tag: int) -> None:
        seen.append(tag)
        if tag == 0:
            queue.start_async(ROW, 1)
            with pytest.raises(BusyError, match="cannot wait for its own queue"):
                queue.start_async(ROW, 2)
            with pytest.raises(BusyError, match="cannot wait for its own queue"):
                queue.wait_all()

    queue.set_callback(callback)
    queue.start_async(ROW, 0)
    for request in queue:
        request.wait()
    for request in queue:
        request.wait()
    assert seen == [0, 1]


def test_many_threads_share_a_queue() -> None:
    compiled, _ = compile_fake()
    queue = AsyncInferQueue(compiled, 4)
    lock = threading.Lock()
    seen: set[int] = set()

    def callback(request: ov.InferRequest, tag: int) -> None:
        assert request.results[0][0, 1] == tag
        with lock:
            seen.add(tag)

    queue.set_callback(callback)

    def feed(start: int) -> None:
        for tag in range(start, start + 100):
            queue.start_async(ROW * tag, tag)

    threads = [threading.Thread(target=feed, args=(start,)) for start in range(0, 400, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    queue.wait_all()
    assert seen == set(range(400))


def test_an_interrupted_start_loses_no_request(gated: Gated, gate: Gate) -> None:
    compiled, model = gated
    queue = AsyncInferQueue(compiled, 1)
    model.interrupt = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        queue.start_async(ROW)
    model.interrupt = None
    gate.open()
    with pytest.raises(ov.CancelledError):
        queue.wait_all()
    model.refusal = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        queue.start_async(ROW)
    model.refusal = None
    gate.open()
    queue.start_async(ROW)
    queue.wait_all()
    assert queue.is_ready()


@pytest.mark.skipif(not hasattr(Exception, "add_note"), reason="exceptions have notes since Python 3.11")
def test_the_error_of_a_callback_says_which_inference(queue: AsyncInferQueue) -> None:
    def fail(request: ov.InferRequest, userdata: Any) -> None:
        raise ValueError("as wanted")

    queue.set_callback(fail)
    queue.start_async(ROW, userdata={"job": 7})
    with pytest.raises(ValueError, match="as wanted") as raised:
        queue.wait_all()
    assert raised.value.__notes__ == ["In an AsyncInferQueue, of the inference with userdata {'job': 7}."]
