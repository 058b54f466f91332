"""The processor's name."""

from __future__ import annotations

import platform
from pathlib import Path


def processor_name() -> str:
    """The name in /proc/cpuinfo, or else the architecture's."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
