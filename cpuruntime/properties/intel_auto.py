"""How several devices serve one model."""

from __future__ import annotations

from cpuruntime.properties.declaration import Anything, Boolean, Choice, Group, Property, elsewhere
from cpuruntime.properties.words import Word


class SchedulePolicy(Word):
    """Which device is next."""

    ROUND_ROBIN = "ROUND_ROBIN", 0
    DEVICE_PRIORITY = "DEVICE_PRIORITY", 1
    DEFAULT = "DEVICE_PRIORITY", 1
    EARLIEST_FINISH = "EARLIEST_FINISH", 2


device_bind_buffer: Property = elsewhere("DEVICE_BIND_BUFFER", Boolean())
enable_runtime_fallback: Property = elsewhere("ENABLE_RUNTIME_FALLBACK", Boolean())
enable_startup_fallback: Property = elsewhere("ENABLE_STARTUP_FALLBACK", Boolean())
schedule_policy = Property(
    "SCHEDULE_POLICY", Choice(SchedulePolicy), SchedulePolicy.EARLIEST_FINISH, group=Group.COMPOSED, devices=("MULTI",),
    doc="Which device runs a request: the one where it is over first, as measured (EARLIEST_FINISH), the first in the "
    "list that is idle (DEVICE_PRIORITY), or one after the other (ROUND_ROBIN).",
)  # fmt: skip
devices_utilization_threshold: Property = elsewhere("DEVICES_UTILIZATION_THRESHOLD", Anything("dict of str to int"))
low_power_device: Property = elsewhere("LOW_POWER_DEVICE", Anything("str"))
perf_curve_table: Property = elsewhere("PERF_CURVE_TABLE", Anything("str or dict"))
