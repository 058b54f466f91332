"""Fork handling: in a forked child only the thread that forked exists."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Protocol

from cpuruntime.errors import Error

generation = 0
"""How many forks lie between this process and the one that imported the package; threads of another one are gone."""

functions: list[Callable[[], None]] = []
"""Functions to call in a child, after the objects' methods."""


class Forked(Protocol):
    """An object with state that other threads may be about to change."""

    def _forked(self) -> None:
        """Called in a child, before `os.fork` returns there. Waits for nothing.

        The other threads may have been anywhere in the code; the thread that forked may be in a callback.
        """


objects: weakref.WeakSet[Forked] = weakref.WeakSet()
"""Objects of which `_forked` is called in a child."""


def threads_are_gone() -> Error:
    """The error of requests in flight at the fork, and of new ones in the child."""
    return Error(
        "This compiled model was made before the process forked, and its threads exist only in the parent. "
        "Compile the model in the child, or start the child with the 'spawn' method of multiprocessing."
    )


def check(made: int) -> None:
    """Raise Error where the threads of something that was made in generation `made` do not exist."""
    if made != generation:
        raise threads_are_gone()


def _in_child() -> None:
    global generation
    generation += 1
    for one in list(objects):
        one._forked()
    for function in functions:
        function()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
