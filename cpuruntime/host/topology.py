"""The topology of a machine: usable processors, quota, cores, sockets, NUMA nodes, caches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from cpuruntime.host import description, sysfs
from cpuruntime.host.affinity import allowed_cpus
from cpuruntime.host.cgroup import cpu_quota
from cpuruntime.host.processors import Cache, Cpu
from cpuruntime.records import record


@record
class Topology:
    """The processors a process may run on, by number, and how many of them its quota lets it use at a time.

    Attributes:
        cpus: the allowed processors, in the order of their numbers.
        quota: the control group's CPU quota rounded down, at least 1; None without one.
        caches: data and unified caches; empty where they are not known.
        node: the NUMA node that the caller runs on, which plans prefer.
        group: identifies the control group of the quota within this machine; 0 when it is not known. It is not part of
            a description.
    """

    cpus: tuple[Cpu, ...]
    quota: int | None = None
    caches: tuple[Cache, ...] = ()
    node: int = 0
    group: int = 0

    @classmethod
    def read(cls, root: Path = Path("/"), allowed: Collection[int] | None = None) -> Topology:
        """The topology as it is now: affinity masks and quotas may change while a process runs.

        `root` stands for the file system's root and `allowed` for the affinity mask, which contains cpusets.
        """
        quota = cpu_quota(root)
        allowed = allowed_cpus() if allowed is None else allowed
        cpus = sysfs.read_cpus(root, allowed)
        whole, group = (None, 0) if quota is None else (max(1, int(quota.cpus)), quota.group)
        return cls(cpus, whole, sysfs.read_caches(root, allowed), sysfs.caller_node(cpus, root), group)

    @classmethod
    def from_json(cls, text: str) -> Topology:
        """The topology of a description, for which see `description`; InvalidArgumentError where the text is none."""
        return cls(*description.parse(text))

    def to_json(self) -> str:
        """A description of the machine, for `from_json` anywhere else."""
        return description.write(self.cpus, self.quota, self.caches, self.node)

    @property
    def usable(self) -> int:
        """How many processors may be busy at a time: the allowed ones, or fewer under a quota."""
        return min(len(self.cpus), self.quota or len(self.cpus))

    def restricted(self, allowed: Collection[int]) -> Topology:
        """The topology for a part of its processors; `node` stays the caller's where that has some of them."""
        cpus = tuple(cpu for cpu in self.cpus if cpu.index in allowed)
        nodes = {cpu.node for cpu in cpus}
        shared = (replace(cache, cpus=tuple(cpu for cpu in cache.cpus if cpu in allowed)) for cache in self.caches)
        caches = tuple(cache for cache in shared if cache.cpus)
        return replace(self, cpus=cpus, caches=caches, node=self.node if self.node in nodes else min(nodes, default=0))

    def parts(self, count: int) -> list[Topology]:
        """`count` nearly equal parts of whole cores, or one for each core; the quota lets all be busy at a time."""
        used = {*self.order()[: self.usable]}
        cores = sorted({(cpu.node, cpu.core) for cpu in self.cpus if cpu.index in used})
        count = min(count, len(cores))
        bounds = [len(cores) * index // count for index in range(count + 1)]
        shares = [{core for _, core in cores[begin:end]} for begin, end in pairwise(bounds)]
        return [self.restricted({cpu.index for cpu in self.cpus if cpu.core in share} & used) for share in shares]

    def order(self) -> list[int]:
        """The numbers of all allowed processors in the order of use: one of each core first, siblings after them."""
        ranks = self.ranks()
        return [cpu.index for cpu in sorted(self.cpus, key=lambda cpu: (ranks[cpu.index], cpu.node, cpu.index))]

    def ranks(self) -> dict[int, int]:
        """For each processor, how many allowed siblings of its core come before it: 0 for the first of a core."""
        seen: dict[int, int] = {}
        ranks = {}
        for cpu in self.cpus:
            ranks[cpu.index] = seen.get(cpu.core, 0)
            seen[cpu.core] = ranks[cpu.index] + 1
        return ranks
