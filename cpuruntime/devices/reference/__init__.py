"""REFERENCE: computes every node with NumPy. Slow and correct."""

from cpuruntime.devices.reference.plugin import ReferencePlugin

__all__ = ["ReferencePlugin"]
