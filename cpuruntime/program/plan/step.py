"""The steps of a program: what a plan of a graph consists of."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Extent, Node, Size
from cpuruntime.program.plan.candidate import Comparison
from cpuruntime.program.plan.storage import Plain
from cpuruntime.records import entity


@entity
class KernelChoice:
    """Kernels of the same arguments: the first, or a later one for each number of `reached` that is 1, not 0."""

    kernels: tuple[Kernel, ...]
    reached: tuple[Size, ...]

    @property
    def at_hand(self) -> Kernel:
        """The kernel at the sizes at hand."""
        return self.kernels[sum(number.value for number in self.reached)]

    @property
    def arguments(self) -> np.dtype:
        return self.kernels[0].arguments

    @property
    def name(self) -> str:
        return self.kernels[0].name

    @property
    def tile(self) -> tuple[int, ...]:
        return self.at_hand.tile


@entity
class Step:
    """One kernel call; `arguments` are the fields of its argument block, with memory and kernels as objects.

    `moved` are the bytes that it reads and writes, where these are not all values of its node.
    """

    call: Kernel | KernelChoice
    arguments: dict[str, Any]
    node: Node
    layout: str
    flops: int = 0
    notes: str = ""
    comparisons: tuple[Comparison, ...] = ()
    moved: Extent | None = None

    @property
    def kernel(self) -> Kernel:
        """The kernel at the sizes at hand."""
        return self.call if isinstance(self.call, Kernel) else self.call.at_hand

    @property
    def kernels(self) -> list[Kernel]:
        """All kernels that the step may call."""
        found: list[Kernel] = []
        for each in (self.call, *self.arguments.values()):
            found += [each] if isinstance(each, Kernel) else each.kernels if isinstance(each, KernelChoice) else []
        return found


@entity
class FallbackStep:
    """A node that the reference evaluator runs; `reason` says why it has no kernel."""

    node: Node
    inputs: list[Plain | None]
    outputs: list[Plain | None]
    reason: str
