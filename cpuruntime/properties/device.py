"""Facts about a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpuruntime.properties.declaration import Group, Text, Values, accepted, elsewhere, fact
from cpuruntime.properties.words import Word


class Type(Word):
    """Whether a device is a part of the processor."""

    INTEGRATED = "INTEGRATED", 0
    DISCRETE = "DISCRETE", 1


class Capability:
    """What OPTIMIZATION_CAPABILITIES may hold."""

    FP32 = "FP32"
    BF16 = "BF16"
    FP16 = "FP16"
    INT8 = "INT8"
    INT16 = "INT16"
    BIN = "BIN"
    WINOGRAD = "WINOGRAD"
    EXPORT_IMPORT = "EXPORT_IMPORT"


class _Names(Values):
    """Names of devices, in their order."""

    rule = "names of devices"

    def wrapped(self, *values: Any) -> Any:
        return ",".join(values)


class _ByDevice(Values):
    """Values of properties, by device."""

    rule = "a dict of device to dict of property to value"

    def wrapped(self, *values: Any) -> Any:
        (by_device,) = values
        return {name: {str(key): value for key, value in own.items()} for name, own in by_device.items()}


def own_config(config: Any, name: str) -> Any:
    """A configuration with what its DEVICE_PROPERTIES has for device `name` in place of them; others win over these."""
    if not isinstance(config, Mapping) or properties not in config:
        return config
    by_device = getattr(config[properties], "value", config[properties])
    return {**by_device.get(name, {}), **{key: value for key, value in config.items() if key != properties}}


full_name = fact("FULL_DEVICE_NAME", "str", Group.DEVICE, "The name its maker gave the device.")
architecture = fact("DEVICE_ARCHITECTURE", "str", Group.DEVICE, "The instruction set architecture, as 'x86_64'.")
capabilities = fact(
    "OPTIMIZATION_CAPABILITIES", "list of str", Group.DEVICE, "What the device computes natively, as ['FP32']."
)
type = fact("DEVICE_TYPE", "Type", Group.DEVICE, "Whether the device is a part of the processor.", ("CPU",))
id = accepted(
    "DEVICE_ID", Text(), "",
    "an instance of a device is chosen by its name, as GPU.1",
)  # fmt: skip
properties = elsewhere("DEVICE_PROPERTIES", _ByDevice())
priorities = elsewhere("MULTI_DEVICE_PRIORITIES", _Names())
gops = elsewhere("DEVICE_GOPS")
luid = elsewhere("DEVICE_LUID")
pci_info = elsewhere("DEVICE_PCI_INFO")
thermal = elsewhere("DEVICE_THERMAL")
uuid = elsewhere("DEVICE_UUID")
