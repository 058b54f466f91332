"""What the processor has beyond its instruction set: taken where Linux shows it and lets the process use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cpuruntime.compiler import isa, target

AMX = {"amx_tile", "amx_int8", "amx_bf16"}
ASKED = isa.byte_products, isa.bf16_products, isa.byte_tiles, isa.bf16_tiles, isa.may_use_tiles


class Linux:
    """The C library of a system that answers as it is told."""

    def __init__(self, answer: int) -> None:
        self.calls: list[tuple[int, ...]] = []
        self._answer = answer

    def syscall(self, *arguments: int) -> int:
        self.calls.append(arguments)
        return self._answer


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What was found is forgotten before and after."""
    for function in ASKED:
        function.cache_clear()
    yield
    for function in ASKED:
        function.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, flags: set[str], answer: int = 0, name: str = "avx512") -> Linux:
    linux = Linux(answer)
    monkeypatch.setattr(isa.ctypes, "CDLL", lambda library: linux)
    monkeypatch.setattr(isa, "processor_flags", lambda: flags)
    monkeypatch.setattr(isa, "current", lambda: next(one for one in isa.X86 if one.name == name))
    return linux


def test_tiles_need_the_flags_and_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = pretend(monkeypatch, AMX)
    assert (isa.byte_tiles(), isa.bf16_tiles()) == ("+amx-int8", "+amx-bf16")
    assert linux.calls == [(158, 0x1023, 18)]


@pytest.mark.parametrize(
    ("flags", "answer", "name"),
    [
        pytest.param(AMX, -1, "avx512", id="no permission"),
        pytest.param(AMX - {"amx_tile"}, 0, "avx512", id="no tiles"),
        pytest.param({"amx_tile"}, 0, "avx512", id="no products"),
        pytest.param(AMX, 0, "avx2", id="a smaller set"),
    ],
)
def test_there_are_no_tiles_without(flags: set[str], answer: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    linux = pretend(monkeypatch, flags, answer, name)
    assert (isa.byte_tiles(), isa.bf16_tiles()) == ("", "")
    assert bool(linux.calls) == ("amx_tile" in flags and name == "avx512")


def test_code_for_a_level_does_without_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, AMX)
    monkeypatch.setattr(target, "level", "x86-64-v4")
    assert (isa.byte_tiles(), isa.bf16_tiles()) == ("", "")


def test_what_a_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {"avx512_vnni"})
    assert isa.lacking("") == ""
    assert isa.lacking("+avx512vnni") == ""
    assert isa.lacking("+avx512vnni,+amx-int8") == "+amx-int8"
