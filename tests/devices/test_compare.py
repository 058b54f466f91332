"""`cpuruntime compare` with real processes: this package, and made-up packages whose inferences only wait."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import helper
from support.onnx_models import make_model

from cpuruntime.cli.main import main
from cpuruntime.compare import worker

PACKAGE = '''
"""A package with the names that the worker uses, in which an inference takes SECONDS of processor time."""
import os, time
import numpy
SECONDS, VALUE, DIES_AFTER, PINS = 0.001, 1.0, None, None
class Port:
    shape, element_type = (2, 2), None
class Type:
    def to_dtype(self): return numpy.float32
Port.element_type = Type()
class Tensor:
    def __init__(self): self.data = numpy.full((2, 2), VALUE, numpy.float32)
class Request:
    count = 0
    def __init__(self): self.tensor = Tensor()
    def get_input_tensor(self, index): return Tensor()
    def get_output_tensor(self, index): return self.tensor
    def infer(self):
        Request.count += 1
        if DIES_AFTER is not None and Request.count > DIES_AFTER:
            print("it died", file=__import__("sys").stderr, flush=True)
            os._exit(7)
        end = time.process_time() + SECONDS
        while time.process_time() < end: pass
class Compiled:
    inputs, outputs = [Port()], [Port()]
    def create_infer_request(self): return Request()
class Queue(list):
    def __init__(self, compiled): self.append(Request())
    def start_async(self): self[0].infer()
    def wait_all(self): pass
AsyncInferQueue = Queue
class Core:
    def read_model(self, path): return path
    def compile_model(self, model, device, config):
        if config.get("NUM_STREAMS") == "bad": raise ValueError("NUM_STREAMS is bad")
        print("what a library prints", flush=True)
        return Compiled()
def get_version(): return "9.9"
'''


STARTS_SLOWLY = """
class Compiled(Compiled):
    def wait_until_optimized(self):
        global SECONDS
        SECONDS = 0.001
"""


NEEDS_BYTECODE = """
if not os.path.exists(__spec__.cached): raise ImportError("its modules are compiled at each start")
"""


def package(folder: Path, code: str = "", **values: object) -> str:
    """A source tree of the made-up package with other values of its constants, and more code."""
    (folder / "cpuruntime").mkdir(parents=True)
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    (folder / "cpuruntime" / "__init__.py").write_text("\n".join([PACKAGE, *lines, code]))
    return str(folder)


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A suite of a model that is real."""
    monkeypatch.chdir(tmp_path)
    onnx.save(make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2, 8]}, {"y": [2, 8]}), "relu.onnx")
    text = 'seconds = 2\nprocesses = 4\nmodes = ["latency1"]\nthresholds = { time = 60, startup = 900, first = 900 }\n'
    Path("suite.toml").write_text(text + '[[model]]\npath = "relu.onnx"\n')
    return "suite.toml"


def rows(path: str = "run.json") -> dict[str, dict[str, object]]:
    return {row["metric"]: row for row in json.loads(Path(path).read_text())["rows"]}


def test_this_package_is_not_slower_than_itself(suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("x.npz", np.array([[-1.0, 2.0] * 4] * 2, np.float32))
    np.savez("y.npz", np.array([[0.0, 2.0] * 4] * 2, np.float32))
    with open(suite, "a") as file:
        file.write('inputs = "x.npz"\noutput = "y.npz"\nmodes = ["throughput"]\n')
    files = ["--json", "run.json", "--html", "run.html", "--junit", "run.xml", "--markdown", "run.md"]
    code = main(["compare", suite, "--base-config", "PERFORMANCE_HINT_NUM_REQUESTS=1", *files])
    assert code in (0, 4), capsys.readouterr().out
    run = json.loads(Path("run.json").read_text())
    assert [len(case["processes"]) for case in run["cases"]] == [4]
    assert [check["error"] for check in run["checks"]] == [0, 0, 0]
    assert rows()["memory"]["verdict"] == "same"
    assert rows()["wheel"]["ratio"] == 1
    assert len(ElementTree.parse("run.xml").getroot()) == 4 + 1 + 3
    assert "throughput  time" in capsys.readouterr().out


def test_what_computes_until_kernels_are_compiled_is_not_measured(suite: str, tmp_path: Path) -> None:
    base, head = package(tmp_path / "one", STARTS_SLOWLY, SECONDS=0.02), package(tmp_path / "two")
    main(["compare", suite, "--base", base, "--head", head, "--json", "run.json"])
    assert rows()["time"]["ratio"] > 0.5


def test_bytecode_is_kept_whatever_the_environment_says(
    suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    one = package(tmp_path / "one", NEEDS_BYTECODE)
    assert main(["compare", suite, "--base", one, "--head", one]) in (0, 4)
    assert [path.name for path in (tmp_path / "one" / "cpuruntime").iterdir()] == ["__init__.py"]


def test_a_run_is_compared_with_a_stored_one(
    suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = package(tmp_path / "one")
    assert main(["compare", suite, "--base", one, "--head", one, "--json", "run.json"]) in (0, 4)
    slow = package(tmp_path / "slow", SECONDS=0.005)
    command = ["compare", suite, "--head", slow, "--against", "run.json", "--json", "second.json"]
    assert main(command) == 3
    assert "This is weaker" in capsys.readouterr().out
    assert json.loads(Path("second.json").read_text())["method"] == "stored"
    assert rows("second.json")["time"]["verdict"] == "slower"
    assert len(rows("second.json")) == 5


def test_a_slower_package_is_found(suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow, fast = package(tmp_path / "slow", SECONDS=0.003), package(tmp_path / "fast")
    assert main(["compare", suite, "--base", fast, "--head", slow, "--json", "run.json"]) == 3
    assert rows()["time"]["verdict"] == "slower"
    assert rows()["time"]["ratio"] == pytest.approx(3, rel=0.5)
    assert rows()["wheel"]["verdict"] == "same"
    assert main(["compare", suite, "--base", slow, "--head", fast, "--json", "run.json"]) in (0, 4)
    assert rows()["time"]["verdict"] == "faster"


def test_other_outputs_fail(suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = package(tmp_path / "other", VALUE=1.1)
    assert main(["compare", suite, "--base", package(tmp_path / "one"), "--head", other]) == 3
    assert "relu latency1: outputs differ: head and base by 0.1 of the largest magnitude" in capsys.readouterr().out


def test_a_side_that_dies_leaves_what_was_measured(
    suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(suite).write_text(Path(suite).read_text().replace("seconds = 2", "seconds = 60"))
    mortal = package(tmp_path / "mortal", DIES_AFTER=150)
    assert main(["compare", suite, "--base", package(tmp_path / "one"), "--head", mortal, "--json", "run.json"]) == 1
    failure = "relu latency1: head: the process ended with exit code 7: it died"
    assert f"Failed: {failure}" in capsys.readouterr().out
    (case,) = json.loads(Path("run.json").read_text())["cases"]
    assert case["processes"][0]["slices"]


def test_a_side_that_refuses_is_quoted(suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = package(tmp_path / "one")
    assert main(["compare", suite, "--base", one, "--head", one, "--head-config", "NUM_STREAMS=bad"]) == 1
    assert "Failed: relu latency1: head: ValueError: NUM_STREAMS is bad" in capsys.readouterr().out


def test_a_python_without_the_package_is_one_line(
    suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    assert main(["compare", suite, "--base", str(bare)]) == 1
    assert capsys.readouterr().err == "[ ERROR ] base: ModuleNotFoundError: No module named 'cpuruntime'\n"


def test_the_worker_s_own_folder_is_not_on_its_path(tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['', '']; import runpy; runpy.run_path(sys.orig_argv[-1], run_name='__main__')"
    text = f"{code}; print(sys.path)"
    done = subprocess.run([sys.executable, "-c", text, worker.__file__], input="", capture_output=True, text=True)
    assert done.returncode == 0
    assert "compare" not in done.stderr
