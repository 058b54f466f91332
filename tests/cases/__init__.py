"""Rows of cases by family of operators, one file a family; tests and `bench/kernels.py --cases FAMILY` use the same.

A row is a `Case` of one ONNX operator, or has like it a `name` and a `graph()`. `tests/kernels/test_cases.py` compares
each `Case` with ONNX Runtime.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Protocol

from cpuruntime.graph import Graph


class Row(Protocol):
    """What a benchmark needs of a case."""

    @property
    def name(self) -> str: ...

    def graph(self) -> Graph:
        """The graph that the CPU device plans."""


FAMILIES = tuple(module.name for module in pkgutil.iter_modules(__path__) if module.name != "case")


def rows(family: str) -> tuple[Row, ...]:
    """All cases of a family."""
    return tuple(import_module(f"cases.{family}").CASES)
