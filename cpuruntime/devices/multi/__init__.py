"""MULTI: several devices serve one queue of requests."""

from cpuruntime.devices.multi.plugin import MultiPlugin

__all__ = ["MultiPlugin"]
