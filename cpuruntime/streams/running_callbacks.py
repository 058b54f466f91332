"""Users' functions while they are called, to name those that have not returned at the end of the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

running: dict[int, Callable[..., Any]] = {}
"""The functions being called, by when their calls began on the clock of time.perf_counter_ns."""


def name_of(function: Callable[..., Any]) -> str:
    """How a function is called in its module."""
    function = getattr(function, "func", function)  # functools.partial
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if module else name


def names() -> str:
    """The names of those that run."""
    return ", ".join(sorted({f"'{name_of(function)}'" for function in running.copy().values()}))
