"""Facts about a device."""

from __future__ import annotations

from cpuruntime.properties.declaration import Fact, Group, Property

full_name = Property(
    "FULL_DEVICE_NAME", Fact("str"), group=Group.DEVICE, mutability="RO", doc="The name its maker gave the device."
)
architecture = Property(
    "DEVICE_ARCHITECTURE",
    Fact("str"),
    group=Group.DEVICE,
    mutability="RO",
    doc="The instruction set architecture, as 'x86_64'.",
)
capabilities = Property(
    "OPTIMIZATION_CAPABILITIES",
    Fact("list of str"),
    group=Group.DEVICE,
    mutability="RO",
    doc="What the device computes natively, as ['FP32'].",
)
