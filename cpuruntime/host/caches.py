"""The sizes of one core's caches, for estimates and tuning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from cpuruntime.host.processors import Cache
from cpuruntime.host.topology import Topology
from cpuruntime.records import record


@record
class Caches:
    """Bytes of a core's caches, and its share of the last level, which may be shared; common ones where unknown."""

    second: int = 2**20
    last: int = 2**24
    first: int = 2**15
    share: int = 2**22

    @classmethod
    def of(cls, found: Sequence[Cache]) -> Caches:
        """The smallest of the caches that cores have of their own, so that a choice for them suits all cores, and the
        largest last level."""
        if not found:
            return cls()
        first = min((one.size for one in found if one.level == 1), default=cls.first)
        second = min((one.size for one in found if one.level == 2), default=cls.second)
        last = max((one for one in found if one.level >= 2), key=lambda one: one.size, default=Cache(2, second, (0,)))
        cores = sum(one.level == 1 and {*one.cpus} <= {*last.cpus} for one in found)
        return cls(second, last.size, first, last.size // max(1, cores))


@cache
def caches() -> Caches:
    """Those of this machine; read once."""
    return Caches.of(Topology.read().caches)
