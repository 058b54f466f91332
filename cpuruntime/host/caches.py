"""The sizes of one core's caches, for estimates and tuning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from cpuruntime.host.processors import Cache
from cpuruntime.host.topology import Topology
from cpuruntime.records import record


@record
class Caches:
    """Bytes of a core's second-level cache and of the last level, which may be shared; common ones where unknown."""

    second: int = 2**20
    last: int = 2**24

    @classmethod
    def of(cls, found: Sequence[Cache]) -> Caches:
        """The smallest second level, so that a choice for it suits all cores, and the largest last level."""
        second = min((one.size for one in found if one.level == 2), default=cls.second)
        last = max((one.size for one in found if one.level > 2), default=cls.last if not found else second)
        return cls(second, max(last, second))


@cache
def caches() -> Caches:
    """Those of this machine; read once."""
    return Caches.of(Topology.read().caches)
