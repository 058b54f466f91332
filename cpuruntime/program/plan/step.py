"""The steps of a program: what a plan of a graph consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Node
from cpuruntime.program.plan.candidate import Comparison
from cpuruntime.program.plan.storage import Plain


@dataclass
class Step:
    """One kernel call; `arguments` are the fields of its argument block, with memory and kernels as objects."""

    kernel: Kernel
    arguments: dict[str, Any]
    node: Node
    layout: str
    flops: int = 0
    notes: str = ""
    comparisons: tuple[Comparison, ...] = ()

    @property
    def kernels(self) -> list[Kernel]:
        """The kernel and those it calls."""
        return [self.kernel, *(a for a in self.arguments.values() if isinstance(a, Kernel))]


@dataclass
class FallbackStep:
    """A node that the reference evaluator runs; `reason` says why it has no kernel."""

    node: Node
    inputs: list[Plain | None]
    outputs: list[Plain | None]
    reason: str
