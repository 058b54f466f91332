"""NULL: computes nothing and answers zeros, to see what everything around a device costs."""

from cpuruntime.devices.null.plugin import NullPlugin

__all__ = ["NullPlugin"]
