"""Tests marked `every_isa` once more for each smaller instruction set, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cpuruntime.compiler import isa

SMALLER = [other.name for other in isa.supported() if other.lanes < isa.current().lanes]


@pytest.mark.parametrize("name", SMALLER)
def test_kernels_of(name: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "every_isa", str(Path(__file__).parent)]
    environment = os.environ | {"CPURUNTIME_ISA": name}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
