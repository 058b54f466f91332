"""Short jobs that run again on the stream that ran them last, without being handed over."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx.parser
import pytest
from support.onnx_models import two_inputs
from support.stream_tasks import Gate, Neighbours, Run, Whole

import cpuruntime as ov
from cpuruntime.devices.cpu.programs import Programs
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.errors import CancelledError, DeadlineExceededError, Error
from cpuruntime.streams.executor import HAND_OVER, StreamExecutor
from cpuruntime.streams.job import Job
from cpuruntime.streams.task import Stream
from cpuruntime.streams.thread_group import QUICK
from cpuruntime.testing.probes import device_of, device_request_of, group_of, scheduler_of

SHORT, LONG = HAND_OVER // 2, 10 * QUICK


class Versioned(Whole):
    """A task whose job is its own: it may run again without `begin`."""

    def __init__(self, work: Neighbours) -> None:
        super().__init__(work.job)
        self.work = work

    def takes(self, nanoseconds: int) -> None:
        """Has the stream think that the job takes so long."""
        self.job.change(self.job.shared, nanoseconds)

    def begin(self, stream: Stream) -> Job | None:
        self.repeat[0] = self.job.address
        return super().begin(stream)

    @property
    def begun(self) -> int:
        return len(self.streams)


@pytest.fixture
def one() -> Iterator[StreamExecutor]:
    """One stream of one thread."""
    executor = StreamExecutor(1, pin=False)
    yield executor
    executor.stop()


@pytest.fixture
def task(one: StreamExecutor) -> Versioned:
    """A task that the stream has run."""
    task = Versioned(Neighbours(4, 3))
    one.run(task)
    assert task.begun == 1
    task.takes(SHORT)
    return task


def check(task: Versioned, executor: StreamExecutor, begun: int, submits: bool = False) -> None:
    """Runs or submits the task: its result is right, and it began so often by then."""
    expected = task.work.fill(begun)
    if submits:
        assert executor.submit(task) or task.wait(30)
    else:
        executor.run(task)
    assert task.work.result.tolist() == expected.tolist()
    assert task.error is None
    assert task.is_over
    assert task.begun == begun


@pytest.mark.parametrize("submits", [False, True])
def test_a_short_job_runs_again_without_beginning(one: StreamExecutor, task: Versioned, submits: bool) -> None:
    for _ in range(3):
        task.takes(SHORT)
        check(task, one, 1, submits)


def test_a_submission_that_runs_again_is_over_at_once(one: StreamExecutor, task: Versioned) -> None:
    assert one.submit(task)
    assert task.is_over
    task.takes(LONG)
    assert not one.submit(task)
    assert task.wait(30)
    assert task.begun == 2


def test_only_short_jobs_run_again(one: StreamExecutor, task: Versioned) -> None:
    task.takes(LONG)
    check(task, one, 2)
    task.takes((HAND_OVER + QUICK) // 2)
    check(task, one, 2)
    task.takes((HAND_OVER + QUICK) // 2)
    check(task, one, 3, submits=True)
    task.takes(0)
    check(task, one, 4)


def test_a_job_for_several_threads_does_not_run_again() -> None:
    executor = StreamExecutor(1, 2, pin=False)
    shared, alone = Versioned(Neighbours(4, 3)), Versioned(Neighbours(4, 3, alone=lambda step: True))
    for task, begun in ((shared, 2), (alone, 1)):
        executor.run(task)
        task.takes(SHORT)
        check(task, executor, begun)
    executor.stop()


def test_a_task_begins_whose_memory_is_another(one: StreamExecutor, task: Versioned) -> None:
    task.repeat[0] = 0
    check(task, one, 2)
    task.takes(SHORT)
    check(task, one, 2)


def test_a_task_begins_that_was_not_whole(one: StreamExecutor, task: Versioned) -> None:
    task.repeat[0], task.whole = 0, False
    for begun in range(2, 4):
        task.takes(SHORT)
        check(task, one, begun)


def test_a_task_runs_again_after_others(one: StreamExecutor, task: Versioned) -> None:
    one.run(Run(Neighbours(4, 1).job))
    check(task, one, 1)
    one.run(Versioned(Neighbours(4, 1)))
    task.takes(SHORT)
    check(task, one, 1)


def test_what_waits_comes_first(one: StreamExecutor, task: Versioned) -> None:
    gate = Gate(one)
    assert not one.submit(task)
    gate.open()
    assert task.wait(30)
    assert task.begun == 2


def test_a_function_is_called_after_it(one: StreamExecutor, task: Versioned) -> None:
    task.start(one)
    assert task.is_over
    assert task.wait_called()
    assert task.begun == 1


def test_a_passed_deadline_ends_it(one: StreamExecutor, task: Versioned) -> None:
    task.agree(task.priority, 1)
    assert not one.submit(task)
    assert task.is_over
    assert isinstance(task.error, DeadlineExceededError)
    task.takes(SHORT)
    with pytest.raises(DeadlineExceededError):
        one.run(task)
    task.agree(task.priority, 0)
    assert task.job.elapsed == SHORT
    check(task, one, 1)


def test_an_old_cancellation_does_not_end_it(one: StreamExecutor, task: Versioned) -> None:
    task.control.cancel()
    check(task, one, 1)


def test_an_interrupted_stream_ends_it(one: StreamExecutor, task: Versioned) -> None:
    group_of(scheduler_of(one).streams[0]).interrupt()
    with pytest.raises(CancelledError):
        one.run(task)


def test_a_stopped_executor_does_not_run_it(one: StreamExecutor, task: Versioned) -> None:
    one.stop()
    with pytest.raises(Error):
        one.run(task)
    with pytest.raises(Error):
        one.submit(task)


def repeated(request: ov.InferRequest) -> ov.InferRequest:
    """A request that has a job of its own: it was quick once."""
    for _ in range(10_000):
        request.infer()
        if device_request_of(request).repeat[0]:
            return request
    raise AssertionError("no inference of 10,000 took less than 10 us")


ADD = """
<ir_version: 8, opset_import: ["" : 18]>
add (float[N] x) => (float[N] y) { y = Add(x, x) }
"""


@pytest.mark.parametrize("streams", [1, 2])
def test_requests_in_turn_with_shapes_in_turn_give_their_own_results(streams: int) -> None:
    compiled = ov.compile_model(onnx.parser.parse_model(ADD), "CPU", {"NUM_STREAMS": streams})
    requests = [compiled.create_infer_request() for _ in range(3)]
    random = np.random.default_rng(0)
    for turn in range(600):
        request = requests[random.integers(3) if turn % 50 > 25 else turn // 200]
        array = random.standard_normal(random.choice([3, 4, 8]), np.float32)
        if turn % 3:
            result = request.infer(array, share_inputs=turn % 2 == 0)[0]
        else:
            request.start_async(array, share_inputs=turn % 2 == 0)
            request.wait()
            result = request.results[0]
        np.testing.assert_array_equal(result, array + array)


def test_memory_that_a_user_sets_is_what_the_next_inference_works_on() -> None:
    compiled = ov.compile_model(two_inputs((4,)), "CPU", {"NUM_STREAMS": 1})
    request = compiled.create_infer_request()
    device = device_request_of(request)
    arrays = [np.full(4, number, np.float32) for number in range(4)]
    for array in arrays:
        repeated(request)
        request.set_input_tensor(0, ov.Tensor(array, shared_memory=True))
        assert not device.repeat[0]
        request.set_output_tensor(0, ov.Tensor(output := np.empty_like(request.results[0]), shared_memory=True))
        expected = request.infer()[0].copy()
        assert output.tolist() == expected.tolist()
        assert compiled([array, np.zeros(4, np.float32)])[0].tolist() == expected.tolist()


def test_a_queue_of_short_inferences_gives_each_its_result() -> None:
    compiled = ov.compile_model(onnx.parser.parse_model(ADD.replace("N", "4")), "CPU", {"NUM_STREAMS": 2})
    queue = ov.AsyncInferQueue(compiled, 3)
    for turn in range(300):
        index = queue.get_idle_request_id()
        queue.start_async(np.full(4, turn, np.float32))
        queue[index].wait()
        assert queue[index].get_output_tensor(0).data.tolist() == [2 * turn] * 4
    queue.wait_all()
    assert sorted(state for state in range(3) if not queue[state].is_busy()) == [0, 1, 2]


def test_a_program_that_is_retired_does_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[CpuRequest] = []
    begin = CpuRequest.begin
    compiled = ov.compile_model(two_inputs((4,)), "CPU", {"NUM_STREAMS": 1})
    request = compiled.create_infer_request()
    monkeypatch.setattr(Programs, "is_open", True)  # only then a program may be retired
    request.infer()
    monkeypatch.setattr(CpuRequest, "begin", lambda self, stream: begun.append(self) or begin(self, stream))
    (program,) = device_of(compiled).programs.cached()
    program.is_retired = True
    for number in range(1, 3):
        request.infer()
        assert len(begun) == 2 * number - 1
        request.start_async()
        request.wait()
        assert len(begun) == 2 * number
