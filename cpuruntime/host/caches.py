"""The caches that estimates and trials are made for: those of one core of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from cpuruntime.host.processors import Cache
from cpuruntime.host.topology import Topology


@dataclass(frozen=True)
class Caches:
    """Bytes of a core's second-level cache and of the last level, which may be shared; common ones where unknown."""

    second: int = 2**20
    last: int = 2**24

    @classmethod
    def of(cls, found: Sequence[Cache]) -> Caches:
        """The smallest second level, so that what is chosen for it suits all cores, and the largest of the last."""
        second = min((one.size for one in found if one.level == 2), default=cls.second)
        last = max((one.size for one in found if one.level > 2), default=cls.last if not found else second)
        return cls(second, max(last, second))


@cache
def caches() -> Caches:
    """Those of this machine, as they are when they are first asked for."""
    return Caches.of(Topology.read().caches)
