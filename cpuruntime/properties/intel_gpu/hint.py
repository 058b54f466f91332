"""Names of hints for OpenVINO's GPU device."""

from __future__ import annotations

from cpuruntime.properties.declaration import Boolean, Choice, Integer, Property, elsewhere
from cpuruntime.properties.hint import Priority

available_device_mem: Property = elsewhere("AVAILABLE_DEVICE_MEM_SIZE", Integer(0))
enable_large_allocations: Property = elsewhere("GPU_ENABLE_LARGE_ALLOCATIONS", Boolean())
enable_lora_operation: Property = elsewhere("GPU_ENABLE_LORA_OPERATION", Boolean())
host_task_priority: Property = elsewhere("GPU_HOST_TASK_PRIORITY", Choice(Priority))
queue_priority: Property = elsewhere("GPU_QUEUE_PRIORITY", Choice(Priority))
queue_throttle: Property = elsewhere("GPU_QUEUE_THROTTLE", Choice(Priority))

ThrottleLevel = Priority
"""OpenVINO's levels, which it writes as priorities, too."""
