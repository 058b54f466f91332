"""AUTO: the best of several devices serves, and another one until that is ready."""

from cpuruntime.devices.auto.plugin import AutoPlugin

__all__ = ["AutoPlugin"]
