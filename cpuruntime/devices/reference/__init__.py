"""REFERENCE: runs every node through `onnx.reference`. Slow and correct."""

from cpuruntime.devices.reference.plugin import ReferencePlugin

__all__ = ["ReferencePlugin"]
