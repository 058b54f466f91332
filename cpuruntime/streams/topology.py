"""What processors this process may use: affinity mask, control group quota, physical cores, NUMA nodes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from .affinity import allowed_cpus
from .cgroup import cpu_quota


@dataclass(frozen=True)
class Cpu:
    """A logical processor: its number, its physical core (the lowest number among the siblings), its NUMA node."""

    index: int
    core: int
    node: int = 0


@dataclass(frozen=True)
class Topology:
    """The processors this process may run on, by number, and how many of them its quota lets it use at a time."""

    cpus: tuple[Cpu, ...]
    quota: int | None = None

    @classmethod
    def read(cls, root: Path = Path("/"), allowed: Collection[int] | None = None) -> Topology:
        """The topology as it is now: affinity masks and quotas may change while a process runs.

        `root` stands for the file system's root and `allowed` for the affinity mask; where the system does not tell,
        every processor is a core of its own on one node.
        """
        quota = cpu_quota(root)
        nodes = _nodes(root)
        cpus = (Cpu(i, _core(root, i), nodes.get(i, 0)) for i in sorted(allowed_cpus() if allowed is None else allowed))
        return cls(tuple(cpus), None if quota is None else max(1, int(quota)))

    @property
    def usable(self) -> int:
        """How many processors may work at a time: allowed ones, less those that the quota withholds."""
        return min(len(self.cpus), self.quota or len(self.cpus))

    @property
    def usable_cores(self) -> int:
        """How many physical cores may work at a time."""
        return min(len({cpu.core for cpu in self.cpus}), self.usable)

    def order(self) -> list[int]:
        """The numbers of all allowed processors in the order of use: one of each core first, siblings after them."""
        ranks: dict[int, int] = {}
        ranked = []
        for cpu in self.cpus:
            rank = ranks[cpu.core] = ranks.get(cpu.core, -1) + 1
            ranked.append((rank, cpu.node, cpu.index))
        return [index for _, _, index in sorted(ranked)]

    def pick(self, count: int) -> list[int]:
        """Up to `count` distinct processors to pin threads to, never more than are usable."""
        return self.order()[: min(count, self.usable)]


def parse_cpu_list(text: str) -> list[int]:
    """The numbers in a list as Linux writes it, "0-3,8,10-11"; ValueError when it is something else."""
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _cpu_list(path: Path) -> list[int]:
    try:
        return parse_cpu_list(path.read_text())
    except (OSError, ValueError):
        return []


def _core(root: Path, cpu: int) -> int:
    return min(_cpu_list(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), default=cpu)


def _nodes(root: Path) -> dict[int, int]:
    """The NUMA node of each processor."""
    folders = (root / "sys/devices/system/node").glob("node[0-9]*")
    return {cpu: int(folder.name[4:]) for folder in folders for cpu in _cpu_list(folder / "cpulist")}
