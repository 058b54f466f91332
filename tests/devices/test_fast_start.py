"""COMPILE_MODE FAST_START: NumPy computes until the kernels are compiled, then streams do, on the same memory."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx.numpy_helper
import onnx.parser
import pytest
from support.house import ROOT
from support.onnx_models import one_input

import cpuruntime as ov
from cpuruntime.devices.cpu import compiling, fast_start
from cpuruntime.devices.cpu.fast_start import Missing
from cpuruntime.devices.cpu.programs import Programs
from cpuruntime.devices.cpu.progress import CompileProgress
from cpuruntime.errors import CancelledError, Error, InvalidArgumentError, OutOfMemoryError, UnsupportedError
from cpuruntime.graph import Graph
from cpuruntime.host.ledger import Ledger
from cpuruntime.preprocess import PrePostProcessor, ResizeAlgorithm
from cpuruntime.program.plan import weights as plan_weights
from cpuruntime.program.program import Program
from cpuruntime.streams.native.needed import KERNELS

SUM = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 8] x) => (float[N, 8] y) { t = Mul (x, x) u = Add (t, x) y = Tanh (u) }"""
FIXED = SUM.replace("N", "2")
LOOP = """<ir_version: 8, opset_import: ["" : 17]>
net (int64 n, float[2, 8] x) => (float[2, 8] y) <bool yes = {1}> {
    y = Loop (n, yes, x) <body = step (int64 i, bool c, float[2, 8] a) => (bool d, float[2, 8] b) {
        d = Identity (c) b = Add (a, x) }> }"""
SCAN = """<ir_version: 8, opset_import: ["" : 17]>
net (float[2, 8] x, float[3, 2, 8] rows) => (float[2, 8] y) {
    y = Scan <num_scan_inputs: int = 1, body = step (float[2, 8] a, float[2, 8] row) => (float[2, 8] b) {
        b = Add (a, row) }> (x, rows) }"""
NESTED = """<ir_version: 8, opset_import: ["" : 17]>
net (int64 n, float[2, 8] x) => (float[2, 8] y) <bool yes = {1}> {
    y = Loop (n, yes, x) <body = step (int64 i, bool c, float[2, 8] a) => (bool d, float[2, 8] b) {
        d = Identity (c)
        b = Loop (n, c, a) <body = inner (int64 j, bool e, float[2, 8] f) => (bool g, float[2, 8] h) {
            g = Identity (e) h = Add (f, x) }> }> }"""
FAST = {"COMPILE_MODE": "FAST_START"}


def expected(x: np.ndarray) -> np.ndarray:
    return np.tanh(x * x + x)


def data(seed: int, rows: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 8), np.float32)


def model(text: str = FIXED) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


class Gate:
    """What the thread that plans waits for; `error` is raised there."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.error: Exception | None = None

    def open(self) -> None:
        self.opened.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """On a machine without kernels, compiling takes until the gate opens."""
    gate, compile_all = Gate(), compiling.compile_all

    def refuse(kernels) -> None:
        raise Missing

    def compile_later(kernels, force, progress) -> None:
        progress(0, len(kernels), 1.0)
        assert gate.opened.wait(60)
        if gate.error is not None:
            raise gate.error
        compile_all(kernels, force, progress)

    monkeypatch.setattr(compiling, "refuse_missing", refuse)
    monkeypatch.setattr(compiling, "compile_all", compile_later)
    yield gate
    gate.open()


def compile_fast(source=None, **config) -> ov.CompiledModel:
    return ov.Core().compile_model(source or model(), "CPU", {**FAST, **config})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_request_changes_over_between_two_inferences_and_keeps_its_memory(gate: Gate) -> None:
    compiled = compile_fast()
    assert compiled.get_property("OPTIMIZED") is False
    assert compiled.get_property("NUM_STREAMS") >= 1
    state = compiled.explain().decisions[0]
    assert state.startswith("COMPILE_MODE is FAST_START: NumPy computes inferences; 0 of ")
    assert all(row.fallback for row in compiled.explain().rows)
    request, mine = compiled.create_infer_request(), ov.Tensor(np.zeros((2, 8), np.float32))
    request.set_output_tensor(0, mine)
    tensor = request.get_input_tensor()
    tensor.data[:] = data(1)
    request.infer()
    np.testing.assert_allclose(mine.data, expected(data(1)), 1e-5, 1e-6)
    assert compiled.wait_until_optimized(0) is False
    gate.open()
    assert compiled.wait_until_optimized() is True
    assert compiled.get_property("OPTIMIZED") is True
    assert not any(row.fallback for row in compiled.explain().rows)
    tensor.data[:] = data(2)
    request.infer()
    np.testing.assert_allclose(mine.data, expected(data(2)), 1e-5, 1e-6)
    assert np.shares_memory(request.get_output_tensor().data, mine.data)


def test_no_request_of_a_queue_is_lost_when_the_streams_take_over(gate: Gate) -> None:
    compiled = compile_fast(PERFORMANCE_HINT="THROUGHPUT")
    queue, found = ov.AsyncInferQueue(compiled, 4), {}
    queue.set_callback(lambda request, seed: found.update({seed: request.get_output_tensor().data.copy()}))
    opener = threading.Timer(0.2, gate.open)
    opener.start()
    count = 0
    while count < 200 or not compiled.get_property("OPTIMIZED") or count % 50:
        queue.start_async({0: data(count)}, count)
        count += 1
    queue.wait_all()
    assert found.keys() == set(range(count))
    for seed, result in found.items():
        np.testing.assert_allclose(result, expected(data(seed)), 1e-5, 1e-6)


def test_open_shapes_and_loops(gate: Gate) -> None:
    compiled, loop = compile_fast(model(SUM)), compile_fast(model(LOOP))
    for _ in range(2):
        for rows in (1, 5):
            np.testing.assert_allclose(compiled([data(3, rows)])[0], expected(data(3, rows)), 1e-5, 1e-6)
        np.testing.assert_allclose(loop([np.int64(3), data(4)])[0], 4 * data(4), 1e-5)
        gate.open()
        assert compiled.wait_until_optimized(60)
        assert loop.wait_until_optimized(60)
    assert loop.get_property("OPTIMIZED")


@pytest.mark.parametrize(
    ("text", "inputs", "times"),
    [
        (LOOP, [np.int64(3), data(4)], 4),
        (SCAN, [data(4), np.stack([data(4)] * 3)], 4),
        (NESTED, [np.int64(3), data(4)], 10),
    ],
    ids=["Loop", "Scan", "nested"],
)
def test_bodies_of_loops_are_planned_before_the_first_inference(
    monkeypatch: pytest.MonkeyPatch, text: str, inputs: list[np.ndarray], times: int
) -> None:
    """Else a model were OPTIMIZED before it has the kernels of its loops."""
    compiled = ov.Core().compile_model(model(text), "CPU", {"COMPILE_MODE": "OPTIMIZED"})

    def fail(self: Programs, graph: Graph) -> Program:
        raise AssertionError("a program is planned during an inference")

    monkeypatch.setattr(Programs, "program", fail)
    np.testing.assert_allclose(compiled(inputs)[0], times * data(4), 1e-5)


def test_operators_that_only_kernels_compute(gate: Gate) -> None:
    ppp = PrePostProcessor(ov.Core().read_model(one_input([1, 4, 6])))
    ppp.input().tensor().set_element_type("u8").set_layout("CHW").set_shape([1, 9, 9])
    steps = ppp.input().preprocess().resize(ResizeAlgorithm.RESIZE_BILINEAR_PILLOW, 4, 6)
    steps.convert_element_type("f32").mean(1.0).scale(2.0)
    compiled = compile_fast(ppp.build())
    image = np.random.default_rng(5).integers(0, 256, (1, 9, 9)).astype(np.uint8)
    by_numpy = compiled([image])[0].copy()
    gate.open()
    assert compiled.wait_until_optimized(60)
    np.testing.assert_allclose(compiled([image])[0], by_numpy, 1e-6)


def test_what_is_wrong_with_a_model_is_raised_at_once(gate: Gate, ledger: Ledger) -> None:
    with pytest.raises(OutOfMemoryError, match="the elements of 'x' need"):
        compile_fast(model(SUM.replace("N", "1000000000000")))
    with pytest.raises(InvalidArgumentError, match="WARMUP_SHAPES: the model has no input 'z'"):
        compile_fast(model(SUM), WARMUP_SHAPES="z[1,8]")
    assert not ledger.holders()


def test_a_failure_in_the_background_is_logged_and_raised_by_who_waits(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    gate.error = UnsupportedError("no such kernel.")
    compiled = compile_fast()
    gate.open()
    with pytest.raises(UnsupportedError, match="no such kernel"):
        compiled.wait_until_optimized()
    np.testing.assert_allclose(compiled([data(5)])[0], expected(data(5)), 1e-5, 1e-6)
    assert compiled.get_property("OPTIMIZED") is False
    assert "planning failed: no such kernel." in str(compiled.explain())
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert record.getMessage() == "model 'net' stays on NumPy, slowly: no such kernel."


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_model_that_goes_while_it_is_planned_leaves_nothing(gate: Gate, ledger: Ledger, how: str) -> None:
    before = set(threading.enumerate())
    compiled = compile_fast()
    compiled([data(6)])
    own = set(threading.enumerate()) - before
    assert {"cpuruntime-plan", "cpuruntime-cpu-0"} <= {thread.name for thread in own}
    if how == "close":
        with compiled:
            pass
        with pytest.raises(Error, match="is closed"):
            compiled([data(6)])
        with pytest.raises(Error, match="is closed"):
            compiled.wait_until_optimized()
    del compiled
    gc.collect()
    gate.open()
    until(lambda: not own & set(threading.enumerate()))
    assert not ledger.holders()


def test_nothing_is_packed_before_all_kernels_are_there(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    def refuse(kernels) -> None:
        if set(kernels) - set(KERNELS):
            raise Missing

    def fail(*arguments) -> None:
        raise AssertionError("weights are packed")

    monkeypatch.setattr(compiling, "refuse_missing", refuse)
    layer = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[2, 256] x) => (float[2, 256] y) { y = MatMul (x, w) }"""
    product, weights = model(layer), np.ones((256, 256), np.float32)
    product.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    with monkeypatch.context() as patch:
        patch.setattr(plan_weights, "ThreadPoolExecutor", fail)
        compiled = compile_fast(product)
    assert compiled.get_property("OPTIMIZED") is False
    gate.open()
    assert compiled.wait_until_optimized(60)
    np.testing.assert_array_equal(compiled([np.ones((2, 256), np.float32)])[0], np.full((2, 256), 256.0))


def test_cancelling_works_on_both_sides(gate: Gate) -> None:
    request = compile_fast().create_infer_request()
    for _ in range(2):
        request.start_async([data(7)])
        request.cancel()
        with suppress(CancelledError):
            request.wait()
        np.testing.assert_allclose(request.infer([data(7)])[0], expected(data(7)), rtol=1e-5)
        gate.open()


@pytest.mark.parametrize("timeout", [-1, "soon", float("nan")])
def test_bad_timeouts(gate: Gate, timeout: object) -> None:
    with pytest.raises(InvalidArgumentError, match="it must be a number >= 0"):
        compile_fast().wait_until_optimized(timeout)  # type: ignore[arg-type]


def test_measured_streams_wait_for_their_kernels(gate: Gate) -> None:
    for config in ({"LATENCY_TARGET_MS": 1000}, {"STREAMS_CALIBRATION_MS": 20}, {"COMPILE_MODE": "OPTIMIZED"}):
        assert compile_fast(**config).get_property("OPTIMIZED") is True


def test_of_several_compilations_at_a_time_one_shows_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with CompileProgress() as first, CompileProgress() as second:
        first(0, 2, 0.3)
        second(0, 3, 0.3)
    with CompileProgress() as third:
        third(1, 4, 1.2)
    one, another = capsys.readouterr().err.splitlines()
    assert one.endswith(": 0 of 2, about 1 s left")
    assert another.endswith(": 1 of 4, about 2 s left")


SCRIPT = """
import sys, time, numpy as np, onnx.parser
import cpuruntime as ov
model = onnx.parser.parse_model(sys.argv[1])
compiled = ov.Core().compile_model(model, "CPU", {"COMPILE_MODE": "FAST_START"})
x = np.ones((2, 8), np.float32)
print(compiled.get_property("OPTIMIZED"), np.allclose(compiled([x])[0], np.tanh(2)), "numba" in sys.modules)
if len(sys.argv) > 2:
    compiled.wait_until_optimized()
    print(compiled.get_property("OPTIMIZED"), np.allclose(compiled([x])[0], np.tanh(2)), "numba" in sys.modules)
"""


FORK = """
import os, sys, onnx.parser
import cpuruntime as ov
compiled = ov.Core().compile_model(onnx.parser.parse_model(sys.argv[1]), "CPU", {"COMPILE_MODE": "FAST_START"})
child = os.fork()
if not child:
    for call in (compiled.wait_until_optimized, compiled.create_infer_request().infer):
        try:
            call()
        except ov.Error as error:
            print("before the process forked" in str(error), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def cold(script: str, folder: Path, *more: str) -> list[str]:
    """The lines that a script printed, which has kernels in `folder` only."""
    environment = {**os.environ, "CPURUNTIME_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, FIXED, *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_one_line_is_about_all_kernels(tmp_path: Path) -> None:
    script = "import sys\nsys.stderr = sys.stdout" + SCRIPT.replace("FAST_START", "OPTIMIZED")
    totals = [line.partition(" of ")[2].partition(",")[0] for line in cold(script, tmp_path) if ": 0 of " in line]
    assert len(set(totals)) == 1  # a slow machine says it again


def test_a_forked_child_says_what_to_do(tmp_path: Path) -> None:
    assert cold(FORK, tmp_path) == ["True", "True"]


def test_a_cold_process_answers_and_may_end_while_workers_compile(tmp_path: Path) -> None:
    assert cold(SCRIPT, tmp_path) == ["False True False"]
    assert cold(SCRIPT, tmp_path, "wait") == ["False True False", "True True False"]
    assert cold(SCRIPT, tmp_path) == ["True True False"]
    for file in tmp_path.rglob("*.o"):
        os.truncate(file, 100)
    assert cold(SCRIPT, tmp_path, "wait") == ["False True False", "True True False"], "damaged code is replaced"


@pytest.mark.parametrize("what", ["an inference", "waiting"])
def test_the_first_inference_has_the_processors_for_itself(
    monkeypatch: pytest.MonkeyPatch, gate: Gate, what: str
) -> None:
    """Kernels are compiled when it is over, when somebody waits for them, or after a second."""
    monkeypatch.setattr(fast_start, "HEAD_START", 3600)
    begun, compile_later = threading.Event(), compiling.compile_all

    def compile_all(kernels, force, progress) -> None:
        begun.set()
        compile_later(kernels, force, progress)

    monkeypatch.setattr(compiling, "compile_all", compile_all)
    compiled = ov.Core().compile_model(model(), "CPU", FAST)
    assert not begun.wait(0.1)
    gate.open()
    if what == "an inference":
        compiled(data(1))
        assert begun.wait(60)
    assert compiled.wait_until_optimized(100)
