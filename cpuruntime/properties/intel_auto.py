"""Names of settings of OpenVINO's device AUTO, which is not here: devices refuse them."""

from __future__ import annotations

from cpuruntime.properties.declaration import Anything, Boolean, Choice, Property, elsewhere
from cpuruntime.properties.words import Word


class SchedulePolicy(Word):
    """Which device is next."""

    ROUND_ROBIN = "ROUND_ROBIN", 0
    DEVICE_PRIORITY = "DEVICE_PRIORITY", 1
    DEFAULT = "DEVICE_PRIORITY", 1


device_bind_buffer: Property = elsewhere("DEVICE_BIND_BUFFER", Boolean())
enable_runtime_fallback: Property = elsewhere("ENABLE_RUNTIME_FALLBACK", Boolean())
enable_startup_fallback: Property = elsewhere("ENABLE_STARTUP_FALLBACK", Boolean())
schedule_policy: Property = elsewhere("SCHEDULE_POLICY", Choice(SchedulePolicy))
devices_utilization_threshold: Property = elsewhere("DEVICES_UTILIZATION_THRESHOLD", Anything("dict of str to int"))
low_power_device: Property = elsewhere("LOW_POWER_DEVICE", Anything("str"))
perf_curve_table: Property = elsewhere("PERF_CURVE_TABLE", Anything("str or dict"))
