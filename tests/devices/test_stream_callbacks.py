"""The threads that call back for streams: no callback keeps a stream or the other callbacks waiting."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
from support.stream_tasks import Call, Delay, Gate, Neighbours, Run, Whole, stream_threads, until

from cpuruntime.errors import CancelledError
from cpuruntime.host.affinity import allowed_cpus
from cpuruntime.streams import callback_pool
from cpuruntime.streams.executor import StreamExecutor
from cpuruntime.streams.task import Stream
from cpuruntime.testing.probes import scheduler_of

ALLOWED = sorted(os.sched_getaffinity(0))


@pytest.fixture(params=[Run, Whole])
def kind(request: pytest.FixtureRequest) -> type[Run]:
    """Tasks that end with the interpreter and without it."""
    return request.param


@pytest.fixture
def one() -> Iterator[StreamExecutor]:
    """One stream of one thread."""
    executor = StreamExecutor(1, cpus=ALLOWED[:1])
    yield executor
    executor.stop()


def test_they_are_not_the_streams(one: StreamExecutor, kind: type[Run]) -> None:
    seen: list[tuple[str, frozenset[int], set[int]]] = []

    def look() -> None:
        seen.append((threading.current_thread().name, allowed_cpus(), os.sched_getaffinity(0)))

    for _ in range(3):
        task = kind(Neighbours(4, 2).job)
        task.start(one, look)
        assert task.wait_called()
    for name, allowed, mask in seen:
        assert name.startswith("cpurt-cb")
        assert sorted(allowed) == ALLOWED
        assert sorted(mask) == (ALLOWED[1:] or ALLOWED)


def test_without_callbacks_there_are_none(one: StreamExecutor) -> None:
    one.submit(task := Whole(Neighbours(4, 2).job))
    assert task.wait(30)
    one.run(Run(Neighbours(4, 2).job))
    assert stream_threads("cpurt-cb") == []


def test_a_job_ends_without_the_interpreter(one: StreamExecutor) -> None:
    """The submitting thread keeps the GIL until the stream has done two jobs."""
    works = [Neighbours(count=8, steps=4) for _ in range(2)]
    tasks = [Whole(work.job) for work in works]
    one.submit(tasks[0])
    assert tasks[0].wait(30)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        for task, work in zip(tasks, works):
            expected = work.fill(2)
            one.submit(task)
            end = time.perf_counter() + 30
            while not task.is_over:
                assert time.perf_counter() < end
            assert work.result.tolist() == expected.tolist()
    finally:
        sys.setswitchinterval(interval)
    assert all(task.wait(30) for task in tasks)
    assert [task.errors for task in tasks] == [[], []]


def test_a_stuck_callback_stops_nothing_else(one: StreamExecutor, kind: type[Run]) -> None:
    release, stuck = threading.Event(), threading.Event()

    def stick() -> None:
        stuck.set()
        assert release.wait(30)

    first = kind(Neighbours(4, 2).job)
    first.start(one, stick)
    assert stuck.wait(30)
    for _ in range(50):
        (task := kind(Neighbours(4, 2).job)).start(one)
        assert task.wait_called()
        one.run(kind(Neighbours(4, 2).job))
    release.set()
    assert first.wait_called()


def test_slow_callbacks_are_called_together(one: StreamExecutor, kind: type[Run]) -> None:
    """They wait for each other, again and again."""
    together = threading.Barrier(10)
    tasks = [kind(Neighbours(4, 2).job) for _ in range(10)]
    for _ in range(5):
        for task in tasks:
            task.start(one, lambda: together.wait(30))
        assert all(task.wait_called() for task in tasks)
    assert not together.broken


def test_there_are_not_more_than_32(one: StreamExecutor, kind: type[Run]) -> None:
    release = threading.Event()
    entered = threading.Semaphore(0)

    def stick() -> None:
        entered.release()
        assert release.wait(30)

    tasks = [kind(Neighbours(4, 2).job) for _ in range(callback_pool.MOST + 5)]
    for task in tasks:
        task.start(one, stick)
    for _ in range(callback_pool.MOST):
        assert entered.acquire(timeout=30)
    one.run(kind(Neighbours(4, 2).job))
    assert len(stream_threads("cpurt-cb")) == callback_pool.MOST
    assert not entered.acquire(blocking=False)
    release.set()
    assert all(task.wait_called() for task in tasks)


def test_a_callback_may_wait_for_another_inference(one: StreamExecutor, kind: type[Run]) -> None:
    inner = kind(Neighbours(4, 2).job)

    def start_and_wait() -> None:
        one.submit(inner)
        assert inner.wait(30)

    (outer := kind(Neighbours(4, 2).job)).start(one, start_and_wait)
    assert outer.wait_called()
    assert inner.is_over
    assert inner.error is outer.error is None


def test_tasks_have_their_errors(one: StreamExecutor) -> None:
    work = Delay(milliseconds=1, steps=20_000)
    one.submit(running := Whole(work.job))
    one.submit(waiting := Whole(Neighbours(4, 2).job))
    until(lambda: work.begun > 0)
    one.cancel(running)
    one.cancel(waiting)
    assert running.wait(30)
    assert waiting.wait(30)
    assert [type(task.error) for task in (running, waiting)] == [CancelledError] * 2
    one.submit(waiting)
    assert waiting.wait(30)
    assert waiting.error is None


def test_stop_waits_for_callbacks(kind: type[Run]) -> None:
    executor = StreamExecutor(2, pin=False)
    called: list[int] = []

    def call(number: int) -> None:
        time.sleep(0.002)  # so that some are still to come when the streams have ended; right without it, too
        called.append(number)

    tasks = [kind(Neighbours(4, 2).job) for _ in range(40)]
    for number, task in enumerate(tasks):
        task.start(executor, partial(call, number))
    executor.stop()
    assert sorted(called) == list(range(40))
    until(lambda: stream_threads("cpurt-") == [])  # the system takes a moment longer than Python


@pytest.mark.parametrize("wait", [False, True])
def test_cancelled_by_stop_all_are_called(wait: bool, kind: type[Run]) -> None:
    executor = StreamExecutor(1)
    gate = Gate(executor)
    tasks = [kind(Neighbours(4, 2).job) for _ in range(20)]
    for task in tasks:
        task.start(executor)
    executor.stop(cancel=True, wait=False)
    gate.open()
    executor.stop(wait=wait)
    assert all(task.wait_called() for task in tasks)
    assert [type(error) for task in tasks for error in task.errors] == [CancelledError] * 20


def test_dropped_with_callbacks_to_come(kind: type[Run]) -> None:
    executor = StreamExecutor(2, pin=False)
    release, over = threading.Event(), threading.Semaphore(0)

    def call() -> None:
        assert release.wait(30)
        over.release()

    for _ in range(10):
        kind(Neighbours(4, 2).job).start(executor, call)
    del executor
    release.set()
    for _ in range(10):
        assert over.acquire(timeout=30)
    until(lambda: stream_threads("cpurt-") == [])


def test_a_function_is_called_once_when_the_task_is_over(one: StreamExecutor) -> None:
    work = Delay(milliseconds=1, steps=20_000)
    calls: list[bool] = []
    called = threading.Event()
    task = Whole(work.job)

    def call() -> None:
        calls.append(task.is_over)
        called.set()

    one.submit(task)
    one.notify(task, call)
    until(lambda: work.begun > 5)
    assert calls == []
    one.cancel(task)
    assert called.wait(30)
    assert calls == [True]
    assert task.errors == []
    called.clear()
    one.notify(task, call)  # it is over already
    assert called.wait(30)
    time.sleep(0.01)
    assert calls == [True, True]


def test_a_submitted_function_is_called_once_without_a_further_notification(
    one: StreamExecutor, kind: type[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    pool = scheduler_of(one).pool
    one.submit(task := kind(Neighbours(4, 2).job), lambda: calls.append(task.is_over))
    until(lambda: calls != [])
    monkeypatch.setattr(pool, "notify", lambda: None)
    for _ in range(20):
        calls.clear()
        one.submit(task, lambda: calls.append(task.is_over))
        until(lambda: calls != [])
        assert calls == [True]
    calls.clear()
    one.submit(task)
    assert task.wait(30)
    monkeypatch.undo()
    one.stop()
    assert calls == []
    assert not pool.waiting


def test_an_interrupted_submission_calls_nothing(one: StreamExecutor, kind: type[Run]) -> None:
    calls: list[int] = []
    task = kind(Neighbours(4, 2).job)
    begin = task.begin

    def struck(stream: Stream) -> None:
        raise KeyboardInterrupt

    task.begin = struck  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        one.submit(task, lambda: calls.append(1))
    task.begin = begin  # type: ignore[method-assign]
    called = threading.Event()
    one.submit(task, called.set)
    assert called.wait(30)
    one.stop()
    assert calls == []


def test_a_function_is_called_at_the_end_of_a_task_in_the_queue(one: StreamExecutor) -> None:
    gate = Gate(one)
    called = threading.Event()
    one.submit(task := Whole(Neighbours(4, 2).job))
    one.notify(task, called.set)
    assert not called.is_set()
    gate.open()
    assert called.wait(30)
    assert task.is_over


def test_callbacks_of_many_threads(kind: type[Run]) -> None:
    executor = StreamExecutor(2, pin=False)
    slow = threading.Event()
    wrong: list[object] = []

    def client(number: int) -> None:
        work = Neighbours(count=16, steps=4)
        task = kind(work.job)
        for turn in range(600):
            # Slow for a while, then quick again: threads take over from each other, and give up doing so.
            expected = work.fill(turn)
            task.start(executor, (lambda: slow.wait(0.001)) if turn % 100 < 3 else None)
            if not task.wait_called() or work.result.tolist() != expected.tolist():
                wrong.append((number, turn))
        if any(task.errors) or task.error is not None:
            wrong.append(task.errors)

    clients = [threading.Thread(target=client, args=(i,)) for i in range(6)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    executor.stop()
    assert wrong == []


def test_python_between_jobs_stays_on_the_stream(one: StreamExecutor) -> None:
    names: list[str] = []

    def note(stream: Stream) -> None:
        names.append(threading.current_thread().name)

    one.submit(task := Call(note))
    assert task.wait(30)
    assert names == ["cpurt-s0t0"]
