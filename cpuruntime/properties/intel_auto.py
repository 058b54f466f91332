"""How several devices serve one model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cpuruntime.properties.declaration import Boolean, Choice, Group, Integer, Number, Property, Text, Values, accepted
from cpuruntime.properties.words import Word


class ByName(Values):
    """A dict of device to a value of one kind; as text in JSON."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self.rule = f"a dict of device to {values.rule}, or as text in JSON"

    def parse(self, value: Any) -> dict[str, Any]:
        value = json.loads(value) if isinstance(value, str) else value
        if not isinstance(value, Mapping):
            raise ValueError(value)
        return {str(name): self._values.parse(one) for name, one in value.items()}

    def wrapped(self, *values: Any) -> Any:
        (value,) = values
        return self.parse(value)

    def text(self, value: Any) -> str:
        return json.dumps(value)


class Curve(Values):
    """A dict of percentage to score, of one point at least."""

    rule = "a dict of percentage to score"

    def parse(self, value: Any) -> dict[float, float]:
        percent, score = Number(0, 101), Number(0)
        points = {percent.parse(at): score.parse(one) for at, one in value.items()}
        if not points:
            raise ValueError(value)
        return points


class SchedulePolicy(Word):
    """Which device is next."""

    ROUND_ROBIN = "ROUND_ROBIN", 0
    DEVICE_PRIORITY = "DEVICE_PRIORITY", 1
    DEFAULT = "DEVICE_PRIORITY", 1
    EARLIEST_FINISH = "EARLIEST_FINISH", 2


_AUTO = ("AUTO",)

device_bind_buffer = accepted(
    "DEVICE_BIND_BUFFER", Boolean(), False,
    "the memory of a request is used by whichever device runs it, without a copy",
)  # fmt: skip
enable_runtime_fallback = Property(
    "ENABLE_RUNTIME_FALLBACK", Boolean(), True, group=Group.COMPOSED, devices=_AUTO,
    doc="Whether the next device serves when one fails in an inference, which then runs there.",
)  # fmt: skip
enable_startup_fallback = Property(
    "ENABLE_STARTUP_FALLBACK", Boolean(), True, group=Group.COMPOSED, devices=_AUTO,
    doc="Whether the CPU, if it is among the devices, serves while another one still compiles.",
)  # fmt: skip
schedule_policy = Property(
    "SCHEDULE_POLICY", Choice(SchedulePolicy), SchedulePolicy.EARLIEST_FINISH,
    group=Group.COMPOSED, devices=("MULTI", "AUTO"),
    doc="Which device runs a request: the one where it is over first, as measured (EARLIEST_FINISH), the first in the "
    "list that is idle (DEVICE_PRIORITY), or one after the other (ROUND_ROBIN).",
)  # fmt: skip
devices_utilization_threshold = Property(
    "DEVICES_UTILIZATION_THRESHOLD", ByName(Number(0, 101)), {}, group=Group.COMPOSED, devices=_AUTO,
    doc="By device, how busy in percent it may be to be chosen; of the CPU the load of the last minute counts.",
)  # fmt: skip
perf_curve_table = Property(
    "PERF_CURVE_TABLE", ByName(Curve()), {}, group=Group.COMPOSED, devices=_AUTO,
    doc="By device, a score for some percentages of how busy it is; the device of the least score comes first.",
)  # fmt: skip
low_power_device = Property(
    "LOW_POWER_DEVICE", Text(), "", group=Group.COMPOSED, devices=_AUTO,
    doc="The device that comes first while the machine is set to save power.",
)  # fmt: skip
measure_ms = Property(
    "AUTO_MEASURE_MS", Integer(0), 0, group=Group.COMPOSED, devices=_AUTO,
    doc="Milliseconds to measure a device before it serves instead of another one, which goes on if it is faster. 0: "
    "it is not measured.",
)  # fmt: skip
