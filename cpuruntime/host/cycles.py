"""Python's search for reference cycles, which is rare while a model is read and compiled."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from cpuruntime.host import forks

MANY = 100_000
"""New objects between two searches: about what a model of a thousand nodes makes."""


class Block:
    """A block whose frame ended without `end`, where an interrupt struck, is no member of a WeakSet any more."""


class Searches:
    """The blocks there are in all threads, and the thresholds that hold outside them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = WeakSet[Block]()
        self._before = gc.get_threshold()
        forks.objects.add(self)

    def _forked(self) -> None:
        self._lock = threading.Lock()

    def _are_rare(self) -> bool:
        return gc.get_threshold() == (MANY, *self._before[1:])

    def begin(self, block: Block) -> None:
        with self._lock:
            if not self._blocks and not self._are_rare():
                self._before = gc.get_threshold()
                if 0 < self._before[0] < MANY:  # 0: there is no search
                    gc.set_threshold(MANY, *self._before[1:])
            self._blocks.add(block)

    def end(self, block: Block) -> None:
        with self._lock:
            self._blocks.discard(block)
            if not self._blocks and self._are_rare():
                gc.set_threshold(*self._before)


_searches = Searches()


@contextmanager
def rare_searches() -> Iterator[None]:
    """In this block Python searches for reference cycles when MANY new objects exist, not a few hundred. Thread-safe.

    What is read and planned stays, and a tenth of the time would go into looking at it again and again. All threads of
    the process are concerned until the last block ends; thresholds that somebody sets meanwhile stay.
    """
    block = Block()
    try:
        _searches.begin(block)
        yield
    finally:
        _searches.end(block)
