"""GPU: models as kernels on the devices of OpenCL drivers."""

from cpuruntime.devices.gpu.plugin import GpuPlugin

__all__ = ["GpuPlugin"]
