"""Whole processes: many inferences from many threads, Ctrl-C, leaving early; and what importing and calling cost."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.complaints import complaints
from support.fake_device import compile_fake
from support.onnx_models import chain, one_input
from support.stream_tasks import until

import cpuruntime as ov
from cpuruntime.streams.native import runner
from cpuruntime.testing.probes import call_by, device_of, device_request_of

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import numpy as np
import cpuruntime as ov
from support.onnx_models import one_input
compiled = ov.Core().compile_model(one_input(), {device!r}, {{"PERFORMANCE_HINT": "THROUGHPUT"}})
row = np.ones((2, 3), np.float32)
"""


def start_python(device: str, body: str) -> subprocess.Popen[str]:
    """A Python process that has a model compiled on the device and runs `body`."""
    program = PROGRAM.format(root=str(ROOT), tests=str(ROOT / "tests"), device=device) + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def communicate(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it prints until its end; a process that hangs shows where, and fails the test."""
    try:
        return process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler prints the stacks
        pytest.fail(f"The process hangs.\n{process.communicate()[1]}")


def run_python(device: str, body: str) -> subprocess.CompletedProcess[str]:
    """`start_python`, to its end."""
    with start_python(device, body) as process:
        out, err = communicate(process)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_ten_thousand_inferences_over_eight_requests_from_four_threads(
    compile_on: Callable[..., ov.CompiledModel],
) -> None:
    compiled = compile_on(one_input(), {"PERFORMANCE_HINT": "THROUGHPUT"})
    requests = [compiled.create_infer_request() for _ in range(8)]
    errors: list[BaseException] = []

    def work(first: int, count: int) -> None:
        mine = requests[first : first + 2]
        try:
            for step in range(count):
                values = [np.float32(first * 10_000 + step + k) for k in (0, 1)]
                for request, value in zip(mine, values):
                    request.start_async(np.full((2, 3), value, np.float32))
                for request, value in zip(mine, values):
                    request.wait()
                    assert (request.results[0] == -value).all()
        except BaseException as error:
            errors.append(error)

    def burst(count: int) -> int:
        threads = [threading.Thread(target=work, args=(first, count)) for first in range(0, 8, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()
        return psutil.Process().memory_info().rss

    before = burst(125)
    after = burst(1125)
    assert not errors
    assert after - before < 8 << 20


def test_a_request_dropped_in_flight_leaves_its_memory_to_the_inference() -> None:
    compiled = ov.compile_model(chain(1000, 256), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    (stream,) = device_of(compiled).executor.streams
    request = compiled.create_infer_request()
    arrays = [
        weakref.ref(array) for array in (device_request_of(request).output_array(0), request.get_input_tensor().data)
    ]
    gc.collect()
    request.start_async()
    del request
    alive = [array() is not None for array in arrays]
    assert stream.flight[0] == runner.IN_FLIGHT
    assert alive == [True, True]
    until(lambda: stream.flight[0] == runner.IDLE)
    for _ in range(2):
        other = compiled.create_infer_request()
        other.start_async()
        other.wait()
    gc.collect()
    assert [array() is not None for array in arrays] == [False, False]


@pytest.mark.parametrize(
    "ending",
    [
        "compiled(row); sys.exit(3)",
        "queue = ov.AsyncInferQueue(compiled, 8)\n[queue.start_async(row) for _ in range(9)]\nraise ValueError('mine')",
        "[compiled.create_infer_request().start_async(row) for _ in range(50)]; del compiled",
        "__import__('threading').Thread(target=lambda: [compiled(row) for _ in range(200)]).start()",
    ],
)
def test_a_process_ends_cleanly_with_work_under_way(device: str, ending: str) -> None:
    result = run_python(device, ending)
    expected = 3 if "exit(3)" in ending else int("raise" in ending)
    assert result.returncode == expected, result.stderr
    assert ("ValueError: mine" in result.stderr) == bool(expected == 1)
    assert expected == 1 or complaints(result.stderr) == ""


INTERRUPTED = """
request = compiled.create_infer_request()
queue = ov.AsyncInferQueue(compiled, 2)

def callback(request, tag):
    if tag % 50 == 7:
        raise ValueError("in a callback")

if {called}:
    queue.set_callback(callback)

def work(step):
    try:
        request.infer(row)
        queue.start_async(row, step)
        request.start_async(row)
        queue.start_async(row, step + 1)
        request.wait()
    except ValueError:
        queue_is_empty()

def queue_is_empty():
    for wait in (queue.wait_all, queue.wait_all, request.wait):
        try:
            wait()
        except (ov.CancelledError, ValueError):
            pass

for interrupt in range({interrupts}):
    try:
        print("ready", flush=True)
        step = 0
        while True:
            step += 1
            work(step)
    except KeyboardInterrupt:
        queue_is_empty()
        for _ in range(2):
            queue.start_async(row, 0)
        queue.wait_all()
        print("results", float(request.infer(row)[0][0, 0]), flush=True)
"""


@pytest.mark.parametrize("device", ["CPU", "REFERENCE", "MULTI:CPU(1),REFERENCE(1)"])
@pytest.mark.parametrize("called", [True, False], ids=["with a callback", "without"])
def test_ctrl_c_in_the_middle(device: str, called: bool) -> None:
    interrupts = 25
    with start_python(device, INTERRUPTED.format(interrupts=interrupts, called=called)) as process:
        assert process.stdout is not None
        for interrupt in range(interrupts):
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.01 + interrupt / 1000)  # only so that it comes while work is done; any moment is as good
            process.send_signal(signal.SIGINT)
            with_deadline = threading.Timer(30, process.send_signal, [signal.SIGABRT])
            with_deadline.start()
            line = process.stdout.readline()
            with_deadline.cancel()
            assert line == "results -1.0\n", communicate(process)[1]
        out, err = communicate(process)
        assert (process.returncode, out, complaints(err)) == (0, "", "")


def test_importing_the_package_is_cheap() -> None:
    program = "import sys, cpuruntime; print([m for m in ('numba', 'onnx', 'numpy', 'llvmlite') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout == "[]\n"


def test_with_numpy_the_package_brings_what_inference_needs_and_no_compiler() -> None:
    names = ("cpuruntime.api.core", "numba", "onnx", "llvmlite")
    program = f"import sys, numpy, cpuruntime; print([m for m in {names} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout == "['cpuruntime.api.core']\n"


def test_a_core_loads_neither_the_compiler_nor_the_reference_evaluator() -> None:
    program = "import sys, cpuruntime; cpuruntime.Core(); print([m for m in {} if m in sys.modules])"
    modules = ("numba", "llvmlite", "onnx.reference", "psutil")
    result = subprocess.run(
        [sys.executable, "-c", program.format(modules)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    for name in ov.__all__:
        assert getattr(ov, name) is not None
        assert name in dir(ov)
    with pytest.raises(AttributeError, match="no attribute 'Cor'"):
        _ = ov.Cor
    assert re.match(r"\d+\.\d+\.\d+", ov.__version__)


@pytest.mark.parametrize(("bound", "what"), [(15, "bound"), (25, "copied"), (20, "called"), (20, "asynchronous")])
def test_what_a_call_costs_beyond_the_device(bound: float, what: str) -> None:
    """Microseconds, at a fraction of which the calls are on an idle machine: catches work that creeps in."""
    compiled, _ = compile_fake()
    request = compiled.create_infer_request()
    device_request_of(request).run = lambda: None  # type: ignore[method-assign]
    device_request_of(request).start = lambda terms: None  # type: ignore[method-assign]
    call_by(compiled, request)
    row = np.ones((1, 4), np.float32)

    def asynchronous() -> None:
        request.start_async()
        request.wait()

    calls: dict[str, Callable[[], object]] = {
        "bound": request.infer,
        "copied": lambda: request.infer({"x": row}),
        "called": lambda: compiled({"x": row})["y"],
        "asynchronous": asynchronous,
    }
    call = calls[what]
    best = float("inf")
    for _ in range(30):
        start = time.perf_counter()
        for _ in range(100):
            call()
        best = min(best, time.perf_counter() - start)
    assert best * 1e4 < bound


@pytest.mark.parametrize("rows", [2, "n"], ids=["static", "dynamic"])
def test_the_memory_of_a_model_comes_back_when_it_is_dropped(rows: int | str) -> None:
    """Not at the next garbage collection, which may be late."""
    compiled = ov.Core().compile_model(one_input([rows, 3]), "CPU")
    for _ in range(4):  # the later ones in one step
        compiled(np.ones((2, 3), np.float32))
    programs = weakref.ref(device_of(compiled).programs)
    gc.disable()
    try:
        del compiled
        until(lambda: programs() is None)
        assert programs() is None
    finally:
        gc.enable()
