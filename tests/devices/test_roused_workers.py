"""Workers that sleep wake up while a task begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stream_tasks import Neighbours, Run, until

from cpuruntime.streams.executor import StreamExecutor
from cpuruntime.streams.job import Job
from cpuruntime.streams.native import runner
from cpuruntime.streams.task import Stream
from cpuruntime.testing.probes import group_of


@pytest.fixture
def pair() -> Iterator[StreamExecutor]:
    """One stream of two threads."""
    executor = StreamExecutor(1, 2, pin=False)
    yield executor
    executor.stop()


def sleeps() -> int:
    """How often the worker has gone to sleep."""
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().strip() == "cpurt-s0t1":
            lines = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            return int(lines["voluntary_ctxt_switches"])
    raise AssertionError("there is no such thread")


def settle(executor: StreamExecutor) -> None:
    """Waits until the worker sleeps."""
    resting = group_of(executor.streams[0]).word(runner.RESTING)
    until(lambda: resting[0] == 1)
    before = -1
    while before != (before := sleeps()):
        pass


class Patient(Run):
    """A task that begins once its stream's worker has been awake."""

    before = 0

    def begin(self, stream: Stream) -> Job | None:
        until(lambda: sleeps() > self.before)
        return super().begin(stream)


@pytest.mark.parametrize("submits", [False, True])
def test_workers_wake_up_while_a_task_begins(pair: StreamExecutor, submits: bool) -> None:
    work = Neighbours(33, 12)
    task = Patient(work.job)
    for seed in range(3):
        settle(pair)
        expected = work.fill(seed)
        task.before = sleeps()
        if submits:
            pair.submit(task)
            assert task.wait(60)
        else:
            pair.run(task)
        assert task.error is None
        assert work.result.tolist() == expected.tolist()


def test_workers_that_are_roused_for_nothing_sleep_again_and_work_on(pair: StreamExecutor) -> None:
    group = group_of(pair.streams[0])
    work = Neighbours(33, 12)
    for seed in range(100):
        if seed % 10 == 0:
            settle(pair)
        group.rouse()
        if seed % 3:
            expected = work.fill(seed)
            pair.run(Run(work.job))
            assert work.result.tolist() == expected.tolist()
    settle(pair)
