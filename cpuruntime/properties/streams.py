"""Streams: groups of threads, each running one inference at a time."""

from __future__ import annotations

from typing import ClassVar

from cpuruntime.properties.declaration import Group, Integer, Property, fact


class Num(int):
    """A number of streams; `Num.AUTO` lets the device choose for throughput, `Num.NUMA` lets it choose for latency."""

    AUTO: ClassVar[Num]
    NUMA: ClassVar[Num]

    def __new__(cls, number: int = -1) -> Num:
        return super().__new__(cls, number)

    def to_integer(self) -> int:
        """The number; -1 for AUTO, -2 for NUMA."""
        return int(self)


Num.AUTO = Num(-1)
Num.NUMA = Num(-2)

MOST = 8192
"""The most processors of Linux: more streams or threads are never useful."""

num = Property(
    "NUM_STREAMS", Integer(0, {"AUTO": -1, "NUMA": -2}, MOST), 1, group=Group.STREAMS, keyed=True,
    doc="How many inferences run at a time. 0: each runs in the thread that asks for it. Overrides the hint's choice.",
    unset="by the hint",
)  # fmt: skip
calibration_ms = Property(
    "STREAMS_CALIBRATION_MS", Integer(0), 0, group=Group.COMPILING, devices=("CPU",),
    doc="Milliseconds for compiling to measure which streams are best for the model; the result is stored. 0: none.",
)  # fmt: skip
instances = Property(
    "CPU_INSTANCES", Integer(1, maximum=MOST), 1, group=Group.STREAMS, devices=("CPU",),
    doc="Into how many instances the processors are divided: CPU.0, CPU.1 and so on, each with cores of its own, at "
    "most one for each core. CPU alone is all of them.",
)  # fmt: skip
pinned_cpus = fact(
    "PINNED_CPUS", "list of lists of int", Group.MODEL,
    "The processors that each stream's threads are pinned to; empty when they are not.", ("CPU",),
)  # fmt: skip
cpu_holders = fact(
    "CPU_HOLDERS", "dict of int to list of int", Group.DEVICE,
    "The processes of this user that have threads pinned to each processor, one for each model.", ("CPU",),
)  # fmt: skip
