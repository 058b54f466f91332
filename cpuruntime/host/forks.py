"""What in a forked child is told that the threads of its parent are not there."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from cpuruntime.errors import Error


class Forked(Protocol):
    """What other threads may be about to finish."""

    def forked(self) -> None:
        """Called in a child, before `os.fork` returns there: what they were to do will not be done. Waits for nothing.

        They may have been anywhere in the code; the thread that forked may be in a callback.
        """


alive: weakref.WeakSet[Forked] = weakref.WeakSet()
"""Who is told."""


def threads_are_gone() -> Error:
    """The error of what they were to do, and of what they are given to do in the child."""
    return Error(
        "This compiled model was made before the process forked, and its threads exist only in the parent. "
        "Compile the model in the child, or start the child with the 'spawn' method of multiprocessing."
    )


def _in_child() -> None:
    for one in list(alive):
        one.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
