"""Streams of several priorities in one process: who gives way, where, and for how long."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest
from support.stream_tasks import Delay, Neighbours, Run, Whole, until

from cpuruntime.errors import CancelledError, DeadlineExceededError
from cpuruntime.streams import priorities
from cpuruntime.streams.base import Executor
from cpuruntime.streams.executor import create_executor
from cpuruntime.streams.native import runner
from cpuruntime.streams.priorities import HIGH, LOW, MEDIUM
from cpuruntime.testing.probes import group_of

ALLOWED = sorted(os.sched_getaffinity(0))
HERE = ALLOWED[0]
LONG = 30_000  # steps; seconds of them


@pytest.fixture(autouse=True)
def _no_claim_is_left() -> Iterator[None]:
    yield
    gc.collect()
    until(lambda: [priorities.live(level) for level in (LOW, MEDIUM, HIGH)] == [0, 0, 0])
    assert not any(priorities.is_claimed(cpu, level) for cpu in ALLOWED for level in (LOW, MEDIUM))


class Busy:
    """An executor of a level with a job in progress that only ends when it is cancelled."""

    def __init__(self, level: int, threads: int = 1, cpus: list[int] | None = None, pin: bool = True) -> None:
        self.executor = create_executor(1, threads, cpus or [HERE], pin, level=level)
        self.work = Delay(milliseconds=0.2, steps=LONG)
        self.task = Whole(self.work.job)

    def start(self) -> Busy:
        """Starts the job and waits until it runs."""
        self.executor.submit(self.task)
        until(lambda: self.work.begun > 0)
        return self

    @property
    def is_parked(self) -> bool:
        """Whether it gives way."""
        return group_of(self.executor.streams[0]).word(runner.PARKED)[0] != 0

    def advances(self, steps: int = 5) -> None:
        """Waits until it has made so many steps more."""
        begun = self.work.begun
        until(lambda: self.work.begun >= begun + steps)

    def end(self) -> None:
        """Ends the job and the executor."""
        self.executor.cancel(self.task)
        assert self.task.wait(30)
        assert isinstance(self.task.error, CancelledError)
        self.executor.stop()


@pytest.mark.parametrize(("lower", "higher"), [(LOW, HIGH), (LOW, MEDIUM), (MEDIUM, HIGH)])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_lower_one_waits_between_steps(lower: int, higher: int, threads: int) -> None:
    cpus = [*ALLOWED, None][:threads]
    if None in cpus:
        pytest.skip("needs two processors")
    low, high = Busy(lower, threads, cpus).start(), Busy(higher, threads, cpus)
    low.advances()
    high.start()
    until(lambda: low.is_parked)
    assert all(priorities.is_claimed(cpu, lower) for cpu in cpus)
    begun = low.work.begun
    high.advances(20)
    assert low.work.begun <= begun + threads  # a step at most, if that takes longer than the lower one's patience
    high.end()
    assert not any(priorities.is_claimed(cpu, lower) for cpu in cpus)
    low.advances()
    low.end()


def test_equals_do_not_wait_for_each_other() -> None:
    for level in (LOW, MEDIUM, HIGH):
        one, other = Busy(level).start(), Busy(level).start()
        for _ in range(3):
            one.advances()
            other.advances()
        assert not one.is_parked
        assert not other.is_parked
        one.end()
        other.end()


def test_nothing_is_claimed_without_a_lower_model() -> None:
    high = Busy(HIGH).start()
    assert not priorities.is_claimed(HERE, LOW)
    high.end()
    medium, high = Busy(MEDIUM).start(), Busy(HIGH).start()
    assert priorities.is_claimed(HERE, MEDIUM)
    high.end()
    medium.end()


@pytest.mark.skipif(len(ALLOWED) < 2, reason="needs two processors")
def test_other_processors_are_left_alone() -> None:
    low, high = Busy(LOW, cpus=ALLOWED[1:2]).start(), Busy(HIGH, cpus=ALLOWED[:1]).start()
    assert priorities.is_claimed(ALLOWED[0], LOW)
    assert not priorities.is_claimed(ALLOWED[1], LOW)
    for _ in range(3):
        high.advances()
        low.advances()
    assert not low.is_parked
    low.end()
    high.end()


def test_threads_that_are_not_pinned_claim_every_processor() -> None:
    low, high = Busy(LOW).start(), Busy(HIGH, pin=False).start()
    until(lambda: low.is_parked)
    high.end()
    low.advances()
    assert not low.is_parked
    low.end()


def test_threads_that_are_not_pinned_give_way_where_they_are() -> None:
    low, high = Busy(LOW, pin=False).start(), Busy(HIGH, len(ALLOWED), ALLOWED).start()
    until(lambda: low.is_parked)
    high.end()
    low.advances()
    assert not low.is_parked
    low.end()


@pytest.mark.parametrize("how", ["cancel", "deadline", "interrupt"])
def test_what_waits_can_be_ended(how: str) -> None:
    low, high = Busy(LOW), Busy(HIGH)
    low.start()
    high.start()
    until(lambda: low.is_parked)
    if how == "cancel":
        low.executor.cancel(low.task)
    elif how == "deadline":
        low.task.control.deadline = 1
    else:
        group_of(low.executor.streams[0]).interrupt()
    assert low.task.wait(30)
    assert isinstance(low.task.error, DeadlineExceededError if how == "deadline" else CancelledError)
    high.advances()
    high.end()
    low.executor.stop()


def test_it_does_not_wait_for_ever() -> None:
    """A stream that waits makes a step a second."""
    low, high = Busy(LOW).start(), Busy(HIGH).start()
    until(lambda: low.is_parked)
    low.advances(1)
    assert priorities.is_claimed(HERE, LOW)
    high.end()
    low.end()


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (0, 1)], ids=str)
@pytest.mark.parametrize("pin", [True, False])
def test_results_are_right_however_often_it_waits(shape: tuple[int, int], pin: bool) -> None:
    executors = [create_executor(*shape, pin=pin, level=level) for level in (LOW, MEDIUM, HIGH)]
    wrong: list[object] = []

    def client(executor: Executor, kind: type[Run], number: int) -> None:
        work = Neighbours(count=24, steps=9, alone=lambda i: i % 3 == number % 3)
        task = kind(work.job)
        for turn in range(400):
            expected = work.fill(turn)
            if turn % 4:
                executor.submit(task)
            else:
                executor.run(task)
            if not task.wait(60) or work.result.tolist() != expected.tolist():
                wrong.append((number, turn))
        wrong.extend(error for error in (*task.errors, task.error) if error)

    clients = [
        threading.Thread(target=client, args=(executor, kind, i))
        for i, (executor, kind) in enumerate((e, k) for e in executors for k in (Run, Whole))
    ]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    for executor in executors:
        executor.stop()
    assert wrong == []


def test_models_are_counted_as_long_as_they_live() -> None:
    executors = [create_executor(count, 1, pin=False, level=LOW) for count in (0, 1, 2)]
    assert priorities.live(LOW) == 3
    executors[1].stop()
    assert priorities.live(LOW) == 2
    executors.clear()
    gc.collect()
    until(lambda: priorities.live(LOW) == 0)


def test_a_failed_start_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start
    starts = []

    def start(self: threading.Thread) -> None:
        starts.append(self.name)
        if len(starts) > 2:
            raise RuntimeError("can't start new thread")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        create_executor(3, 1, pin=False, level=LOW)
