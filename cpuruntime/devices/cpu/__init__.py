"""CPU: Numba kernels run by streams of pinned threads."""

from cpuruntime.devices.cpu.plugin import CpuPlugin

__all__ = ["CpuPlugin"]
