"""The instruction sets kernels are generated for, and the one in use.

A kernel is the same Python for every instruction set: vector width, register count and target features are read from
here. The widest set the processor has is used unless the environment variable CPURUNTIME_ISA names a smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm

from cpuruntime.store import trusted_environment


@dataclass(frozen=True)
class Isa:
    """One instruction set: `lanes` float32 in a vector register, `registers` vector registers, LLVM's target names."""

    name: str
    lanes: int
    registers: int
    cpu: str
    features: str
    needs: frozenset[str]


def _x86_sets(cpu: str, features: str) -> tuple[Isa, ...]:
    return (
        Isa("avx512", 16, 32, cpu, features, frozenset({"avx512f", "avx512vl", "avx512bw", "avx512dq", "fma"})),
        Isa("avx2", 8, 16, "x86-64-v3", "", frozenset({"avx2", "fma"})),
        Isa("generic", 4, 16, "x86-64", "", frozenset()),
    )


@cache
def supported() -> tuple[Isa, ...]:
    """The instruction sets this processor can run, widest first."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    host = {name for name, present in features.items() if present}
    cpu, flags = llvm.get_host_cpu_name(), features.flatten()
    if llvm.get_process_triple().startswith("x86_64"):
        return tuple(isa for isa in _x86_sets(cpu, flags) if isa.needs <= host)
    return (Isa("neon", 4, 32, cpu, flags, frozenset()),)


@cache
def current() -> Isa:
    """The instruction set kernels are compiled for in this process.

    Raises ValueError when CPURUNTIME_ISA names a set that does not exist or that this processor lacks.
    """
    sets = {isa.name: isa for isa in supported()}
    wanted = trusted_environment().get("CPURUNTIME_ISA")
    if not wanted:
        return next(iter(sets.values()))
    if wanted not in sets:
        raise ValueError(f"CPURUNTIME_ISA is '{wanted}'; this processor offers {', '.join(sets)}.")
    return sets[wanted]


LANES = current().lanes
VECTOR_BYTES = 4 * LANES
LINE = 64
"""Bytes of a cache line."""
