"""Helpers that kernels call, compiled into each of them, and modules that are loaded when a kernel is compiled."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

OPTIONS = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Numba's options for kernels and helpers."""


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
    """A helper that kernels call; compiled into each of them."""

    def __init__(self, function: FunctionType):
        self.function = function
        self._compiled: Any = None
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def compiled(self) -> Any:
        if self._compiled is None:
            import numba

            self._compiled = numba.njit(bind(self.function), **OPTIONS)
        return self._compiled


class _Made(Inline):
    def __init__(self, module: str, factory: str, arguments: tuple[Any, ...]):
        super().__init__(_in_kernels_only)
        self._module, self._factory, self._arguments = module, factory, arguments

    def compiled(self) -> Any:
        return getattr(lazy(self._module), self._factory)(*self._arguments)


def made(module: str, factory: str, *arguments: Any) -> Inline:
    """The helper that `factory(*arguments)` of a module makes, when a kernel that calls it is compiled."""
    return _Made(module, factory, arguments)


def _in_kernels_only(*arguments: Any) -> Any:
    raise TypeError("this helper exists in compiled kernels only")


def inline(function: FunctionType) -> Inline:
    """Declares a helper function for kernels."""
    return Inline(function)


def _names(code: CodeType) -> set[str]:
    nested = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*(_names(c) for c in nested))


def bind(function: FunctionType) -> FunctionType:
    """`function` with the helpers it names replaced by compiled ones."""
    scope = dict(function.__globals__)
    for name in _names(function.__code__) & scope.keys():
        if isinstance(scope[name], Inline):
            scope[name] = scope[name].compiled()
    bound = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, _cells(function))
    bound.__module__ = function.__module__
    return bound


def _cells(function: FunctionType) -> tuple[Any, ...] | None:
    def convert(cell: Any) -> Any:
        value = cell.cell_contents
        return type(cell)(value.compiled()) if isinstance(value, Inline) else cell

    return tuple(convert(c) for c in function.__closure__) if function.__closure__ else None


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
