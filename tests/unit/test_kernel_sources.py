"""The symbol of a kernel's machine code changes with every source that the code depends on, and with no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from support.house import ROOT

CHANGED = "\n\nCHANGED = 1\n"
KERNELS = """
import json, pathlib, sys, cpuruntime
from cpuruntime.compiler import build, sources
from cpuruntime.ops import argmax, convolution, elementwise, fused, winograd
from cpuruntime.streams.native import signals
assert pathlib.Path(cpuruntime.__file__).parents[1] == pathlib.Path.cwd()
kernels = {
    "argmax": argmax.argmax_kernel(True, False),
    "convolution": convolution.convolution(4, 2, 16, 64),
    "winograd": winograd.winograd,
    "Exp": elementwise.unary_kernel("Exp"),
    "fused": fused.fused_kernel((("Add", ("a", "b")), ("Silu", ("t0",))), ""),
    "signal": signals.notify,
}
"""
SCRIPT = f"""
def symbols():
    for known in (sources.source_digest, sources._own_digest, sources._imports, sources._read):
        known.cache_clear()
    for kernel in kernels.values():
        kernel.__dict__.pop("symbol", None)
    return {{name: kernel.symbol for name, kernel in kernels.items()}}
found = {{"": symbols()}}
for file in sys.argv[1:]:
    path = pathlib.Path(file)
    text = path.read_text()
    path.write_text(text + {CHANGED!r})
    found[file] = symbols()
    path.write_text(text)
assert symbols() == found[""]
assert build.loaded_kernels() == (0, 0)
print(json.dumps(found))
"""
ALL = {"argmax", "convolution", "winograd", "Exp", "fused", "signal"}
DEPENDENTS = {
    "ops/argmax.py": {"argmax"},
    # Named in a string, and imported when a kernel is compiled.
    "ops/tiles/register_tile.py": {"convolution", "winograd"},
    "ops/winograd_transforms.py": {"winograd"},
    # Imported by a module that is imported by the kernel's.
    "ops/functions/vector_math.py": {"convolution", "winograd", "Exp", "fused"},
    "ops/functions/large_angles.py": {"convolution", "winograd", "Exp", "fused"},
    "cpuruntime/streams/native/system.py": {"winograd", "signal"},
    # What compiles them.
    "cpuruntime/compiler/simd.py": ALL,
    "cpuruntime/compiler/machine_code.py": ALL,
    "cpuruntime/compiler/frontend.py": ALL,
    "ops/pooling.py": set(),
    "cpuruntime/compiler/build.py": set(),
    "cpuruntime/compiler/objects.py": set(),
    "cpuruntime/store/folder.py": set(),
    "cpuruntime/program/program.py": set(),
}


@pytest.fixture(scope="module")
def symbols(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The symbols of some kernels by the file that was changed, in a copy of the package; "" for none."""
    folder = tmp_path_factory.mktemp("package")
    for name in ("cpuruntime", "ops"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(folder), "CPURUNTIME_CACHE_DIR": str(folder / "z")}
    command = [sys.executable, "-W", "error", "-c", KERNELS + SCRIPT, *DEPENDENTS]
    return json.loads(subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def test_each_kernel_has_a_symbol_of_its_own(symbols: dict[str, dict[str, str]]) -> None:
    assert symbols[""].keys() == ALL
    assert len(set(symbols[""].values())) == len(ALL)


@pytest.mark.parametrize("file", DEPENDENTS)
def test_a_changed_file_changes_what_depends_on_it(symbols: dict[str, dict[str, str]], file: str) -> None:
    assert {name for name in ALL if symbols[file][name] != symbols[""][name]} == DEPENDENTS[file]


def test_symbols_name_no_place_and_no_compiler(symbols: dict[str, dict[str, str]]) -> None:
    """Code is used wherever package and cache are, whatever compiled it, on any processor of a level."""
    script = """
from unittest.mock import patch
import llvmlite.binding as llvm
def found(version):
    build._compiler.cache_clear(), build.isa.supported.cache_clear(), build.isa.current.cache_clear()
    with patch.object(build, "version", version):
        [kernel.__dict__.pop("symbol", None) for kernel in kernels.values()]
        return {name: kernel.symbol for name, kernel in kernels.items()}, build.object_name("symbol")
llvm.get_host_cpu_name = lambda: "another"
(first, name), (second, other) = found(build.version), found(lambda package: "another")
assert first == second and name != other
print(json.dumps(first))
"""
    command = [sys.executable, "-W", "error", "-c", KERNELS + script]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    assert json.loads(done.stdout) == symbols[""]
