"""What is in flight keeps its memory and its end, whatever strikes, closes or ends meanwhile."""

from __future__ import annotations

import ast
import gc
import inspect
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.onnx_models import chain, one_input, two_inputs
from support.stream_tasks import Delay, Gate, Neighbours, Run, Whole, until

import cpuruntime as ov
from cpuruntime.devices.cpu.model import CpuModel
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.program import Instance
from cpuruntime.program.report import roofs
from cpuruntime.streams import handover
from cpuruntime.streams.executor import StreamExecutor
from cpuruntime.streams.led_stream import LedStream
from cpuruntime.streams.native import runner
from cpuruntime.testing.probes import (
    binding_code,
    check_addresses,
    device_of,
    device_request_of,
    planning_lock_of,
    scheduler_of,
    state_of,
)

TESTS = Path(__file__).resolve().parents[1]
NATIVE = {"insort", "ring_bell", "ring_with_job", "run_for_task", "dispatch", "ring"}


@pytest.fixture
def one() -> Iterator[StreamExecutor]:
    """One stream of one thread."""
    executor = StreamExecutor(1, pin=False)
    yield executor
    executor.stop()


def in_thread(function: Callable[[], object]) -> None:
    """Calls it on another thread, which has to come back."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def test_an_inference_started_in_its_own_callback_is_not_over_when_that_returns() -> None:
    compiled = ov.compile_model(chain(1000, 256), "CPU", {"PERFORMANCE_HINT": "LATENCY", "TUNING_BUDGET_MS": 0})
    (stream,) = device_of(compiled).executor.streams
    queue = ov.AsyncInferQueue(compiled, 1)
    again = threading.Event()

    def start(request: ov.InferRequest, _: object) -> None:
        request.start_async()
        again.set()

    queue.set_callback(start)
    queue.start_async(np.ones((256, 256), np.float32))
    assert again.wait(30)
    until(lambda: not state_of(queue).callers)
    time.sleep(0.001)
    assert stream.flight[0] == runner.IN_FLIGHT
    assert queue[0].is_busy()
    queue[0].wait()
    assert stream.flight[0] == runner.IDLE


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError])
def test_interrupts_do_not_end_a_run_before_it_has_ended(
    one: StreamExecutor, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    work = Delay(5, 2000)
    gate = Gate(one)
    strikes = 3
    wait = Run.wait

    def struck(self: Run, timeout: float | None = None) -> bool:
        nonlocal strikes
        gate.open()
        until(lambda: bool(work.begun))
        if strikes:
            strikes -= 1
            raise kind
        return wait(self, timeout)

    task = Run(work.job)
    monkeypatch.setattr("cpuruntime.streams.executor._Queued.wait", struck)
    with pytest.raises(kind):
        one.run(task)
    assert 0 < work.job.completed < 2000
    until(lambda: scheduler_of(one).idle == one.streams)
    one.submit(after := Run(Neighbours(4, 1).job))
    assert after.wait(30)
    assert after.error is None


def test_a_model_closed_where_its_streams_are_being_looked_at_is_closed(one: StreamExecutor) -> None:
    def close() -> None:
        with scheduler_of(one).mutex:  # as the garbage collector may
            one.stop(wait=False)

    in_thread(close)
    one.stop()
    assert scheduler_of(one).is_finished


def test_what_is_queued_while_the_executor_is_closed_is_executed(
    one: StreamExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch = scheduler_of(one).dispatch
    flying = Whole(Delay(20).job)
    queued = Whole(Neighbours(4, 1).job)

    def late() -> None:
        monkeypatch.setattr(scheduler_of(one), "dispatch", dispatch)
        one.stop(wait=False)
        flying.wait()
        time.sleep(0.05)  # for the leader to see what there is
        dispatch()

    one.submit(flying)
    monkeypatch.setattr(scheduler_of(one), "dispatch", late)
    one.submit(queued)
    assert queued.wait(100)
    in_thread(one.stop)


def test_all_leaders_end_when_something_was_queued_while_the_executor_was_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executor = StreamExecutor(2, pin=False)
    dispatch = scheduler_of(executor).dispatch
    flying = [Whole(Delay(20).job) for _ in range(2)]

    def late() -> None:
        monkeypatch.setattr(scheduler_of(executor), "dispatch", dispatch)
        executor.stop(wait=False)
        assert all(task.wait(100) for task in flying)
        time.sleep(0.05)
        dispatch()

    for task in flying:
        executor.submit(task)
    monkeypatch.setattr(scheduler_of(executor), "dispatch", late)
    executor.submit(queued := Whole(Neighbours(4, 1).job))
    assert queued.wait(100)
    in_thread(executor.stop)


def test_an_interrupt_where_a_stream_gets_a_queued_task_does_not_lose_it(
    one: StreamExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def struck(self: LedStream) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LedStream, "ring", struck)
    monkeypatch.setattr(scheduler_of(one), "lend", lambda task: False)
    one.submit(task := Whole(Neighbours(4, 1).job))
    monkeypatch.undo()
    assert task.wait(100)


def test_a_function_is_called_though_the_executor_ends_meanwhile(
    one: StreamExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = one.start_pool

    def late() -> None:
        start()
        one.stop()

    task = Whole(Delay(20).job)
    one.submit(task)
    monkeypatch.setattr(one, "start_pool", late)
    called = threading.Event()
    one.notify(task, called.set)
    assert called.wait(100)


def test_what_a_slow_callback_adds_is_called_after_the_end(one: StreamExecutor) -> None:
    pool = scheduler_of(one).pool
    called = threading.Event()
    task = Run(Neighbours(4, 1).job)

    def after() -> None:
        until(lambda: pool.has_ended)
        one.notify(task, called.set)

    task.start(one, after)
    one.stop(wait=False)
    assert called.wait(100)


def test_explaining_a_model_keeps_others_from_planning_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = ov.compile_model(one_input((2, 3)), "CPU")
    device: Any = device_of(compiled)
    assert isinstance(device, CpuModel)
    lock, locked = planning_lock_of(device), []

    def is_locked() -> bool:
        with ThreadPoolExecutor(1) as other:
            taken = other.submit(lock.acquire, blocking=False).result()
            return not taken

    monkeypatch.setattr(WeightStore, "nbytes", property(lambda self: locked.append(is_locked()) or 0))
    compiled.explain()
    assert locked == [True]


def test_an_interrupt_while_memory_is_measured_leaves_no_thread_and_no_dead_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrays: list[weakref.ref[np.ndarray]] = []
    alive: list[bool] = []
    go = threading.Event()
    begun = threading.Event()

    def struck() -> int:
        if threading.current_thread() is threading.main_thread():
            assert begun.wait(30)
            raise KeyboardInterrupt
        begun.set()
        assert go.wait(30)
        gc.collect()
        alive.extend(array() is not None for array in arrays)
        return 0

    zeros, roof = np.zeros, roofs.ReadRoof()

    def noted(*arguments: Any, **options: Any) -> np.ndarray:
        array = zeros(*arguments, **options)
        arrays.append(weakref.ref(array))
        return array

    monkeypatch.setattr(roofs.time, "thread_time_ns", struck)
    monkeypatch.setattr(roofs.np, "zeros", noted)
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        roof.measure(1 << 16, threads=2)
    monkeypatch.setattr(roofs.np, "zeros", zeros)
    go.set()
    until(lambda: before.issuperset(threading.enumerate()))
    assert alive
    assert all(alive)


def test_what_a_signal_must_not_split_calls_nothing_but_native_code() -> None:
    functions = [node for node in ast.parse(inspect.getsource(handover)).body if isinstance(node, ast.FunctionDef)]
    assert len(functions) >= 7
    for function in functions:
        inner = list(ast.walk(function))
        called = [ast.unparse(node.func).split(".")[-1] for node in inner if isinstance(node, ast.Call)]
        assert set(called) <= NATIVE, function.name
        assert not any(isinstance(node, (ast.For, ast.While, ast.With, ast.Try)) for node in inner), function.name


def test_interrupts_leave_no_addresses_of_other_memory() -> None:
    compiled = ov.compile_model(two_inputs(("n", 300)), "CPU", {"NUM_STREAMS": 0, "TUNING_BUDGET_MS": 0})
    request = compiled.create_infer_request()
    device: Any = device_request_of(request)
    (stream,) = device_of(compiled).executor.streams
    rows = [np.full((n, 300), n, np.float32) for n in (1, 7)]
    code = binding_code() | {Instance.bind.__code__, Instance.load.__code__, CpuRequest.begin.__code__}
    for large in rows:
        request.infer([large, large])
    events = 0

    def strike(frame: Any, event: str, _: object) -> None:
        nonlocal events
        within = frame.f_code in code or (frame.f_back is not None and frame.f_back.f_code in code)
        if within and event in ("call", "c_return", "return"):
            events -= 1
            if events == 0:
                raise KeyboardInterrupt

    struck = True
    last = 0
    while struck:
        small, large = rows
        request.infer([small, small], share_inputs=last % 2 == 0)
        struck, last = False, last + 1
        events = last
        sys.setprofile(strike)
        try:
            request.infer([large.copy(), large.copy()], share_inputs=True)
        except KeyboardInterrupt:
            struck = True
        finally:
            sys.setprofile(None)
        check_addresses(device, [found for found in stream.state.values() if isinstance(found, Instance)])
    assert last > 20


def test_the_process_ends_cleanly_before_a_long_step_does() -> None:
    script = f"""
import sys, time
import numpy as np
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
from cpuruntime.streams import base
from cpuruntime.streams.executor import create_executor
from support.stream_tasks import Delay, Whole
base.EXIT_PATIENCE = 0.05
class Slow:
    def __init__(self):
        self.sleep = time.sleep
    def __del__(self):
        self.sleep(1)
np.slow = Slow()  # goes after the modules of cpuruntime
executor = create_executor(1, 2, pin=False)
work = Delay(700, 20)
executor.submit(task := Whole(work.job))
while not work.begun:
    time.sleep(0.001)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "streams were still busy 0.05 seconds after the end of the program\n")
