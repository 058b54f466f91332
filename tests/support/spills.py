"""Counts vector registers that a kernel's machine code spills to the stack."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.ops.convolution import convolution
from cpuruntime.ops.depthwise import depthwise
from cpuruntime.ops.grouped_convolution import grouped_convolution
from cpuruntime.ops.matmul import matmul
from cpuruntime.ops.quantised_depthwise import quantised_depthwise
from cpuruntime.ops.quantised_product import quantised_product
from cpuruntime.ops.winograd import phases
from cpuruntime.ops.winograd_methods import Algorithm, Method


def winograd_product(rows: int, columns: int, rounds: bool) -> Kernel:
    """The kernel of Winograd's method that multiplies."""
    return phases(Method(Algorithm(2, 3), Algorithm(2, 3), rounds), rows, columns, "")["product_phase"]


_FACTORIES = (
    convolution, depthwise, grouped_convolution, matmul, quantised_depthwise, quantised_product, winograd_product,
)  # fmt: skip
FAMILIES: dict[str, Callable[..., Kernel]] = {f.__name__: f for f in _FACTORIES}
Variant = tuple[str, tuple[Any, ...]]
"""The name of a kernel's factory and its arguments."""

# AT&T syntax: a packed float store whose address is formed from a register. Masks are stored as integers.
STORE = re.compile(r"\bv?mov[au]p[sd]\s+%[xyz]mm\d+, [^\n(]*\(%(\w+)")
ANY_STORE = re.compile(r"\bv?mov(?:[au]p[sd]|dq[au]\d*)\s+%[xyz]mm\d+, [^\n(]*\(%(\w+)")
FRAME = re.compile(r"\bmovq\s+%rsp, %rbp\b")


def spills_in(assembly: str) -> int:
    """The number of vector stores to the stack; %rbp points there only where it was set to."""
    stack = {"rsp", "rbp"} if FRAME.search(assembly) else {"rsp"}
    return sum(base in stack for base in STORE.findall(assembly))


def spills_in_loops(assembly: str) -> int:
    """The number of stores of vectors of any type to the stack in innermost loops."""
    stack = {"rsp", "rbp"} if FRAME.search(assembly) else {"rsp"}
    label, body, count = "", [], 0
    for line in assembly.splitlines():
        if start := re.match(r"(\.LBB\w+):", line):
            label, body = start[1], []
        elif re.search(rf"\bj\w+\s+{re.escape(label)}$", line) and label:
            count += sum(base in stack for base in ANY_STORE.findall("\n".join(body)))
        body.append(line)
    return count


def spilled(variant: Variant) -> int:
    """The number of vector stores to the stack in one kernel."""
    family, parameters = variant
    assembly = FAMILIES[family](*parameters).assembly()
    return spills_in_loops(assembly) if family.startswith("quantised") else spills_in(assembly)


def count_spills(variants: Iterable[Variant]) -> dict[Variant, int]:
    """`spilled` for each variant, compiled by as many processes as there are cores to use, at most 4."""
    variants = list(variants)
    workers = min(4, len(os.sched_getaffinity(0)), len(variants))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return dict(zip(variants, pool.map(spilled, variants)))
