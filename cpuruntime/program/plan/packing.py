"""Rearranging constants at compile time by the kernels that move data at run time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Origin
from cpuruntime.ops.movement import copy_transposed, plan_copy
from cpuruntime.records import record

COPIES = (copy_transposed,)
"""The kernels of `copy_into`, but for rare shapes."""


def copy_into(target: np.ndarray, source: np.ndarray) -> None:
    """target[...] = source for arrays of one shape and dtype and any strides; much faster than NumPy on transposes."""
    assert target.shape == source.shape
    assert target.dtype == source.dtype
    kernel, fields = plan_copy(source.shape, source.strides, target.strides, source.itemsize)
    run_kernel(kernel, source=source.ctypes.data, target=target.ctypes.data, **fields)


def argument_block(kernel: Kernel, **fields: Any) -> np.ndarray:
    """An argument block, int or float by field; fields that are not given are zero."""
    block = np.zeros((), kernel.arguments)
    for name, value in fields.items():
        block[name] = value
    return block


def run_kernel(kernel: Kernel, **fields: Any) -> None:
    """One call of a kernel on this thread; addresses are given as numbers."""
    kernel(argument_block(kernel, **fields))


class Packing(ABC):
    """How a constant is laid out for a kernel: a record, so that another process can do it again."""

    @property
    def kernels(self) -> Sequence[Kernel]:
        """Those that `fill` runs."""
        return COPIES

    @abstractmethod
    def fill(self, memory: np.ndarray, source: Any) -> None:
        """Writes a constant to zeroed bytes."""


@record
class Copy(Packing):
    """The constant as it is, row by row."""

    @property
    def kernels(self) -> Sequence[Kernel]:
        return ()

    def fill(self, memory: np.ndarray, source: Any) -> None:
        memory[: source.nbytes] = np.ascontiguousarray(source).reshape(-1).view(np.uint8)


Recipe = tuple[Packing, Origin]
"""How a constant is packed, and from what."""
