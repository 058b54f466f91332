"""Kernels: Python functions that become machine code at an address, once per machine.

A kernel is a function `kernel(arguments, thread, threads)`: it reads its argument block (a record) by field name, does
its own share of the work, allocates nothing and never raises. `@kernel(dtype)` declares one; `.address` is the native
code, compiled by Numba on first use and cached as an object file (`build.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cpuruntime.compiler.build import Kernel
from cpuruntime.compiler.inline import Inline, inline, lazy, made
from cpuruntime.compiler.recipes import factory

__all__ = ["Inline", "Kernel", "factory", "inline", "kernel", "lazy", "made", "record"]


def kernel(
    arguments: np.dtype, name: str | None = None, family: str | None = None, tile: Sequence[int] = (),
    features: str = "",
) -> Callable[[Callable[..., None]], Kernel]:
    """Declares a kernel whose argument block is a record of `arguments` (an aligned dtype).

    Kernels made in a loop or a factory pass a `name` that spells their parameters, since the name is the cache's key.
    The family is that of the file where none is given; `features` are as of `Kernel`.
    """

    def declare(function: Any) -> Kernel:
        file = function.__module__.rpartition(".")[2]
        return Kernel(function, arguments, name or function.__name__, family or file, tile, features)

    return declare


def record(*names: str, **fields: str | type) -> np.dtype:
    """An aligned record type for an argument block.

    `names` are int64 fields (addresses, sizes), several in a string; `fields` have types of their own: "f4" and so on.
    """
    return np.dtype([*((name, "i8") for words in names for name in words.split()), *fields.items()], align=True)
