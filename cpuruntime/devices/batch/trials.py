"""Timing sizes of batches while serving: each in turn has some full batches, one right after the other.

Pure: moments come in as integers of nanoseconds. That of a batch is when it ended, so what lies between batches counts.
Turns have as many inferences for each size, and the shortest one counts: other work on the machine only lengthens them.
"""

from __future__ import annotations

from collections.abc import Iterable

LENGTH = 2
"""A turn times as many batches as hold so many times the inferences of the largest one, on each slot."""
PATIENCE = 4
"""A turn ends after so many times its batches even where others came between them."""
REST = 20
"""A round of all turns is followed by so many times as long without: what the machine did meanwhile may pass."""


class Trials:
    """Rounds of `turns` turns of each size, on a device that runs `slots` batches at a time. Not thread-safe.

    Batches are timed from the end of the first on each slot: caches are its own from then on.
    """

    def __init__(self, sizes: Iterable[int], slots: int, turns: int) -> None:
        sizes = sorted(sizes)
        self._slots, self._turns = slots, turns
        self._left = dict.fromkeys(sizes, turns)
        self._lengths = {size: slots * LENGTH * sizes[-1] // size for size in sizes}
        self._found: dict[int, list[int]] = {size: [] for size in sizes}
        self._size = 0
        self._ended = self._own = self._since = 0
        self._began = self._resumes = 0

    def next(self, most: int) -> int:
        """The size whose turn it is, among those up to `most`; 0 where none has turns left."""
        if not self._size:
            sizes = [size for size in self._left if size <= most and self._left[size]]
            if sizes:
                self._size = max(sizes, key=lambda size: self._left[size])
                self._left[self._size] -= 1
                self._ended = self._own = 0
        return self._size

    def note(self, size: int, ended: int) -> dict[int, int]:
        """A full batch ended while all slots were busy: the time of each size at the end of a round, else nothing.

        `size` is 0 for a batch that was not full, or while a slot was idle.
        """
        if 0 < self._resumes <= ended:
            self._left = dict.fromkeys(self._left, self._turns)
            self._began = self._resumes = 0
        self._began = self._began or ended
        if not self._size:
            return {}
        length = self._lengths[self._size]
        self._ended += 1
        self._own = self._own + 1 if size == self._size else 0
        if self._own == self._slots:
            self._since = ended
        is_timed = self._own == self._slots + length
        if is_timed:
            self._found[size].append((ended - self._since) * self._slots // length)
        if not is_timed and self._ended < PATIENCE * (self._slots + length):
            return {}
        self._size = 0
        if any(self._left.values()):
            return {}
        self._resumes = ended + REST * (ended - self._began)
        found = {one: max(1, min(times)) for one, times in self._found.items() if times}
        self._found = {one: [] for one in self._left}
        return found

    def drop(self, size: int) -> None:
        """A size is not used any more."""
        del self._left[size], self._found[size]
