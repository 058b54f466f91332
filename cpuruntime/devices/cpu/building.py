"""From a compilation to a model: its programs are planned, and its streams started."""

from __future__ import annotations

from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.model import CpuModel
from cpuruntime.devices.cpu.programs import Programs
from cpuruntime.devices.cpu.streams.setup import StreamSetup


def build_model(compilation: Compilation, setup: StreamSetup) -> CpuModel:
    """The model of a compilation on these streams."""
    return CpuModel(Programs(compilation, setup.plan), compilation.demand, compilation.settings, setup)
