"""The REFERENCE device's plugin: what it can do, and how a graph becomes a model."""

from __future__ import annotations

import os
import platform
from typing import Any, ClassVar

from cpuruntime.devices.interface import DeviceModel, Plugin
from cpuruntime.devices.reference.model import ReferenceModel
from cpuruntime.graph import Graph
from cpuruntime.properties import Property, Settings, of_device


class ReferencePlugin(Plugin):
    """Runs models in the Python interpreter."""

    name: ClassVar[str] = "REFERENCE"

    def unavailable_reason(self) -> str | None:
        """None: it runs wherever Python does."""
        return None

    def properties(self) -> dict[str, Property]:
        """Its facts, and the settings that have an effect here."""
        return of_device(self.name)

    def fact(self, name: str) -> Any:
        """The value of a read-only property."""
        facts = {
            "AVAILABLE_DEVICES": [""],
            "FULL_DEVICE_NAME": "ONNX reference implementation in Python",
            "DEVICE_ARCHITECTURE": platform.machine(),
            "OPTIMIZATION_CAPABILITIES": ["FP32"],
            "RANGE_FOR_STREAMS": (1, os.cpu_count() or 1),
            "RANGE_FOR_ASYNC_INFER_REQUESTS": (1, 1, 1),
        }
        return facts[name]

    def query(self, graph: Graph, settings: Settings) -> set[str]:
        """Every node."""
        return {node.name for node in graph.nodes}

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        """Keep a clone of the graph; there is nothing to prepare."""
        return ReferenceModel(graph.clone(), settings)
