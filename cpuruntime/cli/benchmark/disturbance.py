"""What else the machine did while a benchmark measured."""

from __future__ import annotations

import os
from pathlib import Path

_REMARK = 0.05
"""The part of the processors' time from which on it is remarked."""


class Disturbance:
    """Counts from its making on; Linux counts for the whole machine, in ticks of 10 ms."""

    def __init__(self) -> None:
        self._before = ticks()

    def remark(self, seconds: float, own_seconds: float) -> str:
        """A sentence about other processes and the hypervisor, empty where they took little.

        Args:
            seconds: of wall time since this was made.
            own_seconds: processor time of this process in it.
        """
        busy, stolen = (after - before for after, before in zip(ticks(), self._before))
        whole = max(seconds, 0.1) * (os.cpu_count() or 1)
        parts = {"other processes": (busy - own_seconds) / whole, "the hypervisor": stolen / whole}
        names = " and ".join(f"{name} took {part:.0%}" for name, part in parts.items() if part > _REMARK)
        return f"{names[0].upper()}{names[1:]} of the processors' time while it was measured." if names else ""


def ticks() -> tuple[float, float]:
    """Seconds that all processors together were busy, and that the hypervisor gave to others."""
    try:
        fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    except OSError:
        return 0.0, 0.0
    user, nice, system, _, _, irq, soft, stolen = (int(one) / os.sysconf("SC_CLK_TCK") for one in fields[:8])
    return user + nice + system + irq + soft, stolen
