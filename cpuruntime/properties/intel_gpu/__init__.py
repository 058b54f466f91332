"""Facts about device GPU, and names of properties that OpenVINO's has and this one refuses."""

from __future__ import annotations

from cpuruntime.properties.declaration import Boolean, Group, Property, elsewhere, fact

device_max_alloc_mem_size: Property = fact(
    "GPU_DEVICE_MAX_ALLOC_MEM_SIZE", "int", Group.DEVICE, "Most bytes that one allocation may have.", ("GPU",)
)
device_total_mem_size: Property = fact(
    "GPU_DEVICE_TOTAL_MEM_SIZE", "int", Group.DEVICE, "Bytes of the device's memory.", ("GPU",)
)
execution_units_count: Property = fact(
    "GPU_EXECUTION_UNITS_COUNT", "int", Group.DEVICE, "The number of compute units.", ("GPU",)
)
driver_version: Property = fact(
    "GPU_DRIVER_VERSION", "str", Group.DEVICE, "The driver and its version, and the platform's.", ("GPU",)
)
memory_statistics: Property = fact(
    "GPU_MEMORY_STATISTICS", "dict of str to int", Group.DEVICE,
    "Bytes that this process has allocated now: cl_mem on the device, usm_host in memory that the host sees, too.",
    ("GPU",),
)  # fmt: skip
host_processors: Property = fact(
    "HOST_PROCESSORS", "int", Group.DEVICE,
    "How many processors the threads that submit to the device have in the ledger; MULTI leaves them free.", ("GPU",),
)  # fmt: skip
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
