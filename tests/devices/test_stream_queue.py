"""The queue in front of streams: what begins first, and what ends since its deadline has passed."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest
from support.stream_tasks import Call, Delay, Gate, Neighbours, Run, Whole, until

from cpuruntime.errors import CancelledError, DeadlineExceededError
from cpuruntime.streams.executor import StreamExecutor, create_executor
from cpuruntime.streams.priorities import HIGH, LOW, MEDIUM
from cpuruntime.streams.task import Task

SOON, LATER = 10**12, 10**15  # nanoseconds, both far in the future


@pytest.fixture
def one() -> Iterator[StreamExecutor]:
    """One stream of one thread."""
    executor = StreamExecutor(1, pin=False)
    yield executor
    executor.stop()


def agreed(task: Task, priority: int = MEDIUM, deadline: int = 0) -> Task:
    task.agree(priority, deadline and time.perf_counter_ns() + deadline)
    return task


class TestOrder:
    # The terms in the order in which tasks of them begin.
    TERMS = tuple((priority, span) for priority in (HIGH, MEDIUM, LOW) for span in (SOON, LATER, 0))

    @pytest.mark.parametrize("seed", range(3))
    def test_by_priority_then_deadline(self, one: StreamExecutor, seed: int) -> None:
        gate = Gate(one)
        order: list[tuple[int, int]] = []
        shuffled = sorted(self.TERMS, key=lambda terms: hash((seed, terms)))
        tasks = [agreed(Call(lambda stream, t=terms: order.append(t)), *terms) for terms in shuffled]
        for task in tasks:
            one.submit(task)
        gate.open()
        assert all(task.wait(30) for task in tasks)
        assert order == list(self.TERMS)

    @pytest.mark.parametrize("terms", [(MEDIUM, 0), (HIGH, 0), (LOW, 0)])
    def test_else_in_the_order_of_submission(self, one: StreamExecutor, terms: tuple[int, int]) -> None:
        gate = Gate(one)
        order: list[int] = []
        tasks = [agreed(Call(lambda stream, i=i: order.append(i)), *terms) for i in range(20)]
        for task in tasks:
            one.submit(task)
        gate.open()
        assert all(task.wait(30) for task in tasks)
        assert order == list(range(20))

    def test_a_cancelled_task_leaves_the_order_of_the_others(self, one: StreamExecutor) -> None:
        gate = Gate(one)
        order: list[int] = []
        tasks = [agreed(Call(lambda stream, i=i: order.append(i)), i % 3) for i in range(12)]
        for task in tasks:
            one.submit(task)
        for task in tasks[::4]:
            one.cancel(task)
        gate.open()
        assert all(task.wait(30) for task in tasks)
        assert order == [2, 5, 11, 1, 7, 10, 3, 6, 9]
        assert [type(error) for task in tasks[::4] for error in task.errors] == [CancelledError] * 3

    def test_terms_are_for_good_until_others_are_agreed(self, one: StreamExecutor) -> None:
        order: list[str] = []
        first, second = (Call(lambda stream, name=name: order.append(name)) for name in ("first", "second"))
        agreed(second, HIGH)
        for _ in range(2):
            gate = Gate(one)
            one.submit(first)
            one.submit(second)
            gate.open()
            assert first.wait(30)
            assert second.wait(30)
        agreed(second, LOW)
        gate = Gate(one)
        one.submit(second)
        one.submit(first)
        gate.open()
        assert first.wait(30)
        assert second.wait(30)
        assert order == ["second", "first"] * 2 + ["first", "second"]


@pytest.mark.parametrize("kind", [Run, Whole])
class TestDeadlines:
    def error(self, task: Run) -> BaseException | None:
        """What the latest submission ended with."""
        return task.error

    def test_a_task_that_waits_ends_when_it_passes(self, one: StreamExecutor, kind: type[Run]) -> None:
        """It does not wait for a stream: the only one is taken until the end of the test."""
        gate = Gate(one)
        tasks = [agreed(kind(Neighbours(4, 1).job), deadline=span) for span in (LATER, 20_000_000, 10_000_000)]
        for task in tasks:
            one.submit(task)
        assert all(task.wait(30) for task in tasks[1:])
        for task in tasks[1:]:
            error = self.error(task)
            assert isinstance(error, DeadlineExceededError)
            assert str(error) == "The inference's deadline passed before it began."
            assert task.streams == []
            assert task.deadline <= task.ended <= time.perf_counter_ns()
            assert task.taken == task.ended
        assert not tasks[0].is_over
        gate.open()
        assert tasks[0].wait(30)
        assert self.error(tasks[0]) is None

    def test_one_that_runs_ends_at_a_step(self, one: StreamExecutor, kind: type[Run]) -> None:
        work = Delay(milliseconds=1, steps=20_000)
        task = agreed(kind(work.job), deadline=300_000_000)
        one.submit(task)
        assert task.wait(30)
        completed = work.job.completed
        error = self.error(task)
        assert isinstance(error, DeadlineExceededError)
        assert str(error) == f"The inference's deadline passed after {completed} of 20000 steps."
        assert work.begun == completed < 20_000
        assert task.ended >= task.deadline

    def test_one_whose_deadline_has_passed_runs_nothing(self, one: StreamExecutor, kind: type[Run]) -> None:
        work = Delay(milliseconds=0, steps=3)
        task = kind(work.job)
        task.agree(MEDIUM, time.perf_counter_ns())
        one.submit(task)
        assert task.wait(30)
        assert isinstance(self.error(task), DeadlineExceededError)
        assert "before it began" in str(self.error(task))
        assert work.begun == 0

    def test_one_in_time_is_like_any_other(self, one: StreamExecutor, kind: type[Run]) -> None:
        work = Neighbours(count=8, steps=4)
        task = agreed(kind(work.job), deadline=LATER)
        expected = work.fill(3)
        one.submit(task)
        assert task.wait(30)
        assert self.error(task) is None
        assert work.result.tolist() == expected.tolist()

    def test_cancelled_after_all_it_is_cancelled(self, one: StreamExecutor, kind: type[Run]) -> None:
        work = Delay(milliseconds=1, steps=20_000)
        task = agreed(kind(work.job), deadline=LATER)
        one.submit(task)
        until(lambda: work.begun > 0)
        one.cancel(task)
        assert task.wait(30)
        assert isinstance(self.error(task), CancelledError)

    @pytest.mark.parametrize("shape", [(0, 1), (1, 2), (2, 1)], ids=str)
    def test_many_of_all_terms(self, kind: type[Run], shape: tuple[int, int]) -> None:
        """From four threads; each ends once, right or too late."""
        executor = create_executor(*shape, pin=False)
        wrong: list[object] = []

        def client(number: int) -> None:
            works = [Neighbours(count=24, steps=6) for _ in range(3)]
            tasks = [kind(work.job) for work in works]
            spans = itertools.cycle((0, LATER, 1_000, 30_000, 200_000))
            for turn in range(400):
                expected = [work.fill(turn + i) for i, work in enumerate(works)]
                for task in tasks:
                    executor.submit(agreed(task, turn % 3, next(spans)))
                for task, work, right in zip(tasks, works, expected):
                    if not task.wait(60):
                        wrong.append((number, turn, "is not over"))
                    error = self.error(task)
                    late = isinstance(error, DeadlineExceededError) and 0 < task.deadline <= task.ended
                    if not late and (error is not None or work.result.tolist() != right.tolist()):
                        wrong.append((number, turn, error))
                    task.errors.clear()

        clients = [threading.Thread(target=client, args=(i,)) for i in range(4)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        executor.stop()
        assert wrong == []
