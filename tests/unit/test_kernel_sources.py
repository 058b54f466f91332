"""The symbol of a kernel's machine code changes with every source that the code depends on, and with no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.house import ROOT

SCRIPT = """
import json, pathlib, cpuruntime
from cpuruntime.compiler import build
from cpuruntime.ops import argmax, convolution, elementwise, fused, winograd
from cpuruntime.streams.native import signals
assert pathlib.Path(cpuruntime.__file__).parents[1] == pathlib.Path.cwd()
kernels = {
    "argmax": argmax.arg_extreme(True, False),
    "convolution": convolution.convolution(4, 2, 16, 64),
    "winograd": winograd.winograd,
    "Exp": elementwise.unary_kernel("Exp"),
    "fused": fused.fused_kernel((("Add", ("a", "b")), ("Silu", ("t0",))), ""),
    "signal": signals.notify,
}
print(json.dumps({name: kernel.symbol for name, kernel in kernels.items()}))
assert build.loaded_kernels() == (0, 0)
"""
ALL = {"argmax", "convolution", "winograd", "Exp", "fused", "signal"}


def symbols(folder: Path) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "CPURUNTIME_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    output = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout
    return json.loads(output)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    for name in ("cpuruntime", "ops"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def before(package: Path) -> dict[str, str]:
    found = symbols(package)
    assert found.keys() == ALL
    assert found == symbols(package)
    assert len(set(found.values())) == len(found)
    return found


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("ops/argmax.py", {"argmax"}),
        # Named in a string, and imported when a kernel is compiled.
        ("ops/tiles/register_tile.py", {"convolution", "winograd"}),
        ("ops/winograd_transforms.py", {"winograd"}),
        # Imported by a module that is imported by the kernel's.
        ("ops/functions/vector_math.py", {"convolution", "winograd", "Exp", "fused"}),
        ("ops/functions/large_angles.py", {"convolution", "winograd", "Exp", "fused"}),
        ("cpuruntime/streams/native/system.py", {"winograd", "signal"}),
        # What compiles them.
        ("cpuruntime/compiler/simd.py", ALL),
        ("cpuruntime/compiler/build.py", ALL),
        ("ops/pooling.py", set()),
        ("cpuruntime/store/folder.py", set()),
        ("cpuruntime/program/program.py", set()),
    ],
)
def test_a_changed_file_changes_what_depends_on_it(
    package: Path, before: dict[str, str], file: str, changed: set[str]
) -> None:
    text = (package / file).read_text()
    (package / file).write_text(text + "\n\nCHANGED = 1\n")
    after = symbols(package)
    (package / file).write_text(text)
    assert {name for name in ALL if after[name] != before[name]} == changed
