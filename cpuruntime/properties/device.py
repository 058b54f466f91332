"""Facts about a device."""

from __future__ import annotations

from cpuruntime.properties.declaration import Group, fact

full_name = fact("FULL_DEVICE_NAME", "str", Group.DEVICE, "The name its maker gave the device.")
architecture = fact("DEVICE_ARCHITECTURE", "str", Group.DEVICE, "The instruction set architecture, as 'x86_64'.")
capabilities = fact(
    "OPTIMIZATION_CAPABILITIES", "list of str", Group.DEVICE, "What the device computes natively, as ['FP32']."
)
