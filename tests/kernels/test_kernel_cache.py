"""The kernel cache while others change the folders above it, and object code that calls what no kernel may call."""

from __future__ import annotations

import logging
import os
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import TypingError
from support.objects import code_that_calls
from support.users import OTHER, run_script

from cpuruntime.compiler import build
from cpuruntime.compiler.kernel import kernel, record
from cpuruntime.compiler.objects import ALLOWED_SYMBOLS, forbidden_symbols
from cpuruntime.compiler.simd import store_f32
from cpuruntime.ops import elementwise
from cpuruntime.store import Folder

SCRIPT = f"""
from cpuruntime.compiler.build import loaded_kernels
from cpuruntime.ops import elementwise
sign, neg = elementwise.unary_kernel("Sign"), elementwise.unary_kernel("Neg", "int64")
def as_attacker(function):
    pid = os.fork()
    if not pid:
        try:
            if os.geteuid() == 0:
                become({OTHER})
            function()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
"""


def forged(folder: Path) -> None:
    """Fills a folder with the objects of both kernels, as another user of this machine could."""
    run_script(SCRIPT + "sign.address, neg.address", CPURUNTIME_CACHE_DIR=str(folder))
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, OTHER, -1)


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A folder that the attacker made and anybody can write to."""
    parent = tmp_path / "shared"
    parent.mkdir()
    parent.chmod(0o777)
    if os.geteuid() == 0:
        os.chown(parent, OTHER, -1)
    return parent


def test_a_swap_of_the_parent_changes_nothing(parent: Path) -> None:
    """At 53c12cb, the folder's path was resolved for each kernel, so the second one was the attacker's."""
    forged(parent / "forged")
    script = """
sign.address
os.chdir(sys.argv[1])  # another user may not pass through pytest's folders
def swap():
    os.rename("kernels", "old")
    os.rename("forged/kernels", "kernels")
as_attacker(swap)
neg.address
print(loaded_kernels())
"""
    assert run_script(SCRIPT + script, parent, CPURUNTIME_CACHE_DIR=str(parent)) == ["(2, 0)"]
    assert len(list((parent / "old").glob("*.o"))) == 2


def test_a_change_of_the_working_folder_changes_nothing(parent: Path, tmp_path: Path) -> None:
    """At 53c12cb, CPURUNTIME_CACHE_DIR=c meant another folder after chdir, and objects ran that lay there."""
    forged(parent / "c")
    script = """
sign.address
os.chdir(sys.argv[1])
neg.address
print(loaded_kernels())
"""
    assert run_script(SCRIPT + script, parent, folder=tmp_path, CPURUNTIME_CACHE_DIR="c") == ["(2, 0)"]
    assert len(list((tmp_path / "c" / "kernels").glob("*.o"))) == 2


def test_a_kernel_that_may_raise_is_an_error() -> None:
    @kernel(record("target step"), "raising")
    def raising(a, thread, threads):
        for i in range(0, 8, a.step):
            store_f32(a.target + 4 * i, 0.0)

    with pytest.raises(RuntimeError, match=r"kernel raising calls kernel_raises; kernels may not allocate or raise"):
        raising.address  # noqa: B018


def test_a_kernel_that_allocates_is_an_error() -> None:
    @kernel(record("target"), "allocating")
    def allocating(a, thread, threads):
        np.empty(thread)[:] = 0

    with pytest.raises(TypingError, match="empty"):
        allocating.address  # noqa: B018


@pytest.mark.parametrize("callee", ["system", "damaged"])
def test_code_that_calls_what_it_must_not_is_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, callee: str
) -> None:
    """At 53c12cb, ALLOWED_SYMBOLS held where kernels were compiled; an object of the cache could call anything."""
    folder = Folder(tmp_path)
    monkeypatch.setattr(build, "cache_folder", lambda: folder)
    kernel = elementwise.unary_kernel.__wrapped__("Sign")
    kernel.symbol = f"test_of_{callee}"
    file = build.object_name(kernel.symbol)
    folder.publish(file, code_that_calls(callee, kernel.symbol) if callee != "damaged" else b"\x7fELF\x02\x01")
    with caplog.at_level(logging.WARNING):
        before = build.loaded_kernels()
        assert kernel.address
        assert build.loaded_kernels() == (before[0] + 1, before[1])
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{file} in the kernel cache is not used and compiled anew: it ")
    assert ("calls system" in caplog.text) == (callee == "system")
    assert not forbidden_symbols(folder.read(file) or b""), "it was replaced"


def test_symbols_of_objects() -> None:
    for callee in ALLOWED_SYMBOLS:
        assert forbidden_symbols(code_that_calls(callee)) == set()
    code = code_that_calls("memcmp")
    assert forbidden_symbols(code) == {"memcmp"}
    for length in range(0, len(code), 7):
        with suppress(ValueError):
            assert forbidden_symbols(code[:length]) <= {"memcmp"}
    far = bytearray(code)
    struct.pack_into("<Q", far, 40, 2**64 - 1)
    with pytest.raises(ValueError, match="it is damaged"):
        forbidden_symbols(bytes(far))
    with pytest.raises(ValueError, match="it is no ELF file"):
        forbidden_symbols(b"MZ")
