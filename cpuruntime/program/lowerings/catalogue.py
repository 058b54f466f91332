"""Finds the lowering of a node: every module of this folder and of `convolution` is imported, so the table is whole."""

from importlib import import_module
from pkgutil import iter_modules

from cpuruntime.program import convolution, lowerings
from cpuruntime.program.plan.lowering import TABLE, find_lowering

for _folder in (convolution, lowerings):
    for _module in iter_modules(_folder.__path__):
        import_module(f"{_folder.__name__}.{_module.name}")

__all__ = ["TABLE", "find_lowering"]
