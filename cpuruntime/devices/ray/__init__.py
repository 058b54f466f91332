"""RAY: replicas of a model on the nodes of a Ray cluster, behind one queue."""

from cpuruntime.devices.ray.plugin import RayPlugin

__all__ = ["RayPlugin"]
