"""Processors as Linux describes them in /sys: siblings, sockets, NUMA nodes, core types, caches.

`root` stands for the file system's root. What cannot be read is as on a plain machine: every processor a core of its
own, one socket, one node, one core type, no known cache.
"""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path

from cpuruntime.host.processors import Cache, CoreType, Cpu, parse_cpu_list

SLOW = 0.75
"""A core below this share of the fastest one's speed is an E core where the system does not name the types: between the
spread of equal cores (favoured ones clock up to a tenth higher) and that of different ones (0.3 to 0.72)."""

_CPUS = "sys/devices/system/cpu"


def read_text(path: Path) -> str:
    """The text of a file of the system; empty where it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""


def processor_name() -> str:
    """The name in /proc/cpuinfo, or else the architecture's."""
    lines = read_text(Path("/proc/cpuinfo")).splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def read_cpus(root: Path, allowed: Collection[int]) -> tuple[Cpu, ...]:
    """The processors in `allowed`, in order."""
    nodes, types, cpus = _nodes(root), _core_types(root, allowed), []
    for index in sorted(allowed):
        folder = root / f"{_CPUS}/cpu{index}/topology"
        core = min(_cpu_list(folder / "thread_siblings_list"), default=index)
        socket = max(0, _number(folder / "physical_package_id"))
        cpus.append(Cpu(index, core, nodes.get(index, 0), socket, types.get(index, "P")))
    return tuple(cpus)


def read_caches(root: Path, allowed: Collection[int]) -> tuple[Cache, ...]:
    """The data and unified caches of the processors in `allowed`; `cpus` lists only those."""
    found: dict[tuple[int, tuple[int, ...]], Cache] = {}
    for cpu in sorted(allowed):
        for folder in sorted((root / f"{_CPUS}/cpu{cpu}/cache").glob("index[0-9]*")):
            level, size = _number(folder / "level"), _size(read_text(folder / "size"))
            if level < 1 or size < 1 or read_text(folder / "type") == "Instruction":
                continue
            cpus = tuple(sorted(set(_cpu_list(folder / "shared_cpu_list")) & set(allowed))) or (cpu,)
            found[level, cpus] = Cache(level, size, cpus)
    return tuple(found[key] for key in sorted(found))


def caller_node(cpus: Collection[Cpu], root: Path) -> int:
    """The NUMA node of the processor that the calling thread runs on at the moment; the first one's when unknown."""
    fields = read_text(root / "proc/thread-self/stat").rpartition(")")[2].split()
    current = int(fields[36]) if len(fields) > 36 and fields[36].isdigit() else -1
    return next((cpu.node for cpu in cpus if cpu.index == current), min((cpu.node for cpu in cpus), default=0))


def _number(path: Path) -> int:
    """The number in a file; -1 when there is none."""
    text = read_text(path)
    return int(text) if text.isdecimal() else -1


def _size(text: str) -> int:
    """Bytes of a size as "48K" or "32M"; 0 for anything else."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    digits, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    return int(digits) * unit if digits.isdecimal() else 0


def _cpu_list(path: Path) -> list[int]:
    try:
        return parse_cpu_list(read_text(path))
    except ValueError:
        return []


def _nodes(root: Path) -> dict[int, int]:
    folders = (root / "sys/devices/system/node").glob("node[0-9]*")
    return {cpu: int(folder.name[4:]) for folder in folders for cpu in _cpu_list(folder / "cpulist")}


def _core_types(root: Path, allowed: Collection[int]) -> dict[int, CoreType]:
    """Core types where there are two: as the kernel names them on hybrid processors, else by speed."""
    efficient = {cpu for path in ("cpu_atom", "cpu_lowpower") for cpu in _cpu_list(root / f"sys/devices/{path}/cpus")}
    if efficient and _cpu_list(root / "sys/devices/cpu_core/cpus"):
        return dict.fromkeys(efficient, "E")
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        speeds = {cpu: _number(root / f"{_CPUS}/cpu{cpu}/{name}") for cpu in allowed}
        if speeds and min(speeds.values()) > 0:
            return {cpu: "E" for cpu, speed in speeds.items() if speed < SLOW * max(speeds.values())}
    return {}
