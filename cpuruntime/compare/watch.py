"""What else the machine did during a pair of slices: stolen and foreign processor time, throttling, clock rate.

A slice is disturbed when a hypervisor or other processes took processor time, a quota or heat held the processors back,
or a fixed loop of this process took longer than before. What cannot be read disturbs nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpuruntime.host.cgroup import throttled_periods
from cpuruntime.host.sysfs import read_text

MOST_STOLEN = 0.03
"""Share of the processors' time; /proc/stat counts ticks of 10 ms."""
MOST_FOREIGN = 0.10
"""Share of the processors' time that other processes may use: some 5 % is the system's own on small machines."""
MOST_SLOWER = 0.05
"""Of the calibration loop, against the fastest of the last loops."""
_LOOP = 40_000
_LAST = 40


@dataclass(frozen=True)
class Snapshot:
    """Counters of the allowed processors since the machine started, in seconds, and their mean clock rate in MHz."""

    wall: float
    busy: float
    stolen: float
    throttled: int
    megahertz: float


@dataclass(frozen=True)
class Conditions:
    """The mean calibration loop in seconds, the clock rate in MHz, the shares of the processors' time that were stolen
    or went to other processes, and why this disturbs measurements, if it does."""

    calibration: float
    megahertz: float = 0.0
    stolen: float = 0.0
    foreign: float = 0.0
    disturbance: str = ""


class Watch:
    """Watches the processors that this process may use."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.perf_counter) -> None:
        self._root = root
        self._clock = clock
        self._cpus = sorted(os.sched_getaffinity(0))
        self._tick = 1 / os.sysconf("SC_CLK_TCK")
        self._loops: list[float] = []

    def snapshot(self) -> Snapshot:
        """The counters now."""
        names = {f"cpu{index}" for index in self._cpus}
        lines = [line.split() for line in read_text(self._root / "proc/stat").splitlines()]
        rows = [[int(field) for field in fields[1:9]] for fields in lines if fields and fields[0] in names]
        # user nice system idle iowait irq softirq steal
        busy = sum(row[0] + row[1] + row[2] + row[5] + row[6] for row in rows) * self._tick
        stolen = sum(row[7] for row in rows) * self._tick
        cpus = self._root / "sys/devices/system/cpu"
        heat = [read_text(cpus / f"cpu{index}/thermal_throttle/core_throttle_count") for index in self._cpus]
        rates = [read_text(cpus / f"cpu{index}/cpufreq/scaling_cur_freq") for index in self._cpus]
        found = [int(rate) / 1e3 for rate in rates if rate.isdecimal()]
        throttled = sum(int(count) for count in heat if count.isdecimal()) + throttled_periods(self._root)
        return Snapshot(self._clock(), busy, stolen, throttled, sum(found) / len(found) if found else 0.0)

    def calibrate(self) -> float:
        """The seconds of a fixed loop: the less of two, some 2 ms each."""
        seconds = min(self._loop(), self._loop())
        self._loops = [*self._loops[1 - _LAST :], seconds]
        return seconds

    def conditions(
        self, before: Snapshot, after: Snapshot, own_seconds: float, calibrations: Sequence[float]
    ) -> Conditions:
        """The conditions between two snapshots; `own_seconds` is the processor time that the comparison used."""
        available = (after.wall - before.wall) * len(self._cpus)
        stolen = (after.stolen - before.stolen) / available
        foreign = (after.busy - before.busy - own_seconds) / available
        disturbance = ""
        if after.throttled > before.throttled:
            disturbance = "the processors were throttled"
        elif stolen > MOST_STOLEN:
            disturbance = "processor time was stolen"
        elif foreign > MOST_FOREIGN:
            disturbance = "other processes ran"
        elif max(calibrations) > (1 + MOST_SLOWER) * min(self._loops):
            disturbance = "the calibration loop took longer"
        calibration = sum(calibrations) / len(calibrations)
        return Conditions(calibration, after.megahertz, stolen, foreign, disturbance)

    def _loop(self) -> float:
        begin = self._clock()
        total = 0
        for number in range(_LOOP):
            total += number & 7
        return self._clock() - begin
