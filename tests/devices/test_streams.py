"""Executors: tasks through queues and streams, with everything that may go wrong on the way."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from support.stream_tasks import (
    Call,
    Delay,
    Gate,
    Neighbours,
    Run,
    Whole,
    program,
    stream_threads,
    until,
    where_am_i,
)

from cpuruntime.errors import CancelledError, Error, InvalidArgumentError
from cpuruntime.host.topology import Topology
from cpuruntime.streams import handover
from cpuruntime.streams.executor import StreamExecutor, create_executor
from cpuruntime.streams.inline import InlineExecutor
from cpuruntime.streams.job import Job
from cpuruntime.streams.task import Signal, Stream
from cpuruntime.testing.probes import scheduler_of, stream_of

ALLOWED = sorted(os.sched_getaffinity(0))
SHAPES = [(1, 1), (1, 2), (2, 1), (3, 2)]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    gc.collect()  # models of other tests, whose threads end with them
    until(lambda: stream_threads("cpurt-") == [])
    yield
    gc.collect()
    until(lambda: stream_threads("cpurt-") == [])
    assert not [t.name for t in threading.enumerate() if t.name.startswith("cpurt-")]


@pytest.fixture(params=[(0, 1), *SHAPES], ids=lambda shape: f"{shape[0]}x{shape[1]}")
def executor(request: pytest.FixtureRequest) -> Iterator[StreamExecutor | InlineExecutor]:
    executor = create_executor(*request.param, pin=False)
    yield executor
    executor.stop()


@pytest.fixture
def one() -> Iterator[StreamExecutor]:
    """One stream of one thread."""
    executor = StreamExecutor(1, cpus=ALLOWED[:1])
    yield executor
    executor.stop()


class TestWork:
    def test_run_and_submit_give_the_same(self, executor: StreamExecutor) -> None:
        work = Neighbours(count=33, steps=12)
        task = Run(work.job)
        for seed in range(50):
            expected = work.fill(seed)
            if seed % 2:
                executor.submit(task)
                assert task.wait(30)
            else:
                executor.run(task)
            assert work.result.tolist() == expected.tolist()
        assert task.errors == [None] * 25

    def test_wait_without_a_submission_returns_at_once(self, one: StreamExecutor) -> None:
        task = Run(Neighbours(4, 1).job)
        assert task.wait()
        one.run(task)
        assert task.wait(0)

    def test_wait_gives_up_at_its_timeout(self, one: StreamExecutor) -> None:
        gate = Gate(one)
        start = time.perf_counter()
        assert not gate.task.wait(0.02)
        assert time.perf_counter() - start >= 0.02
        assert not gate.task.wait(0)
        gate.open()
        assert gate.task.wait()

    def test_tasks_begin_in_the_order_of_submission(self, one: StreamExecutor) -> None:
        gate = Gate(one)
        order: list[int] = []
        tasks = [Call(lambda stream, i=i: order.append(i)) for i in range(20)]
        for task in tasks:
            one.submit(task)
        gate.open()
        assert all(task.wait(30) for task in tasks)
        assert order == list(range(20))

    def test_jobs_and_python_alternate(self, executor: StreamExecutor) -> None:
        log: list[str] = []
        work = Neighbours(count=8, steps=2)

        class Segments(Run):
            left = 3

            def begin(self, stream: Stream) -> Job | None:
                self.left = 3
                return super().begin(stream)

            def resume(self, stream: Stream) -> Job | None:
                log.append(f"{self.left} {work.job.completed}")
                self.left -= 1
                return self.job if self.left else None

        task = Segments(work.job)
        expected = work.fill(1)
        for _ in range(2):
            work.numbers[0] = work.result
        executor.submit(task)
        assert task.wait(30)
        executor.run(task)
        assert log == ["3 2", "2 2", "1 2"] * 2
        assert task.errors == [None]
        assert expected.tolist() != work.result.tolist()

    def test_a_stream_keeps_its_state(self, one: StreamExecutor) -> None:
        def count(stream: Stream) -> None:
            stream.state["calls"] = stream.state.get("calls", 0) + 1

        for _ in range(3):
            one.run(Call(count))
        assert one.streams[0].state == {"calls": 3}

    def test_ten_thousand_tasks_of_four_threads_over_two_streams(self) -> None:
        executor = StreamExecutor(2, pin=False)
        wrong: list[object] = []

        def client(number: int) -> None:
            works = [Neighbours(count=24, steps=6) for _ in range(2)]
            tasks = [Run(work.job) for work in works]
            for turn in range(1250):
                expected = [work.fill(number * 10_000 + turn + i) for i, work in enumerate(works)]
                executor.submit(tasks[0])
                if turn % 5:
                    executor.submit(tasks[1])
                else:
                    executor.run(tasks[1])
                for task, work, right in zip(tasks, works, expected):
                    if not task.wait(60) or work.result.tolist() != right.tolist():
                        wrong.append((number, turn))
            wrong.extend(error for task in tasks for error in task.errors if error)
            assert [len(task.errors) for task in tasks] == [1250, 1000]

        clients = [threading.Thread(target=client, args=(i,)) for i in range(4)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        executor.stop()
        assert wrong == []

    def test_two_executors_at_once(self) -> None:
        executors = [StreamExecutor(1, 2), StreamExecutor(2, 1)]
        works = [[Neighbours(count=16, steps=30) for _ in range(4)] for _ in executors]
        for seed in range(20):
            expected = [[work.fill(seed) for work in row] for row in works]
            tasks = [[Run(work.job) for work in row] for row in works]
            for executor, row in zip(executors, tasks):
                for task in row:
                    executor.submit(task)
            assert all(task.wait(30) for row in tasks for task in row)
            assert [[w.result.tolist() for w in row] for row in works] == [
                [e.tolist() for e in row] for row in expected
            ]
        for executor in executors:
            executor.stop()

    def test_the_start_of_a_task_does_not_wait_for_the_interpreter(self, one: StreamExecutor) -> None:
        """An idle stream starts while the submitting thread keeps the GIL and never gives it away."""
        work = Delay(milliseconds=0)
        task = Run(work.job)
        one.submit(task)
        assert task.wait(30)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        try:
            one.submit(task)
            end = time.perf_counter() + 30
            while work.begun < 2 and time.perf_counter() < end:
                pass
            assert work.begun == 2
            assert task.errors == [None]
        finally:
            sys.setswitchinterval(interval)
        assert task.wait(30)


class TestLoans:
    def test_what_waits_for_a_caller_s_task_follows_in_order(self, one: StreamExecutor) -> None:
        entered, leave = threading.Event(), threading.Event()

        def hold(stream: Stream) -> None:
            entered.set()
            assert leave.wait(30)

        caller = threading.Thread(target=one.run, args=(Call(hold),))
        caller.start()
        assert entered.wait(30)
        order: list[int] = []
        tasks = [Call(lambda stream, i=i: order.append(i)) for i in range(20)]
        for task in tasks:
            one.submit(task)
        assert not order
        leave.set()
        caller.join()
        assert all(task.wait(30) for task in tasks)
        assert order == list(range(20))

    def test_a_loan_ends_once_however_often_it_is_said(self, one: StreamExecutor) -> None:
        core, first, second = scheduler_of(one), Run(Neighbours(4, 1).job), Run(Neighbours(4, 1).job)
        until(lambda: len(core.idle) == 1)
        (stream,) = core.idle
        for task in (first, second):
            with core.mutex:
                assert core.lend(task)
                assert not core.lend(first)
            assert stream_of(task) is stream
            handover.give_back(stream, first, core)
            assert stream.lent is (None if task is first else second)
            handover.give_back(stream, task, core)
            handover.give_back(stream, task, core)
            assert core.idle == [stream]
            assert stream.lent is None


class TestWholeTasks:
    def test_they_are_over_without_the_interpreter(self, one: StreamExecutor) -> None:
        """The submitting thread keeps the GIL from the submission to the end."""
        work = Neighbours(count=8, steps=4)
        task = Whole(work.job)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        try:
            for seed in range(5):
                expected = work.fill(seed)
                start = time.perf_counter_ns()
                one.submit(task)
                while not task.is_over:
                    assert time.perf_counter_ns() - start < 30e9
                assert work.result.tolist() == expected.tolist()
                assert task.error is None
                assert start < task.ended < time.perf_counter_ns()
        finally:
            sys.setswitchinterval(interval)
        assert task.errors == []
        assert task.wait(0)

    def test_they_work_through_the_queue_too(self, executor: StreamExecutor | InlineExecutor) -> None:
        works = [Neighbours(count=33, steps=12) for _ in range(6)]
        tasks = [(Whole if i % 3 else Run)(work.job) for i, work in enumerate(works)]
        for seed in range(300):
            expected = [work.fill(seed + i) for i, work in enumerate(works)]
            for task in tasks:
                executor.submit(task)
            assert all(task.wait(30) for task in tasks)
            assert [work.result.tolist() for work in works] == [e.tolist() for e in expected]
            assert [task.error for task in tasks] == [None] * 6
        assert all(not any(task.errors) for task in tasks)

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_ten_thousand_of_four_threads(self, shape: tuple[int, int]) -> None:
        executor = StreamExecutor(*shape, pin=False)
        wrong: list[object] = []

        def client(number: int) -> None:
            works = [Neighbours(count=24, steps=6, alone=lambda i: i % 3 == number % 3) for _ in range(2)]
            tasks = [Whole(works[0].job), (Run if number % 2 else Whole)(works[1].job)]
            for turn in range(1250):
                expected = [work.fill(number * 10_000 + turn + i) for i, work in enumerate(works)]
                executor.submit(tasks[0])
                if turn % 5:
                    executor.submit(tasks[1])
                else:
                    executor.run(tasks[1])
                for task, work, right in zip(tasks, works, expected):
                    if not task.wait(60) or work.result.tolist() != right.tolist():
                        wrong.append((number, turn))
            wrong.extend(error for task in tasks for error in (*task.errors, task.error) if error)

        clients = [threading.Thread(target=client, args=(i,)) for i in range(4)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        executor.stop()
        assert wrong == []

    def test_a_task_queued_behind_one_in_flight(self, one: StreamExecutor) -> None:
        flying = Delay(milliseconds=20)
        first, second, third = Whole(flying.job), Run(Neighbours(4, 1).job), Whole(Neighbours(4, 1).job)
        one.submit(first)
        one.submit(second)
        one.submit(third)
        assert all(task.wait(30) for task in (second, third))
        assert first.is_over
        assert (second.errors, third.errors, third.error) == ([None], [None], None)

    def test_what_begin_raises(self, one: StreamExecutor) -> None:
        class Bad(Whole):
            def begin(self, stream: Stream) -> Job | None:
                raise ValueError("no such shape")

        task = Bad(Neighbours(4, 1).job)
        one.submit(task)
        assert task.wait(30)
        assert [str(error) for error in task.errors] == ["no such shape"]

    def test_cancelled_in_flight(self, one: StreamExecutor) -> None:
        work = Delay(milliseconds=5, steps=2_000)
        task = Whole(work.job)
        one.submit(task)
        until(lambda: work.begun > 0)
        one.cancel(task)
        assert task.wait(30)
        assert isinstance(task.error, CancelledError)
        again = Whole(Neighbours(4, 3).job)
        one.submit(again)
        assert again.wait(30)
        assert again.error is None

    @pytest.mark.parametrize("cancel", [False, True])
    def test_stop_waits_for_what_is_in_flight(self, cancel: bool) -> None:
        executor = StreamExecutor(2, pin=False)
        works = [Delay(milliseconds=5, steps=4) for _ in range(2)]
        tasks = [Whole(work.job) for work in works]
        for task in tasks:
            executor.submit(task)
        executor.stop(cancel)
        assert [task.error for task in tasks] == [None, None]
        assert all(task.is_over for task in tasks)
        with pytest.raises(Error, match="takes no more inferences"):
            executor.submit(tasks[0])
        assert tasks[0].is_over

    def test_dropped_in_flight(self) -> None:
        executor = StreamExecutor(1)
        work = Delay(milliseconds=5, steps=4)
        task = Whole(work.job)
        executor.submit(task)
        dropped = [weakref.ref(executor), weakref.ref(task)]
        del executor, task
        assert [one() for one in dropped] == [None, None]
        until(lambda: stream_threads() == [])
        assert work.job.completed == 4

    def test_a_signal_of_several(self) -> None:
        executor = StreamExecutor(2, pin=False)
        fast, slow = Whole(Neighbours(4, 1).job), Whole(Delay(milliseconds=5, steps=2_000).job)
        signal = Signal([fast, slow])
        executor.submit(slow)
        for _ in range(5):
            count = signal.count
            executor.submit(fast)
            while signal.count == count:
                signal.wait(count)
            assert (fast.is_over, slow.is_over) == (True, False)
        count = signal.count
        executor.cancel(slow)
        while signal.count == count:
            signal.wait(count)
        assert slow.is_over
        executor.stop()


class TestPlaces:
    def test_threads_are_pinned_to_distinct_processors(self) -> None:
        cpus = Topology.read().order()
        executor = StreamExecutor(len(cpus), cpus=cpus)
        assert executor.unpinned == []
        assert [stream.cpus for stream in executor.streams] == [(cpu,) for cpu in cpus]
        seen: list[int] = []
        together = threading.Barrier(len(cpus))

        def look(stream: Stream) -> None:
            together.wait(30)
            assert stream.cpus is not None
            place = np.full(1, -1, np.int64)
            job = program([(where_am_i, (place.ctypes.data,))])
            stream.run(job)
            assert os.sched_getaffinity(0) == set(stream.cpus) == {int(place[0])}
            seen.append(int(place[0]))

        tasks = [Call(look) for _ in cpus]
        for task in tasks:
            executor.submit(task)
        assert all(task.wait(30) for task in tasks)
        assert [task.errors for task in tasks] == [[None]] * len(cpus)
        assert sorted(seen) == sorted(cpus)
        executor.stop()

    def test_too_few_processors_pin_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        executor = StreamExecutor(3, 2, cpus=ALLOWED[:1])
        assert "3 streams of 2 threads need more than 1 CPUs" in executor.unpinned[0]
        assert executor.unpinned[0] in caplog.text
        assert [stream.cpus for stream in executor.streams] == [None] * 3
        task = Call(lambda stream: None if os.sched_getaffinity(0) == set(ALLOWED) else pytest.fail("pinned"))
        executor.run(task)
        executor.submit(task)
        assert task.wait(30)
        assert task.errors == [None]
        executor.stop()

    def test_a_pinning_that_fails_is_told(self) -> None:
        executor = StreamExecutor(1, 2, cpus=[8190, 8191])
        assert sorted(reason.split(":")[0] for reason in executor.unpinned) == [
            "thread cpurt-s0t0 could not be pinned to CPU 8190",
            "thread cpurt-s0t1 could not be pinned to CPU 8191",
        ]
        executor.run(Run(Neighbours(4, 2).job))
        executor.stop()

    def test_a_callback_sees_the_processors_that_the_user_allows(self, one: StreamExecutor) -> None:
        seen: list[list[int]] = []
        task = Call(lambda stream: seen.append(sorted(cpu.index for cpu in Topology.read().cpus)))
        one.submit(task)
        assert task.wait(30)
        assert seen == [ALLOWED]

    def test_names(self) -> None:
        executor = StreamExecutor(2, 2, pin=False)
        assert stream_threads() == ["cpurt-s0t0", "cpurt-s0t1", "cpurt-s1t0", "cpurt-s1t1"]
        executor.stop()

    def test_idle_streams_use_no_processor_time(self) -> None:
        executor = StreamExecutor(2, 2, pin=False)
        task = Run(Neighbours(16, 4).job)
        executor.submit(task)
        assert task.wait(30)
        executor.run(task)
        threading.Event().wait(0.02)
        before = time.process_time()
        threading.Event().wait(0.3)
        assert time.process_time() - before < 0.01
        executor.stop()


class TestErrors:
    def test_what_a_task_raises_is_its_result(self, executor: StreamExecutor) -> None:
        def fail(stream: Stream) -> None:
            raise KeyError("broken")

        task = Call(fail)
        with pytest.raises(KeyError, match="broken"):
            executor.run(task)
        executor.submit(task)
        assert task.wait(30)
        assert [repr(error) for error in task.errors] == ["KeyError('broken')"]
        executor.run(Run(Neighbours(4, 1).job))

    def test_what_begin_raises_is_the_result_too(self, executor: StreamExecutor) -> None:
        class Bad(Run):
            def begin(self, stream: Stream) -> Job | None:
                raise ValueError("no such shape")

        task = Bad(Neighbours(4, 1).job)
        for _ in range(3):
            executor.submit(task)
            assert task.wait(30)
        assert [str(error) for error in task.errors] == ["no such shape"] * 3
        with pytest.raises(ValueError, match="no such shape"):
            executor.run(task)

    def test_a_task_that_fails_in_the_queue(self, one: StreamExecutor) -> None:
        gate = Gate(one)
        task = Call(lambda stream: 1 / 0)  # type: ignore[arg-type,return-value]
        one.submit(task)
        gate.open()
        assert task.wait(30)
        assert isinstance(task.errors[0], ZeroDivisionError)

    def test_a_callback_that_raises_is_logged(self, executor: StreamExecutor, caplog: pytest.LogCaptureFixture) -> None:
        def fail() -> None:
            raise RuntimeError("callback broken")

        task = Run(Neighbours(4, 1).job)
        for number in range(1, 4):
            executor.submit(task)
            executor.notify(task, fail)
            assert task.wait(30)
            # It is logged after the call, maybe while other threads call back: only a hang ends this wait.
            hang = time.monotonic() + 30
            while caplog.text.count("RuntimeError: callback broken") < number and time.monotonic() < hang:
                time.sleep(0.001)
        assert caplog.text.count("RuntimeError: callback broken") == 3
        executor.run(task)

    @pytest.mark.parametrize("shape", [(-1, 1), (1, 0)])
    def test_numbers_that_make_no_executor(self, shape: tuple[int, int]) -> None:
        with pytest.raises(InvalidArgumentError, match="at least one of each"):
            create_executor(*shape)


class TestCallbacks:
    def test_a_task_submitted_again_by_its_own_callback(self) -> None:
        executor = StreamExecutor(1)
        left = [200]
        over = threading.Event()

        def again() -> None:
            left[0] -= 1
            if left[0]:
                task.start(executor, again)
            else:
                over.set()

        task = Run(Neighbours(8, 2).job)
        task.start(executor, again)
        assert over.wait(30)
        assert task.wait(30)
        assert task.errors == [None] * 200
        executor.stop()

    def test_run_within_a_callback(self, executor: StreamExecutor) -> None:
        work = Neighbours(count=8, steps=3)
        inner = Run(work.job)
        expected = work.fill(4)
        outer = Run(Neighbours(4, 1).job)
        outer.start(executor, lambda: executor.run(inner))
        assert outer.wait_called()
        assert outer.errors == [None]
        assert work.result.tolist() == expected.tolist()

    def test_stop_within_a_callback(self) -> None:
        executor = StreamExecutor(2, 2, pin=False)
        gate = Gate(executor)
        task = Run(Neighbours(8, 2).job)
        task.start(executor, executor.stop)
        assert task.wait_called()
        gate.open()
        executor.stop()
        with pytest.raises(Error, match="takes no more inferences"):
            executor.submit(task)
        with pytest.raises(Error, match="takes no more inferences"):
            executor.run(task)
        assert task.wait(1)


class TestCancel:
    def test_a_queued_task_never_begins(self, one: StreamExecutor) -> None:
        gate = Gate(one)
        task = Run(Neighbours(4, 1).job)
        one.submit(task)
        one.cancel(task)
        assert task.wait(30)
        assert isinstance(task.errors[0], CancelledError)
        assert task.streams == []
        gate.open()
        one.submit(task)
        assert task.wait(30)
        assert task.errors[1:] == [None]

    def test_a_running_task_ends_at_a_step_boundary(self, executor: StreamExecutor) -> None:
        work = Delay(milliseconds=5, steps=2_000)
        task = Run(work.job)
        submitting = threading.Thread(target=executor.submit, args=(task,))
        submitting.start()
        until(lambda: work.begun > 0)
        executor.cancel(task)
        submitting.join()
        assert task.wait(30)
        assert isinstance(task.errors[0], CancelledError)
        assert work.job.completed < 2_000

    def test_a_task_that_is_over_is_left_alone(self, one: StreamExecutor) -> None:
        task = Run(Neighbours(4, 3).job)
        one.submit(task)
        assert task.wait(30)
        one.cancel(task)
        assert task.errors == [None]
        one.run(task)


class TestStop:
    def test_queued_tasks_are_finished(self) -> None:
        executor = StreamExecutor(1)
        gate = Gate(executor)
        tasks = [Run(Neighbours(8, 3).job) for _ in range(5)]
        for task in tasks:
            executor.submit(task)
        executor.stop(wait=False)
        gate.open()
        executor.stop()
        assert [task.errors for task in tasks] == [[None]] * 5

    def test_queued_tasks_are_cancelled_when_asked(self) -> None:
        executor = StreamExecutor(1)
        gate = Gate(executor)
        tasks = [Run(Neighbours(8, 3).job) for _ in range(5)]
        for task in tasks:
            executor.submit(task)
        executor.stop(cancel=True, wait=False)
        assert all(task.wait(30) for task in tasks)
        gate.open()
        executor.stop()
        assert all(isinstance(task.errors[0], CancelledError) for task in tasks)
        assert gate.task.errors == [None]

    def test_stop_waits_for_a_caller_that_executes_a_task_itself(self) -> None:
        executor = StreamExecutor(1)
        work = Delay(milliseconds=5, steps=10)
        caller = threading.Thread(target=executor.run, args=(Run(work.job),))
        caller.start()
        until(lambda: work.begun > 0)
        executor.stop()
        assert work.job.completed == 10
        caller.join()

    def test_a_waiting_run_is_cancelled(self) -> None:
        executor = StreamExecutor(1)
        gate = Gate(executor)
        errors: list[BaseException] = []

        def run() -> None:
            try:
                executor.run(Run(Neighbours(4, 1).job))
            except CancelledError as error:
                errors.append(error)

        caller = threading.Thread(target=run)
        caller.start()
        until(lambda: len(scheduler_of(executor).queue) == 1)
        executor.stop(cancel=True, wait=False)
        caller.join()
        gate.open()
        executor.stop()
        assert "before this inference began" in str(errors[0])

    def test_a_dropped_executor_ends_its_threads(self) -> None:
        executor = StreamExecutor(2, 2, pin=False)
        task = Run(Neighbours(8, 2).job)
        executor.submit(task)
        assert task.wait(30)
        assert len(stream_threads()) == 4
        del executor
        until(lambda: stream_threads() == [])

    def test_an_executor_dropped_while_its_tasks_run(self) -> None:
        executor = StreamExecutor(1)
        dropped = weakref.ref(executor)
        tasks = [Run(Delay(milliseconds=1, steps=10).job) for _ in range(5)]
        for task in tasks:
            executor.submit(task)
        del executor
        assert dropped() is None
        assert all(task.wait(30) for task in tasks)
        assert [task.errors for task in tasks] == [[None]] * 5

    def test_an_executor_that_only_its_task_refers_to(self) -> None:
        class Owner(Run):
            executor: StreamExecutor

        task = Owner(Delay(milliseconds=1, steps=5).job)
        task.executor = StreamExecutor(2)
        task.executor.submit(task)
        dropped = weakref.ref(task)
        del task
        until(lambda: dropped() is None)

    def test_dropped_by_the_collector_of_cycles(self) -> None:
        executor = StreamExecutor(2)
        cycle: list[object] = [executor]
        cycle.append(cycle)
        executor.run(Run(Neighbours(4, 1).job))
        del executor, cycle
        gc.collect()
        until(lambda: stream_threads() == [])

    def test_stopping_again_and_without_use(self, executor: StreamExecutor) -> None:
        executor.stop()
        executor.stop(cancel=True)
        with pytest.raises(Error, match="takes no more inferences"):
            executor.run(Run(Neighbours(4, 1).job))

    def test_a_failed_start_leaves_no_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real, starts = threading.Thread.start, []

        def start(self: threading.Thread) -> None:
            starts.append(self.name)
            if len(starts) > 4:
                raise RuntimeError("can't start new thread")
            real(self)

        monkeypatch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            StreamExecutor(2, 3, pin=False)
        monkeypatch.undo()
        until(lambda: stream_threads() == [])


def test_nothing_is_logged_in_ordinary_use(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        executor = StreamExecutor(1)
        executor.run(Run(Neighbours(4, 1).job))
        executor.stop()
    assert caplog.records == []
