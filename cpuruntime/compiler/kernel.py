"""Kernels: Python functions that become machine code at an address, once per machine.

A kernel is a function `kernel(arguments, thread, threads)`: it reads its argument block (a record) by field name, does
its own share of the work, allocates nothing and never raises. `@kernel(dtype)` declares one; `.address` is the native
code, compiled by Numba on first use and cached as an object file (`build.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np

from cpuruntime.compiler import build
from cpuruntime.compiler.inline import Inline, inline, lazy, made

__all__ = ["Inline", "Kernel", "inline", "kernel", "lazy", "made", "record"]


class Kernel(build.Source):
    """A kernel. `family` names kernels that do the same work; `tile` is the register tile: rows, columns and so on."""

    def __init__(
        self, function: FunctionType, arguments: np.dtype, name: str, family: str = "", tile: Sequence[int] = ()
    ) -> None:
        super().__init__(function, arguments, name)
        self.family = family
        self.tile = tuple(tile)
        self._address = 0

    def __repr__(self) -> str:
        return f"<Kernel {self.name}>"

    @property
    def address(self) -> int:
        """Address of the native code; compiled or loaded on first use. Thread-safe."""
        self._address = self._address or build.load(self)
        return self._address

    @property
    def is_compiled(self) -> bool:
        """Whether the native code is there, loaded or in the cache."""
        return bool(self._address) or build.is_cached(self.symbol)

    @cached_property
    def entry(self) -> Callable[[int, int, int], None]:
        """The native code as a Python callable of three int64 that releases the GIL while it runs."""
        return build.prototype()(self.address)

    def assembly(self) -> str:
        """The machine code as text, compiled afresh."""
        return build.assembly(self)

    def __call__(self, block: np.ndarray, threads: int = 1) -> None:
        """Runs every thread's share one after another on the calling thread; `block` is one record of `arguments`."""
        assert block.dtype == self.arguments
        for thread in range(threads):
            self.entry(block.ctypes.data, thread, threads)


def kernel(
    arguments: np.dtype, name: str | None = None, family: str | None = None, tile: Sequence[int] = ()
) -> Callable[[Callable[..., None]], Kernel]:
    """Declares a kernel whose argument block is a record of `arguments` (an aligned dtype).

    Kernels made in a loop or a factory pass a `name` that spells their parameters, since the name is the cache's key.
    The family is that of the file where none is given.
    """

    def declare(function: Any) -> Kernel:
        file = function.__module__.rpartition(".")[2]
        return Kernel(function, arguments, name or function.__name__, family or file, tile)

    return declare


def record(*names: str, **fields: str | type) -> np.dtype:
    """An aligned record type for an argument block.

    `names` are int64 fields (addresses, sizes), several in a string; `fields` have types of their own: "f4" and so on.
    """
    return np.dtype([*((name, "i8") for words in names for name in words.split()), *fields.items()], align=True)
