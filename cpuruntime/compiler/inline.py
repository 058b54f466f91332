"""Helpers that kernels call, compiled into each of them, and modules that are loaded when a kernel is compiled."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any


def lazy(name: str) -> ModuleType:
    """The module `name`, executed at its first use, so that naming `simd` does not load the compiler."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Inline:
    """A helper that kernels call; compiled into each of them.

    `make` gives what kernels call in place of the compiled `function`.
    """

    def __init__(self, function: FunctionType, make: Callable[[], Any] | None = None):
        self.function = function
        self.__doc__ = function.__doc__
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    @cached_property
    def compiled(self) -> Any:
        if self._make:
            return self._make()
        from cpuruntime.compiler.frontend import Function

        return Function(bind(self.function))


inline = Inline
"""Declares a helper function for kernels."""


def made(module: str, factory: str, *arguments: Any) -> Inline:
    """The helper that `factory(*arguments)` of a module makes, when a kernel that calls it is compiled."""
    return Inline(_in_kernels_only, lambda: getattr(lazy(module), factory)(*arguments))


def _in_kernels_only(*arguments: Any) -> Any:
    raise TypeError("this helper exists in compiled kernels only")


def _names(code: CodeType) -> set[str]:
    nested = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*(_names(c) for c in nested))


def _in_kernels(value: Any) -> Any:
    return value.compiled if isinstance(value, Inline) else value


def bind(function: FunctionType) -> FunctionType:
    """`function` with the helpers it names replaced by compiled ones."""
    scope = dict(function.__globals__)
    for name in _names(function.__code__) & scope.keys():
        scope[name] = _in_kernels(scope[name])
    cells = tuple(CellType(_in_kernels(cell.cell_contents)) for cell in function.__closure__ or ())
    bound = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells)
    bound.__module__ = function.__module__
    return bound


def files(function: FunctionType) -> set[Path]:
    """The files of a function and of the helpers it reaches, which a factory may have got from elsewhere."""
    pending, seen = [function], set()
    while pending:
        here = pending.pop()
        if here not in seen:
            seen.add(here)
            held = [here.__globals__.get(name) for name in _names(here.__code__)]
            held += [cell.cell_contents for cell in here.__closure__ or ()]
            # Not isinstance: that would execute a lazy module.
            pending += [helper.function for helper in held if issubclass(type(helper), Inline)]
    return {Path(f.__code__.co_filename) for f in seen}
