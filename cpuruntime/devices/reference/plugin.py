"""The REFERENCE device's plugin: what it can do, and how a graph becomes a model."""

from __future__ import annotations

from typing import Any

from cpuruntime.devices.interface import DeviceModel, Plugin
from cpuruntime.devices.reference.model import ReferenceModel
from cpuruntime.graph import Graph
from cpuruntime.properties import Settings


class ReferencePlugin(Plugin):
    """Runs models in the Python interpreter."""

    def fact(self, name: str) -> Any:
        """The value of a read-only property."""
        return "ONNX reference implementation in Python" if name == "FULL_DEVICE_NAME" else super().fact(name)

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        """Keep a clone of the graph; there is nothing to prepare."""
        return ReferenceModel(graph.clone(), settings)
