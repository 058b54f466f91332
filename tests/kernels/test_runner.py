"""The native runner: every step runs once and in order, on every thread, and nothing hangs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support.stream_tasks import Delay, Neighbours, delay, program, until, where_am_i

from cpuruntime.errors import CancelledError, InvalidArgumentError
from cpuruntime.streams.job import Control, Job
from cpuruntime.streams.thread_group import ThreadGroup

ALLOWED = sorted(os.sched_getaffinity(0))


@pytest.fixture(params=[1, 2, 3, 5])
def group(request: pytest.FixtureRequest) -> Iterator[ThreadGroup]:
    """A group that floats; on a small machine it has more threads than there are cores."""
    group = ThreadGroup(request.param)
    yield group
    group.stop()


def test_steps_see_what_the_step_before_wrote(group: ThreadGroup) -> None:
    work = Neighbours(count=61, steps=41)
    for seed in range(20):
        expected = work.fill(seed)
        group.run(work.job)
        np.testing.assert_array_equal(work.result, expected)
        assert work.job.completed == 41


def test_one_step_and_few_items(group: ThreadGroup) -> None:
    work = Neighbours(count=1, steps=1)
    expected = work.fill(5)
    group.run(work.job)
    np.testing.assert_array_equal(work.result, expected)


def test_many_short_runs(group: ThreadGroup) -> None:
    work = Neighbours(count=16, steps=2)
    expected = work.fill(1)
    for _ in range(500):
        work.fill(1)
        group.run(work.job)
        assert work.result.tolist() == expected.tolist()


def test_more_threads_than_processors_pinned_to_one() -> None:
    group = ThreadGroup(4, [ALLOWED[0]] * 4)
    work = Neighbours(count=64, steps=60)
    expected = work.fill(3)
    try:
        group.run(work.job, pin_caller=True)
    finally:
        group.stop()
    np.testing.assert_array_equal(work.result, expected)


def is_asleep(thread: str) -> bool:
    """Whether the thread waits in the kernel: one that spins runs or wants to."""
    return Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(") ")[2].startswith("S")


def test_workers_sleep_and_wake_again() -> None:
    before = set(os.listdir("/proc/self/task"))
    group = ThreadGroup(2)
    workers = set(os.listdir("/proc/self/task")) - before
    assert workers
    work = Neighbours(count=8, steps=3)
    for _ in range(5):
        expected = work.fill(2)
        group.run(work.job)
        assert work.result.tolist() == expected.tolist()
        until(lambda: all(map(is_asleep, workers)))
    group.stop()


def test_steps_are_timed() -> None:
    group = ThreadGroup(2)
    job = program([(delay, (200_000, 0)), (delay, (1_000_000, 0)), (delay, (0, 0))])
    assert job.step_times is None
    job.time_steps()
    group.run(job)
    times = job.step_times
    assert times is not None
    assert times[0] >= 200_000
    assert times[1] >= 1_000_000
    assert 1_200_000 <= times.sum() <= job.elapsed
    job.time_steps(0)
    group.run(job)
    assert job.step_times is None
    group.stop()


def test_shares_of_steps_are_timed(group: ThreadGroup) -> None:
    job = program([(delay, (1_000_000, 0))] * 3, alone=lambda i: i == 1)
    job.time_steps(group.threads)
    for _ in range(2):
        group.run(job)
        clocks = job.clock()
        began, ended, done = clocks[:3], clocks[1:4], clocks[4:].reshape(-1, 3)
        assert len(done) == group.threads
        if group.threads > 1:
            assert (done[0, [0, 2]] >= began[[0, 2]] + 1_000_000).all()
            assert (done[:, 2] >= done[:, 0] + 1_000_000).all()
            assert (done[:, [0, 2]] <= ended[[0, 2]]).all()
        assert (done[:, 1] < began[1]).all()


ALONE: dict[str, Callable[[int], bool]] = {
    "all": lambda i: True,
    "the first": lambda i: i < 4,
    "the last": lambda i: i >= 30,
    "every other": lambda i: i % 2 == 1,
    "two of three": lambda i: i % 3 > 0,
    "in the middle": lambda i: 10 <= i < 20,
}


@pytest.mark.parametrize("which", ALONE)
def test_steps_of_one_thread_among_shared_ones(group: ThreadGroup, which: str) -> None:
    alone = ALONE[which]
    work, turns = Neighbours(count=61, steps=41, alone=alone), Delay(milliseconds=0, steps=41, alone=alone)
    for seed in range(20):
        expected = work.fill(seed)
        group.run(work.job)
        np.testing.assert_array_equal(work.result, expected)
        group.run(turns.job)
    assert turns.begun == 20 * sum(1 if alone(i) else group.threads for i in range(41))


@pytest.mark.parametrize("which", ALONE)
def test_a_cancelled_run_with_steps_of_one_thread(group: ThreadGroup, which: str) -> None:
    cancelled = [Neighbours(16, steps, ALONE[which]) for steps in (40, 39, 12, 2)]
    work = Neighbours(count=16, steps=3)
    control = Control()
    control.cancel()
    for seed in range(50):
        for one in cancelled:
            with pytest.raises(CancelledError):
                group.run(one.job, control)
            assert one.job.completed == 1
        expected = work.fill(seed)
        group.run(work.job)
        assert work.result.tolist() == expected.tolist()


@pytest.mark.parametrize("which", ALONE)
def test_a_run_cancelled_at_any_step(which: str) -> None:
    group = ThreadGroup(2)
    work = Delay(milliseconds=0.05, steps=41, alone=ALONE[which])
    control = Control()
    for delay_by in range(0, 40, 3):
        runner = threading.Thread(target=_run_or_cancel, args=(group, work.job, control))
        before = work.begun
        runner.start()
        while work.begun - before < delay_by and runner.is_alive():
            os.sched_yield()
        control.cancel()
        runner.join(30)
        assert not runner.is_alive()
        completed = work.job.completed
        assert work.begun - before == sum(1 if ALONE[which](i) else 2 for i in range(completed))
        control.clear()
    group.stop()


def _run_or_cancel(group: ThreadGroup, job: Job, control: Control) -> None:
    with suppress(CancelledError):
        group.run(job, control)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_cancelled_run_ends_at_a_step_boundary(threads: int) -> None:
    group = ThreadGroup(threads)
    work = Delay(milliseconds=5, steps=1_000)
    work.job.time_steps()
    control = Control()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            group.run(work.job, control)
        except CancelledError as error:
            errors.append(error)

    runner = threading.Thread(target=run)
    runner.start()
    while not work.begun:
        os.sched_yield()
    control.cancel()
    runner.join()
    completed = work.job.completed
    assert 1 <= completed < 1_000
    assert work.begun == completed * threads
    assert f"after {completed} of 1000 steps" in str(errors[0])
    times = work.job.step_times
    assert times is not None
    assert (times[:completed] >= 5_000_000).all()
    assert not times[completed:].any()

    after = Neighbours(count=9, steps=5)
    expected = after.fill(0)
    group.run(after.job)
    assert after.result.tolist() == expected.tolist()
    group.stop()


@pytest.mark.parametrize("threads", [2, 3])
def test_a_run_after_a_cancelled_one_is_whole(threads: int) -> None:
    """Workers that leave a cancelled run late do not take part in the next one's steps as if it were the old one."""
    group = ThreadGroup(threads)
    cancelled, work = Neighbours(count=16, steps=50), Neighbours(count=16, steps=3)
    control = Control()
    control.cancel()
    for seed in range(300):
        with pytest.raises(CancelledError):
            group.run(cancelled.job, control)
        assert cancelled.job.completed == 1
        expected = work.fill(seed)
        group.run(work.job)
        assert work.result.tolist() == expected.tolist()
    group.stop()


def test_an_interrupted_group_runs_nothing_to_the_end() -> None:
    group = ThreadGroup(2)
    group.interrupt()
    with pytest.raises(CancelledError):
        group.run(Neighbours(count=4, steps=3).job)
    group.stop()


def test_workers_run_where_they_are_pinned() -> None:
    places = np.full(len(ALLOWED), -1, np.int64)
    group = ThreadGroup(len(ALLOWED), ALLOWED)
    mine = os.sched_getaffinity(0)
    for _ in range(20):
        places[:] = -1
        # A new job: a caller is not pinned for one that is known to be short if it is on the right processor already.
        job = program([(where_am_i, (places.ctypes.data,))])
        group.run(job, pin_caller=True)
        assert places.tolist() == ALLOWED
        assert os.sched_getaffinity(0) == mine
    assert not group.unpinned
    assert not group.caller_unpinned
    group.stop()


@pytest.mark.skipif(len(ALLOWED) < 2, reason="needs two processors")
def test_a_caller_elsewhere_is_moved_and_put_back() -> None:
    places = np.full(1, -1, np.int64)
    job = program([(where_am_i, (places.ctypes.data,))])
    group = ThreadGroup(1, [ALLOWED[1]])
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {ALLOWED[0]})
        for _ in range(3):
            group.run(job, pin_caller=True)
            assert places[0] == ALLOWED[1]
            assert os.sched_getaffinity(0) == {ALLOWED[0]}
        group.run(job)
        assert places[0] == ALLOWED[0]
    finally:
        os.sched_setaffinity(0, mine)
    group.stop()


def test_a_thread_that_cannot_be_pinned_runs_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = 8191
    group = ThreadGroup(2, [nowhere, nowhere], "cpurt-x")
    work = Neighbours(count=6, steps=3)
    expected = work.fill(0)
    group.run(work.job, pin_caller=True)
    assert work.result.tolist() == expected.tolist()
    assert group.caller_unpinned
    assert len(group.unpinned) == 1
    assert f"thread cpurt-xt1 could not be pinned to CPU {nowhere}" in group.unpinned[0]
    assert group.unpinned[0] in caplog.text
    group.stop()


def test_threads_are_named_and_gone_after_stop() -> None:
    def names() -> list[str]:
        return sorted(t.name for t in threading.enumerate() if t.name.startswith("cpurt-q"))

    group = ThreadGroup(3, name="cpurt-q")
    worker = next(t for t in threading.enumerate() if t.name == "cpurt-qt2")
    task = f"/proc/self/task/{worker.native_id}"
    with open(f"{task}/comm") as file:
        assert file.read() == "cpurt-qt2\n"
    assert names() == ["cpurt-qt1", "cpurt-qt2"]
    group.stop()
    group.stop()
    assert names() == []
    deadline = time.monotonic() + 30
    while os.path.exists(task):  # the system takes a moment longer than Python
        assert time.monotonic() < deadline


def test_a_dropped_group_ends_its_workers() -> None:
    group = ThreadGroup(3, name="cpurt-d")
    workers = [t for t in threading.enumerate() if t.name.startswith("cpurt-d")]
    del group
    for worker in workers:
        worker.join(100)
    assert [worker.is_alive() for worker in workers] == [False, False]


@pytest.mark.parametrize(
    "table", [np.zeros((0, 2), np.int64), np.zeros((3, 2), np.int32), np.zeros(4, np.int64), np.zeros((2, 3), np.int64)]
)
def test_what_is_no_program_is_refused(table: np.ndarray) -> None:
    with pytest.raises(InvalidArgumentError, match="at least one step"):
        Job(table)


@pytest.mark.parametrize(("threads", "cpus"), [(0, None), (2, [0]), (1, [])])
def test_what_is_no_group_is_refused(threads: int, cpus: list[int] | None) -> None:
    with pytest.raises(InvalidArgumentError, match="a CPU for each"):
        ThreadGroup(threads, cpus)
