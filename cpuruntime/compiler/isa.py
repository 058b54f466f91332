"""The instruction sets kernels are generated for, and the one in use.

A kernel is the same Python for every instruction set: vector width, register count and target features are read from
here. The widest set the processor has is used unless the environment variable CPURUNTIME_ISA names a smaller one.
Code for x86 is made for a level, not for a processor, so that it runs on every processor of the level.
"""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from cpuruntime.compiler import target
from cpuruntime.store import trusted_environment

if TYPE_CHECKING:
    import llvmlite.binding as llvm


@dataclass(frozen=True)
class Isa:
    """One instruction set: `lanes` float32 in a vector register, `registers` vector registers, LLVM's target names.

    `cpu` names the level, `needs` are the flags that Linux must show of a processor of it.
    """

    name: str
    lanes: int
    registers: int
    cpu: str
    features: str
    needs: frozenset[str]


_FIRST = 2**14
"""Bytes of /proc/cpuinfo that hold all of the first processor; arbitrary."""

_V3 = frozenset({"avx2", "fma", "bmi1", "bmi2", "f16c", "abm", "movbe"})
_V4 = _V3 | {"avx512f", "avx512vl", "avx512bw", "avx512cd", "avx512dq"}
X86 = (
    Isa("avx512", 16, 32, "x86-64-v4", "", _V4),
    Isa("avx2", 8, 16, "x86-64-v3", "", _V3),
    Isa("generic", 4, 16, "x86-64", "", frozenset()),
)
"""Widest first."""


@cache
def supported() -> tuple[Isa, ...]:
    """The instruction sets this processor can run, widest first."""
    if platform.machine() == "x86_64":
        host = processor_flags()
        return tuple(isa for isa in X86 if isa.needs <= host)
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    return (Isa("neon", 4, 32, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), frozenset()),)


def processor_flags() -> set[str]:
    """What Linux says the processor can do, and may be used."""
    with open("/proc/cpuinfo", "rb") as file:
        text = file.read(_FIRST).decode()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return {*flags.partition(":")[2].split()}


@cache
def current() -> Isa:
    """The instruction set kernels are compiled for in this process.

    Raises ValueError when CPURUNTIME_ISA names a set that does not exist or that this processor lacks.
    """
    sets = {isa.name: isa for isa in supported()}
    if target.level is not None:
        return next(isa for isa in X86 if isa.cpu == target.level)
    wanted = trusted_environment().get("CPURUNTIME_ISA")
    if not wanted:
        return next(iter(sets.values()))
    if wanted not in sets:
        raise ValueError(f"CPURUNTIME_ISA is '{wanted}'; this processor offers {', '.join(sets)}.")
    return sets[wanted]


def converts_halves() -> bool:
    """Whether the instruction set in use converts f16 to f32."""
    return current().name != "generic"


_BYTE_PRODUCTS = {"avx512": ("avx512_vnni", "+avx512vnni"), "avx2": ("avx_vnni", "+avxvnni")}
_BF16_PRODUCTS = {"avx512": ("avx512_bf16", "+avx512bf16")}
_BYTE_TILES = {"avx512": ("amx_int8", "+amx-int8")}
_BF16_TILES = {"avx512": ("amx_bf16", "+amx-bf16")}
"""By instruction set: the flag that Linux shows, and LLVM's name, of what a level does not promise."""

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
"""Linux's number of a system call, and its arguments for the state of the tile registers."""


def _beyond(by_isa: dict[str, tuple[str, str]]) -> str:
    """LLVM's name of what the processor has beyond the level; "" without it. Code for a level has to run without."""
    flag, feature = by_isa.get(current().name, ("", ""))
    return feature if flag and target.level is None and flag in processor_flags() else ""


@cache
def byte_products() -> str:
    """LLVM's name of the instructions that add four products of bytes at once; "" where there are none."""
    return _beyond(_BYTE_PRODUCTS)


@cache
def bf16_products() -> str:
    """LLVM's name of the instructions that add two products of bf16 numbers at once; "" where there are none."""
    return _beyond(_BF16_PRODUCTS)


@cache
def byte_tiles() -> str:
    """The same of those that multiply tiles of bytes (AMX)."""
    return _beyond(_BYTE_TILES) if may_use_tiles() else ""


@cache
def bf16_tiles() -> str:
    """The same of those that multiply tiles of bf16 numbers (AMX)."""
    return _beyond(_BF16_TILES) if may_use_tiles() else ""


@cache
def may_use_tiles() -> bool:
    """Whether Linux lets this process use the tile registers, which it has to be asked for."""
    if not _beyond({"avx512": ("amx_tile", "+amx-tile")}):
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0


def lacking(features: str) -> str:
    """Those of a kernel's features, LLVM's names, that this process may not use."""
    found = byte_products(), bf16_products(), byte_tiles(), bf16_tiles()
    return ",".join(name for name in features.split(",") if name not in found)


LANES = current().lanes
VECTOR_BYTES = 4 * LANES
LINE = 64
"""Bytes of a cache line."""


@cache
def target_machine(features: str = "") -> llvm.TargetMachine:
    """LLVM's description of the machine that kernels are compiled for, which may have more `features`."""
    import llvmlite.binding as llvm  # not above: a process that compiles nothing does without

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    level = current()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=level.cpu, features=",".join(filter(None, (level.features, features))), opt=3, reloc="static",
        codemodel="jitdefault", jit=True,
    )  # fmt: skip
