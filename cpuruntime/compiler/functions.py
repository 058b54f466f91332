"""Functions of three words that return one, compiled and cached as kernels are: what CPython calls without ctypes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from cpuruntime.compiler.build import Kernel, symbol_of

_ENTRY = """
declare i64 @"{body}"(ptr, i64, i64)
define i64 @{symbol}(i64 %block, i64 %first, i64 %second) {{
  %record = inttoptr i64 %block to ptr
  %result = call i64 @"{body}"(ptr %record, i64 %first, i64 %second)
  ret i64 %result
}}
"""


class Function(Kernel):
    """A function `function(record, first, second)` of int64 words that returns one."""

    @cached_property
    def symbol(self) -> str:
        return symbol_of(self, __file__)

    def compiled(self) -> bytes:
        from cpuruntime.compiler import machine_code

        return machine_code.compiled(self.function, self.arguments, self.symbol, entry=_ENTRY)


def function(arguments: np.dtype) -> Callable[[Callable[..., int]], Function]:
    """Declares a function whose first word is the address of a record of `arguments`."""

    def declare(declared: Any) -> Function:
        return Function(declared, arguments, declared.__name__, declared.__module__.rpartition(".")[2])

    return declare
