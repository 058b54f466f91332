"""`cpuruntime kernels` from end to end, and what other processes compile that have the pack it builds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper
from support.house import ROOT
from support.onnx_models import make_model

from cpuruntime.cli import kernels
from cpuruntime.cli.main import main
from cpuruntime.compiler import isa
from cpuruntime.store import Pack, kernel_packs

INFER = """
import sys
import numpy as np
import cpuruntime as ov
from cpuruntime.compiler.build import loaded_kernels
compiled = ov.Core().compile_model(sys.argv[1], "CPU", {"TUNING_BUDGET_MS": 2000})
compiled(np.ones((1, 3, 8, 8), np.float32))
print(loaded_kernels()[0], "numba" in sys.modules)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and the pack that is built for it, for both levels."""
    folder = tmp_path_factory.mktemp("kernels")
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"]),
        helper.make_node("Tanh", ["s"], ["t"]),
        helper.make_node("GlobalAveragePool", ["t"], ["y"]),
    ]
    (folder / "models").mkdir()
    onnx.save(make_model(nodes, {"x": [1, 3, 8, 8]}, {"y": [1, 3, 1, 1]}), folder / "models" / "model.onnx")
    command = ["kernels", "build", "--level", "x86-64-v3,x86-64-v4,+vnni,+bf16", "-o", str(folder / "zoo.pack")]
    assert main([*command, "--plans", "--models", str(folder / "models")]) == 0
    return folder


def test_what_is_built_has_both_levels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = Pack(folder / "zoo.pack")
    assert set(pack.levels) == {"x86-64-v3", "x86-64-v4"}
    names = [{entry.name for entry in entries.values()} for entries in pack.levels.values()]
    assert all({"lead", "attend"} < found for found in names)
    assert pack.made_by.keys() == {"cpuruntime", "Python", "numba", "llvmlite"}
    assert main(["kernels", "list", str(folder / "zoo.pack")]) == 0
    out = capsys.readouterr().out
    assert f"{folder}/zoo.pack: " in out
    assert out.count("  lead\n") == 2
    assert "; plans: 1; made by" in out
    assert out.count(" bytes: 1 plans\n") == out.count("  model.onnx\n") == 1
    assert main(["kernels", "verify", str(folder / "zoo.pack")]) == 0


@pytest.mark.parametrize("cache", ["fresh", "unwritable"])
def test_nothing_is_compiled_with_the_pack(folder: Path, tmp_path: Path, cache: str) -> None:
    place = tmp_path if cache == "fresh" else Path("/proc")
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "CPURUNTIME_KERNEL_PATH": str(folder)}
    variables |= {"CPURUNTIME_CACHE_DIR": str(place), "TMPDIR": str(place)}
    command = [sys.executable, "-c", INFER, str(folder / "models" / "model.onnx")]
    done = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout == "0 False\n"


def test_the_devices_command_shows_where_kernels_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CPURUNTIME_KERNEL_PATH", str(folder))
    kernel_packs.cache_clear()
    try:
        assert main(["devices"]) == 0
        assert main(["kernels", "verify"]) == 0
    finally:
        kernel_packs.cache_clear()
    out = capsys.readouterr().out
    assert "Compiled kernels: /" in out
    assert f"Level of the processor: {isa.current().cpu}\n" in out
    assert f"Pack of kernels: {folder}/zoo.pack: " in out


def test_without_packs_that_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(kernels, "kernel_packs", tuple)
    assert main(["kernels", "list"]) == 0
    assert capsys.readouterr().out == "No packs are in use; CPURUNTIME_KERNEL_PATH can name some.\n"


def test_a_damaged_pack_is_an_error(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "damaged.pack"
    shutil.copy(folder / "zoo.pack", path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    assert main(["kernels", "verify", str(path)]) == 1
    assert "is damaged." in capsys.readouterr().err
    path.write_bytes(whole[:-1])
    assert main(["kernels", "list", str(path)]) == 1
    assert f"pack '{path}' cannot be used: it is truncated or damaged." in capsys.readouterr().err


def test_a_pack_in_use_that_cannot_be_used_is_an_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "truncated.pack"
    path.write_bytes((folder / "zoo.pack").read_bytes()[:-1])
    for place, problem in ((path, "it is truncated or damaged"), (tmp_path / "missing", "No such file or directory")):
        monkeypatch.setenv("CPURUNTIME_KERNEL_PATH", f"{folder}:{place}")
        assert main(["kernels", "verify"]) == 1
        assert f"pack '{place}' cannot be used: {problem}." in capsys.readouterr().err


def test_what_cannot_be_built_is_not_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.onnx").write_text("no model")
    command = ["kernels", "build", "--level", "x86-64-v3", "-o", str(tmp_path / "a.pack")]
    assert main([*command, "--models", str(tmp_path)]) == 1
    err = capfd.readouterr().err
    assert "bad.onnx" in err
    assert "the kernels of x86-64-v3 could not be built; nothing was written." in err
    assert main([*command, "--models", str(tmp_path / "none.onnx")]) == 1
    assert os.listdir(tmp_path) == ["bad.onnx"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build", "-o", "a.pack"], 1, "'kernels build' needs --models and -o"),
        (["build", "--models", "a.onnx"], 1, "'kernels build' needs --models and -o"),
        (["list", "--plans"], 1, "'kernels list' takes packs only"),
        (["list", "-o", "a.pack"], 1, "'kernels list' takes packs only"),
        (["verify", "none.pack"], 1, "pack 'none.pack' cannot be used: No such file or directory."),
        (["build", "--models", ".", "-o", "/none/a.pack"], 1, "-o /none/a.pack: it must be a file in a folder that"),
        (["build", "--models", ".", "-o", "/proc"], 1, "-o /proc: it must be a file in a folder that there is."),
        (["build", "--level", "x86-64-v5"], 2, "there is no level 'x86-64-v5'; the levels are x86-64-v3, x86-64-v4"),
        (["build", "--level", "+vnni"], 2, "'+vnni' names no level, only extensions"),
        (["make"], 2, "invalid choice: 'make'"),
    ],
)
def test_wrong_usage(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", *arguments]) == code
    assert message in capsys.readouterr().err
