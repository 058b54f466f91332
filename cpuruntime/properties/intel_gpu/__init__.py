"""Names of properties of OpenVINO's GPU device, which is not here: devices refuse them."""

from __future__ import annotations

from cpuruntime.properties.declaration import Boolean, Property, elsewhere

device_max_alloc_mem_size: Property = elsewhere("GPU_DEVICE_MAX_ALLOC_MEM_SIZE")
device_total_mem_size: Property = elsewhere("GPU_DEVICE_TOTAL_MEM_SIZE")
execution_units_count: Property = elsewhere("GPU_EXECUTION_UNITS_COUNT")
memory_statistics: Property = elsewhere("GPU_MEMORY_STATISTICS")
uarch_version: Property = elsewhere("GPU_UARCH_VERSION")
disable_winograd_convolution: Property = elsewhere("GPU_DISABLE_WINOGRAD_CONVOLUTION", Boolean())
enable_loop_unrolling: Property = elsewhere("GPU_ENABLE_LOOP_UNROLLING", Boolean())


class CapabilityGPU:
    """What a GPU may have."""

    HW_MATMUL = "GPU_HW_MATMUL"
    USM_MEMORY = "GPU_USM_MEMORY"


class MemoryType:
    """What a GPU's memory may be."""

    buffer = "GPU_BUFFER"
    surface = "GPU_SURFACE"
