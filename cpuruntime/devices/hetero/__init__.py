"""HETERO: each part of a model on the first device that has kernels for it."""

from cpuruntime.devices.hetero.plugin import HeteroPlugin

__all__ = ["HeteroPlugin"]
