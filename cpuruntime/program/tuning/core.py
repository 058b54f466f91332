"""The core that estimates are made for: figures of its class of processors, and what its caches hold.

Times are in slots: that of one multiply-add of a vector when nothing else limits them. The figures of a class are
fitted to timings on one processor of it, AVX-512 on Zen 5 and AVX2 on Zen 3 (`python bench/kernels.py --choices`
compares estimates and timings); the others have those of AVX-512.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cpuruntime.compiler.isa import current
from cpuruntime.host.caches import Caches, caches
from cpuruntime.records import record


@record
class Core:
    """A core of a class of processors.

    Attributes:
        caches: bytes of its caches.
        ports: multiply-adds of vectors that begin in a cycle; a slot is that part of one.
        cycles: from the begin of a multiply-add until its sum can be added to.
        late: slots that a load is late by where nothing else can be done meanwhile.
        load: slots of a load.
        weights: slots of a vector of weights beside its multiply-adds.
        two_streams: how many times as many weights arrive from memory where two column tiles are read at a time.
    """

    caches: Caches
    ports: int = 2
    cycles: int = 4
    late: int = 0
    load: float = 1.0
    weights: float = 0.15
    two_streams: float = 1.0

    @classmethod
    def of(cls, isa: str, caches: Caches) -> Core:
        """The core of a class, named by its instruction set."""
        return cls(caches, **CLASSES.get(isa, {}))

    @property
    def latency(self) -> int:
        """Slots until the sum of a multiply-add can be added to."""
        return self.ports * self.cycles + self.late

    # Bytes of what stays in a cache beside what else passes through it.

    @property
    def first_level(self) -> int:
        """Weights that stay in the first-level cache while the rows of a tile's source go by."""
        return self.caches.first // 2

    @property
    def second_level(self) -> int:
        """What stays in the second-level cache."""
        return self.caches.second * 3 // 4

    @property
    def third_level(self) -> int:
        """Weights, which all cores share, that are still in the last cache when they are needed again."""
        return self.caches.last * 3 // 8

    @property
    def scratch(self) -> int:
        """The most memory that a thread writes and reads again: a part of the core's share of the last cache."""
        return max(self.caches.second, self.caches.share // 2)


CLASSES: dict[str, dict[str, Any]] = {"avx2": {"late": 1, "load": 1.25, "weights": 0.3, "two_streams": 1.25}}


@cache
def core() -> Core:
    """The core that kernels are made for in this process."""
    return Core.of(current().name, caches())
