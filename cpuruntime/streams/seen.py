"""Shapes that a request has seen: memory and a job of its own for each, found natively by the shapes of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cpuruntime.streams.job import Job
from cpuruntime.streams.native import inputs as native
from cpuruntime.streams.records import record_of

MOST_BYTES = 4 * 2**20
"""Of what is noted for each shape, together; arbitrary."""

OBJECTS = 8 * 2**10
"""Bytes of the objects for a shape, about."""


class Seen:
    """Inputs and outputs of certain shapes, which lie at `addresses`, and a job that works on them, or None.

    `owner` owns what a job works on otherwise, and says without one what is to be done. It takes `nbytes` of memory
    beside its objects.
    """

    def __init__(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], addresses: Sequence[int],
        job: Job | None, owner: object, nbytes: int,
    ) -> None:  # fmt: skip
        self.inputs, self.outputs, self.job, self.nbytes = list(inputs), list(outputs), job, OBJECTS + nbytes
        self.addresses = np.array(addresses, np.int64)
        self.owner = owner
        self._sizes = np.array([array.nbytes for array in inputs], np.int64)
        self.record = record_of(
            native.SEEN, inputs=self.inputs, outputs=self.outputs, sizes=self._sizes, now=self,
            job=0 if job is None else job.address, addresses=self.addresses,
        )  # fmt: skip


class SeenShapes:
    """The `Seen` of a request, which take `nbytes`. When that is too much, or memory has moved, all are dropped."""

    def __init__(self) -> None:
        self.table = np.zeros(native.BUCKETS, np.int64)
        self.nbytes = 0
        self._all: list[Seen] = []

    def add(self, seen: Seen) -> None:
        """Have what is seen found; not while an inference of the request runs."""
        if self._all:
            has_moved = bool((self._all[-1].addresses != seen.addresses).any())
            if has_moved or self.nbytes + seen.nbytes > MOST_BYTES:
                self.table.fill(0)
                self._all.clear()
                self.nbytes = 0
        bucket = _bucket(seen.inputs)
        seen.record["next"] = self.table[bucket]
        self._all.append(seen)
        self.nbytes += seen.nbytes
        self.table[bucket] = seen.record.ctypes.data


def _bucket(arrays: Sequence[Any]) -> int:
    """The number of the bucket for arrays of these shapes, as `native.bucket_of`."""
    hashed = 0
    for array in arrays:
        for extent in array.shape:
            hashed = hashed * 31 + extent
    return hashed % native.BUCKETS
