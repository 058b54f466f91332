"""Facts about a device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cpuruntime.properties.declaration import Group, Property, Text, Values, accepted, elsewhere, fact
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

    rule = "names of devices, separated by commas"

    def parse(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        return ",".join(str(one) for one in value)

    def wrapped(self, *values: Any) -> Any:
        return ",".join(values)


class _ByNode(Values):
    """Names of devices, by node."""

    rule = "a dict of node name to device name, or that as JSON"

    def text(self, value: Any) -> str:
        return json.dumps(value)

    def parse(self, value: Any) -> dict[str, str]:
        if isinstance(value, str):
            value = json.loads(value)
        if not isinstance(value, Mapping) or not all(isinstance(device, str) for device in value.values()):
            raise ValueError(value)
        return {str(name): device for name, device in value.items()}


class _ByDevice(Values):
    """Values of properties, by device."""

    rule = "a dict of device to dict of property to value, or that as JSON"

    def text(self, value: Any) -> str:
        return json.dumps(value, default=str)

    def parse(self, value: Any) -> dict[str, dict[str, Any]]:
        if isinstance(value, str):
            value = json.loads(value)
        if not isinstance(value, Mapping) or not all(isinstance(own, Mapping) for own in value.values()):
            raise ValueError(value)
        return {str(name): {str(key): one for key, one in own.items()} for name, own in value.items()}

    def wrapped(self, *values: Any) -> Any:
        (by_device,) = values
        return {name: {str(key): value for key, value in own.items()} for name, own in by_device.items()}


def own_config(config: Any, name: str) -> Any:
    """A configuration with what its DEVICE_PROPERTIES has for device `name` in place of them; others win over these.

    Raises InvalidArgumentError where these are no properties by device.
    """
    if not isinstance(config, Mapping) or properties not in config:
        return config
    by_device = properties.parse(getattr(config[properties], "value", config[properties]))
    return {**by_device.get(name, {}), **{key: value for key, value in config.items() if key != properties}}


full_name = fact("FULL_DEVICE_NAME", "str", Group.DEVICE, "The name its maker gave the device.")
architecture = fact("DEVICE_ARCHITECTURE", "str", Group.DEVICE, "The instruction set architecture, as 'x86_64'.")
capabilities = fact(
    "OPTIMIZATION_CAPABILITIES", "list of str", Group.DEVICE, "What the device computes natively, as ['FP32']."
)
type = fact("DEVICE_TYPE", "Type", Group.DEVICE, "Whether the device is a part of the processor.", ("CPU", "GPU"))
id = accepted(
    "DEVICE_ID", Text(), "",
    "an instance of a device is chosen by its name, as GPU.1",
)  # fmt: skip
COMPOSED = ("AUTO", "BATCH", "HETERO", "MULTI")
"""The devices that run other devices."""

properties = Property(
    "DEVICE_PROPERTIES", _ByDevice(), {}, group=Group.COMPOSED, devices=COMPOSED,
    doc="Properties of single devices among those that are run. A device takes its own part of it, too.",
)  # fmt: skip
priorities = Property(
    "MULTI_DEVICE_PRIORITIES", _Names(), "", group=Group.COMPOSED, devices=COMPOSED,
    doc="The devices to run, where the name of the device has none. Models of MULTI take it while they run.",
)  # fmt: skip
node_affinity = Property(
    "NODE_AFFINITY", _ByNode(), {}, group=Group.COMPOSED, devices=("HETERO",),
    doc="Which of its devices runs a node, by the node's name; `rt_info['affinity']` of the node says so, too. Other "
    "nodes go to the first device that has kernels for them.",
)  # fmt: skip
hetero_number_of_submodels = fact(
    "HETERO_NUMBER_OF_SUBMODELS", "int", Group.MODEL, "In how many parts devices run the model.", ("HETERO",)
)
gops = elsewhere("DEVICE_GOPS")
luid = elsewhere("DEVICE_LUID")
pci_info = elsewhere("DEVICE_PCI_INFO")
thermal = elsewhere("DEVICE_THERMAL")
uuid = elsewhere("DEVICE_UUID")
