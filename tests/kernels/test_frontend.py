"""How kernels are lowered: by Numba's rules alone, each helper once, without Numba's own code generator."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from support.users import run_script

from cpuruntime.compiler import build
from cpuruntime.compiler.kernel import inline, kernel, record
from cpuruntime.compiler.simd import store_i64
from cpuruntime.store import Folder

BLOCK = record("target factor")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    monkeypatch.setattr(build, "cache_folder", lambda: folder)


def test_a_helper_is_lowered_once_for_all_constants_that_it_is_called_with() -> None:
    @inline
    def product(x, y):
        return x * y

    @kernel(BLOCK, "products")
    def products(a, thread, threads):
        store_i64(a.target, product(3, 5) + product(a.factor, 7) + product(threads, a.factor))

    result = np.zeros(1, np.int64)
    block = np.array((result.ctypes.data, 11), BLOCK)
    products(block, 2)
    assert result[0] == 3 * 5 + 11 * 7 + 2 * 11
    assert [str(signature) for signature in product.compiled.nopython_signatures] == ["(int64, int64) -> int64"]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_as_before(enabled: bool) -> None:
    @kernel(BLOCK, f"collected_{enabled}")
    def collected(a, thread, threads):
        store_i64(a.target, a.factor)

    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        collected.address  # noqa: B018
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


SCRIPT = """
from cpuruntime.compiler.build import loaded_kernels
from cpuruntime.ops.elementwise import unary_kernel
unary_kernel("Exp").address
from numba.core.registry import cpu_target
print(loaded_kernels(), [name for name in vars(cpu_target) if "context" in name])
"""


def test_numbas_own_code_generator_is_never_made(tmp_path: Path) -> None:
    assert run_script(SCRIPT, CPURUNTIME_CACHE_DIR=str(tmp_path)) == ["(1, 0) []"]
