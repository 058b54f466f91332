"""Kernels compiled by worker processes: recipes, and workers that are killed, hang, fail, fork or cannot be started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.house import ROOT

import models
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.compiler.recipes import follow
from cpuruntime.devices.cpu.pipeline import optimise
from cpuruntime.devices.ports import PortInfo
from cpuruntime.frontend.light_models import light_model
from cpuruntime.frontend.reader import read
from cpuruntime.graph import PartialShape
from cpuruntime.operators.shape_inference import reshape
from cpuruntime.program.lowerings import catalogue  # noqa: F401  it names the kernels of operators
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.streams.native.needed import KERNELS

SCRIPT = """
import logging, os, signal, sys, threading, time
from contextlib import suppress
import psutil
from cpuruntime.compiler import build, pool
from cpuruntime.compiler.pool import Workforce, compile_all
from cpuruntime.ops import elementwise
from cpuruntime.streams.native import callbacks, signals
logging.basicConfig(format="%(message)s", stream=sys.stdout)
KERNELS = [signals.add, signals.notify, callbacks.begin_call]
FORCE = Workforce(2, frozenset(os.sched_getaffinity(0)), lambda: 2**32)
def workers():
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has ended
            found += [child.pid] * ("-I" in child.cmdline())
    return found
def start(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread
def each_worker(function, count=1):
    def watch():
        seen = set()
        while len(seen) < count:
            for pid in set(workers()) - seen:
                seen.add(pid)
                function(pid)
            time.sleep(0.005)
    start(watch)
def report():
    print([kernel.address != 0 for kernel in KERNELS], "numba" in sys.modules, build.loaded_kernels(), flush=True)
"""
ALL = "[True, True, True]"


def script(text: str, folder: Path | str) -> subprocess.Popen[str]:
    places = {"CPURUNTIME_CACHE_DIR": str(folder), "TMPDIR": str(folder)}
    environment = {**os.environ, **places, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT + text]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lines(text: str, folder: Path | str) -> list[str]:
    process = script(text, folder)
    try:
        output, _ = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, output
    return output.splitlines()


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "workers outlive the process that started them"
        time.sleep(0.05)


def kernels_of(model) -> list[Kernel]:
    graph = read(model)
    ports = PortInfo.inputs_of(graph)
    shapes = {p.name: PartialShape([1 if d.is_dynamic else d for d in p.partial_shape]) for p in ports}
    return Planner(optimise(reshape(graph, shapes)), WeightStore()).kernels(None)


def test_every_kernel_has_a_recipe_that_gives_the_same_symbol_elsewhere() -> None:
    made = [models.build(name) for name in ("mobilenet_v3_large", "yolov8n", "vit_tiny", "lstm_classifier", "crnn")]
    made += [light_model(name) for name in ("resnet50", "squeezenet", "densenet121", "shufflenet")]
    kernels = list(dict.fromkeys([*KERNELS, *(kernel for model in made for kernel in kernels_of(model))]))
    assert len(kernels) > 80
    assert [kernel.name for kernel in kernels if kernel.recipe is None] == []
    text = "import json, sys; from cpuruntime.compiler.recipes import follow; print(json.dumps("
    text += "[follow(recipe).symbol for recipe in json.load(sys.stdin)]))"
    recipes = json.dumps([kernel.recipe for kernel in kernels])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", text], input=recipes, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    assert json.loads(done.stdout) == [kernel.symbol for kernel in kernels]


def test_a_recipe_names_modules_of_the_package_only() -> None:
    with pytest.raises(ValueError, match="a recipe names module 'os'; it must belong to cpuruntime"):
        follow('["os", "getcwd", {}]')


def test_workers_compile_and_this_process_does_not_load_the_compiler(tmp_path: Path) -> None:
    text = "steps = []; compile_all(KERNELS, FORCE, lambda *step: steps.append(step[:2])); report(); print(steps[-1])"
    assert lines(text, tmp_path) == [f"{ALL} False (3, 0)", "(3, 3)"]
    assert len(list(tmp_path.rglob("*.o"))) == 3, "workers write the objects"
    assert lines("compile_all(KERNELS, FORCE); print(workers()); report()", tmp_path) == ["[]", f"{ALL} False (0, 3)"]


def test_workers_compile_what_is_damaged_in_the_cache(tmp_path: Path) -> None:
    lines("compile_all(KERNELS, FORCE)", tmp_path)
    damaged, *_ = tmp_path.rglob("*.o")
    os.truncate(damaged, 100)
    assert lines("compile_all(KERNELS, FORCE); report()", tmp_path) == [f"{ALL} False (1, 2)"]
    assert lines("compile_all(KERNELS, FORCE); report()", tmp_path) == [f"{ALL} False (0, 3)"], "it was replaced"


def test_what_workers_cannot_write_is_logged_once(tmp_path: Path) -> None:
    lines("compile_all(KERNELS, FORCE)", tmp_path / "before")  # below, Python would keep modules compiled in part
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
    log, found = lines(limit + "compile_all(KERNELS, FORCE); report()", tmp_path)
    assert f" could not be written to {tmp_path}/kernels: " in log
    assert found == f"{ALL} False (3, 0)"


def test_without_a_folder_the_code_comes_through_the_pipe() -> None:
    *_, found = lines("compile_all(KERNELS, FORCE); report()", "/dev/null/nowhere")
    assert found == f"{ALL} False (3, 0)"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("each_worker(lambda pid: os.kill(pid, signal.SIGKILL))", "ended with exit code -9"),
        ("pool.LIMIT = 6.0; each_worker(lambda pid: os.kill(pid, signal.SIGSTOP))", "did not answer for 6 seconds"),
        ("import resource; each_worker(lambda pid: resource.prlimit(pid, resource.RLIMIT_AS, (1 << 26, 1 << 26)))", ""),
        ("each_worker(lambda pid: os.kill(pid, signal.SIGKILL), 9)", "ended with exit code -9"),
        ("signals.add.recipe = signals.notify.recipe", "failed: RuntimeError: its sources"),
    ],
    ids=["killed", "hanging", "out of memory", "all killed", "another kernel"],
)
def test_what_a_worker_fails_to_compile_is_compiled_here(tmp_path: Path, fault: str, reason: str) -> None:
    log, found = lines(f"{fault}\ncompile_all(KERNELS, FORCE); report()", tmp_path)
    assert "of 3 kernels are compiled in this process: the compile worker of " in log
    assert reason in log
    assert found.startswith(f"{ALL} True (3, ")


def test_an_interpreter_that_cannot_be_started(tmp_path: Path) -> None:
    text = f"sys.executable = {str(tmp_path / 'python3')!r}\ncompile_all(KERNELS, FORCE); report()"
    log, found = lines(text, tmp_path)
    assert "3 of 3 kernels are compiled in this process" in log
    assert "could not be started" in log
    assert found == f"{ALL} True (3, 0)"
    assert lines("sys.executable = '/usr/sbin/uwsgi'\ncompile_all(KERNELS, FORCE); report()", tmp_path / "other") == [
        f"{ALL} True (3, 0)"
    ], "a program that embeds Python is not started"


def test_two_processes_compile_the_same_kernels(tmp_path: Path) -> None:
    processes = [script("compile_all(KERNELS, FORCE); report()", tmp_path) for _ in range(2)]
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert output.startswith(f"{ALL} False (3, 0)")
    assert len(list(tmp_path.rglob("*.o"))) == 3


def test_a_fork_while_workers_compile(tmp_path: Path) -> None:
    text = """
thread = start(compile_all, KERNELS, FORCE)
while not workers():
    time.sleep(0.01)
child = os.fork()
compile_all(KERNELS, FORCE)
if child == 0:
    report()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
report()
"""
    found = lines(text, tmp_path)
    assert [line.partition(" (")[0] for line in found] == [f"{ALL} False"] * 2


TWO = "any(len(workers()) == 2 or time.sleep(0.01) for _ in iter(int, 1))"
"""Waits until there are two workers."""

RUNNING = f"""
start(lambda: ({TWO}, print(*workers(), flush=True)))
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_while_workers_compile(tmp_path: Path, end: signal.Signals) -> None:
    process = script(RUNNING + "compile_all([elementwise.unary_kernel('Exp'), *KERNELS], FORCE); report()", tmp_path)
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    process.send_signal(end)
    output, _ = process.communicate(timeout=60)
    assert ("KeyboardInterrupt" in output) == (end is signal.SIGINT)
    assert ALL not in output
    wait_until_gone(pids)


def test_an_exit_while_workers_compile(tmp_path: Path) -> None:
    (found,) = lines(f"start(compile_all, KERNELS, FORCE); {TWO}; print(*workers())", tmp_path)
    pids = [int(pid) for pid in found.split()]
    assert len(pids) == 2
    wait_until_gone(pids)


MODEL = """
import numpy as np, onnx.parser
import cpuruntime as ov
model = onnx.parser.parse_model('''<ir_version: 8, opset_import: ["" : 17]>
    net (float[1, 16, 32, 32] x) => (float[1, 16, 32, 32] z)
    <float[16, 16, 3, 3] w = {WEIGHTS}> {{ y = Conv <pads = [1, 1, 1, 1]> (x, w) z = Tanh (y) }}''')
compiled = ov.Core().compile_model(model, "CPU", {{"TUNING_BUDGET_MS": 2000}})
assert np.isfinite(compiled([np.ones((1, 16, 32, 32), np.float32)])[0]).all()
print("numba" in sys.modules, build.loaded_kernels()[1])
"""


def test_a_model_finds_all_its_kernels_before_it_needs_the_first(tmp_path: Path) -> None:
    weights = ", ".join(str(i % 7 / 7) for i in range(16 * 16 * 9))
    first, *others, found = lines(MODEL.format(WEIGHTS="{" + weights + "}"), tmp_path)
    assert first.startswith("cpuruntime: compiling kernels for "), first
    assert " 0 of " in first, "a line before anything is compiled"
    assert len({line.rpartition(" of ")[2].partition(",")[0] for line in (first, *others)}) == 1, "one batch"
    assert found == "False 0", "the compiler is in the workers alone"
