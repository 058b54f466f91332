"""Records of a logical processor and a cache, and lists of processors as Linux writes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from cpuruntime.records import record

CoreType = Literal["P", "E"]
"""The fast cores of a machine, or its only ones, are P; slower ones beside them are E."""


@record
class Cpu:
    """A logical processor: its number, its core (the lowest number among the siblings), NUMA node, socket, type."""

    index: int
    core: int
    node: int = 0
    socket: int = 0
    type: CoreType = "P"


@record
class Cache:
    """A data or unified cache: its level, its size in bytes, and the processors that share it."""

    level: int
    size: int
    cpus: tuple[int, ...]


def parse_cpu_list(text: str) -> list[int]:
    """The numbers in a list as Linux writes it, "0-3,8,10-11"; ValueError when it is something else."""
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found = range(int(first), int(last or first) + 1)
        if not found:
            raise ValueError(f"{part} ends before it begins")
        numbers += found
    return numbers


def cpu_list(numbers: Iterable[int]) -> str:
    """The numbers as Linux writes a list: "0-3,8,10-11"."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
