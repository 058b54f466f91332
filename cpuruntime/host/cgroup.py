"""The CPU quota and the memory limit of this process's control group, versions 1 and 2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from cpuruntime.host.sysfs import read_text
from cpuruntime.records import record

_COUNT = re.compile("[0-9]{1,18}")
"""Microseconds or bytes; 2**63 and more is not what Linux writes."""


_CACHED = re.compile("^inactive_file ([0-9]{1,18})$", re.MULTILINE)
_MEMORY = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


@record
class Quota:
    """The CPU time that the processes of a control group may use together, in CPUs.

    `group` identifies the group within the machine, in every container; 0 when it is not known.
    """

    cpus: float
    group: int = 0


def cpu_quota(root: Path = Path("/")) -> Quota | None:
    """The CPU time that the process may use; None when nothing limits it.

    The smallest quota on the way from the process's group to the top, in either version of control groups. `root`
    stands for the file system's root; what cannot be read, or is not as Linux writes it, limits nothing.
    """
    return min(filter(None, map(_quota, _levels(root, "cpu"))), key=lambda quota: quota.cpus, default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """The bytes of memory that the process may use; None when nothing limits it. As `cpu_quota`."""
    return min((limit for limit, _ in _memory(root)), default=None)


def memory_left(root: Path = Path("/")) -> int | None:
    """The bytes of memory that the process's control groups may still take; None when nothing limits them."""
    return min((max(0, min(limit, limit - used)) for limit, used in _memory(root)), default=None)


def _memory(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, bytes in use) of the groups that have a limit; files that are cached are not in use."""
    for folder in _levels(root, "memory"):
        for names in _MEMORY:
            limit, used = (read_text(folder / name).strip() for name in names)
            if _COUNT.fullmatch(limit):
                cached = _CACHED.search(read_text(folder / "memory.stat"))
                yield int(limit), (int(used) if _COUNT.fullmatch(used) else 0) - (int(cached[1]) if cached else 0)


def _levels(root: Path, controller: str) -> list[Path]:
    """The folders from the process's group to the top of every hierarchy."""
    groups = _groups(root, controller)
    return [level for mount, group in groups for level in (group, *group.parents) if level.is_relative_to(mount)]


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, Path]]:
    """(mount point, folder of this process's group below it) of every hierarchy that may limit what a controller does.

    Version 2 has one for all.
    """
    paths = {}
    for line in read_text(root / "proc/self/cgroup").splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3 and (not fields[1] or controller in fields[1].split(",")):
            paths[fields[1] == ""] = PurePosixPath(fields[2])
    for line in read_text(root / "proc/self/mountinfo").splitlines():
        place, _, kind = line.partition(" - ")
        places, kinds = place.split(), kind.split()
        if len(places) < 5 or len(kinds) < 2:
            continue
        mounted_root, mount_point = map(_unescaped, places[3:5])
        unified = kinds[0] == "cgroup2"
        if unified in paths and (unified or (kinds[0] == "cgroup" and controller in kinds[-1].split(","))):
            mount = root / mount_point.lstrip("/")
            yield mount, mount / _below(paths[unified], PurePosixPath(mounted_root))


def _unescaped(text: str) -> str:
    """A path of mountinfo, where blanks and backslashes are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def _below(path: PurePosixPath, mounted_root: PurePosixPath) -> PurePosixPath:
    """`path` as seen from the mount point; the mount point itself when the group lies outside of what is mounted."""
    if not path.is_relative_to(mounted_root) or ".." in path.parts:
        return PurePosixPath()
    return path.relative_to(mounted_root)


def _quota(folder: Path) -> Quota | None:
    words = read_text(folder / "cpu.max").split() or [
        *read_text(folder / "cpu.cfs_quota_us").split(),
        *read_text(folder / "cpu.cfs_period_us").split(),
    ]
    if len(words) != 2 or not all(_COUNT.fullmatch(word) for word in words):
        return None
    quota, period = map(int, words)
    group = 0
    with suppress(OSError):
        group = folder.stat().st_ino
    return Quota(quota / period, group) if quota and period else None


def throttled_periods(root: Path = Path("/")) -> int:
    """How often the quota has stopped the processes of this process's groups; 0 when it is not known."""
    counts = (re.search(r"^nr_throttled (\d{1,18})$", read_text(folder / "cpu.stat"), re.MULTILINE)
              for folder in _levels(root, "cpu"))  # fmt: skip
    return sum(int(count[1]) for count in counts if count)
