"""Hints for device GPU, and names of those that OpenVINO's has and this one refuses."""

from __future__ import annotations

from cpuruntime.properties.declaration import Boolean, Choice, Group, Integer, Property, elsewhere
from cpuruntime.properties.hint import Priority

available_device_mem: Property = elsewhere("AVAILABLE_DEVICE_MEM_SIZE", Integer(0))
enable_large_allocations: Property = elsewhere("GPU_ENABLE_LARGE_ALLOCATIONS", Boolean())
enable_lora_operation: Property = elsewhere("GPU_ENABLE_LORA_OPERATION", Boolean())
host_task_priority: Property = Property(
    "GPU_HOST_TASK_PRIORITY", Choice(Priority), Priority.MEDIUM, group=Group.COMPILING, devices=("GPU",),
    doc="With LOW the threads that build kernels leave processors to others.",
)  # fmt: skip
queue_priority: Property = Property(
    "GPU_QUEUE_PRIORITY", Choice(Priority), Priority.MEDIUM, group=Group.STREAMS, devices=("GPU",),
    doc="Which queues of the device go first, where its driver has priorities.",
)  # fmt: skip
queue_throttle: Property = Property(
    "GPU_QUEUE_THROTTLE", Choice(Priority), Priority.MEDIUM, group=Group.STREAMS, devices=("GPU",),
    doc="How long a thread looks for the end of an inference before it sleeps: not (LOW), 20 us, or 1 ms (HIGH), which "
    "takes a processor and notices the end sooner.",
)  # fmt: skip

ThrottleLevel = Priority
"""OpenVINO's levels, which it writes as priorities, too."""
