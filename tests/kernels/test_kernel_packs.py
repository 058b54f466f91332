"""Kernels from packs: before the user's cache, at their own ISA level only, and compiled anew where a pack is bad."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.kernels import guarded, holding, run_nest
from support.objects import code_that_calls
from support.users import ROOT

from cpuruntime.compiler import build, isa, target
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.ops import elementwise
from cpuruntime.store import Folder, Pack, write_pack

LEVEL = isa.current().cpu
MADE_BY = {"cpuruntime": "0.0"}


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """A kernel that nothing has loaded, in a process with an empty cache."""
    folder = Folder(tmp_path / "cache")
    monkeypatch.setattr(build, "cache_folder", lambda: folder)
    build.packs.cache_clear()
    kernel = elementwise.unary_kernel.__wrapped__("Sign")
    kernel.symbol = f"of_{tmp_path.name}"
    yield kernel
    build.packs.cache_clear()


def use(monkeypatch: pytest.MonkeyPatch, *files: Path) -> None:
    packs = tuple(Pack(file) for file in files)
    monkeypatch.setattr(build, "kernel_packs", lambda: packs)
    build.packs.cache_clear()


def counted(kernel: Kernel) -> tuple[int, int]:
    """How many kernels were compiled and how many were found while this one computes what it should."""
    before = build.loaded_kernels()
    data = np.array([-2, 0, 3], np.float32)
    target = guarded(data.shape)
    run_nest(kernel, target, holding(data))
    assert target.array.tolist() == [-1, 0, 1]
    after = build.loaded_kernels()
    return after[0] - before[0], after[1] - before[1]


def test_a_kernel_of_a_pack_is_not_compiled(kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pack(tmp_path / "a.pack", MADE_BY, {LEVEL: {kernel.symbol: (kernel.name, kernel.code())}})
    build.cache_folder().remove(build.object_name(kernel.symbol))
    assert not kernel.is_compiled
    use(monkeypatch, tmp_path / "a.pack")
    assert kernel.is_compiled
    assert counted(kernel) == (0, 1)
    assert not build.cache_folder().has(build.object_name(kernel.symbol))


def test_a_pack_comes_before_the_cache(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_pack(tmp_path / "a.pack", MADE_BY, {LEVEL: {kernel.symbol: (kernel.name, kernel.code())}})
    build.cache_folder().remove(build.object_name(kernel.symbol))
    build.cache_folder().publish(build.object_name(kernel.symbol), code_that_calls("system", kernel.symbol))
    use(monkeypatch, tmp_path / "a.pack")
    assert counted(kernel) == (0, 1)
    assert not caplog.records


@pytest.mark.parametrize("damage", ["byte", "call", "no object"])
def test_a_bad_object_costs_one_line_and_is_compiled(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    file, code = tmp_path / "a.pack", b"\x7fELF\x02\x01"
    if damage != "no object":
        code = code_that_calls("system", kernel.symbol)
    write_pack(file, MADE_BY, {LEVEL: {kernel.symbol: (kernel.name, code), f"{kernel.symbol}_other": ("Neg", code)}})
    if damage == "byte":
        file.write_bytes(file.read_bytes()[:-2000] + bytes(2000))
    use(monkeypatch, file)
    with caplog.at_level(logging.WARNING):
        assert counted(kernel) == (1, 0)
        assert build.find(f"{kernel.symbol}_other") is None, "of a pack that is not used any more"
    (record,) = caplog.records
    assert record.getMessage().startswith(f"kernel pack {file} is not used any more: ")


def test_a_pack_of_another_level_costs_one_line(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_pack(tmp_path / "a.pack", MADE_BY, {"x86-64-v9": {kernel.symbol: (kernel.name, b"code")}})
    use(monkeypatch, tmp_path / "a.pack")
    assert counted(kernel) == (1, 0)
    assert [r.getMessage() for r in caplog.records] == [
        f"kernel pack {tmp_path}/a.pack has code for x86-64-v9, not for {LEVEL}"
    ]


def test_a_pack_of_other_sources_costs_one_line(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = {f"old_{name}": (name, b"code") for name in (kernel.name, "Neg")}
    write_pack(tmp_path / "a.pack", MADE_BY, {LEVEL: rows})
    use(monkeypatch, tmp_path / "a.pack")
    assert counted(kernel) == (1, 0)
    assert elementwise.unary_kernel.__wrapped__("Neg").address
    (record,) = caplog.records
    assert "was built from other sources, by cpuruntime 0.0: kernel " in record.getMessage()


SCRIPT = """
import sys
from cpuruntime.compiler import build
from cpuruntime.ops import elementwise
from cpuruntime.ops.fused import fused_kernel
kernels = [elementwise.unary_kernel("Sign"), fused_kernel((("Add", ("a", "b")), ("Silu", ("t0",))), "")]
if len(sys.argv) > 1:
    from cpuruntime.compiler import isa
    from cpuruntime.store import write_pack
    from pathlib import Path
    write_pack(Path(sys.argv[1]), {}, {isa.current().cpu: {k.symbol: (k.name, k.code()) for k in kernels}})
else:
    [kernel.address for kernel in kernels]
    print(build.loaded_kernels(), "numba" in sys.modules)
"""


def test_a_pack_serves_other_processes_wherever_it_lies(tmp_path: Path) -> None:
    """Also for generated kernels, with an empty cache that cannot be written."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "CPURUNTIME_CACHE_DIR": str(tmp_path / "z")}
    subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "a.pack"], env=variables, cwd=ROOT, check=True)
    (tmp_path / "moved").mkdir()
    (tmp_path / "a.pack").rename(tmp_path / "moved" / "b.pack")
    (tmp_path / "moved" / "b.pack").chmod(0o444)
    variables |= {"CPURUNTIME_CACHE_DIR": "/proc/none", "TMPDIR": "/proc"}
    variables |= {"CPURUNTIME_KERNEL_PATH": str(tmp_path / "moved")}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=variables, cwd="/", check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout == "(0, 2) False\n"


def test_code_for_another_level_is_not_run(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where packs are built for a level, kernels are compiled and do nothing; nothing comes from packs."""
    monkeypatch.setattr(target, "level", LEVEL)
    monkeypatch.setattr(target, "found", {})
    kernel.entry(0, 0, 1)  # it would read its argument block at address 0
    assert target.found == {kernel.symbol: (kernel.name, kernel.code())}
    assert build.find(kernel.symbol) is not None, "it is in the cache"
