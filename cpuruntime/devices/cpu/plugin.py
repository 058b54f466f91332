"""The CPU device's plugin: what the processor can do, and how a graph becomes a model."""

from __future__ import annotations

import platform
from typing import Any, ClassVar

from cpuruntime import passes
from cpuruntime.devices.cpu.facts import processor_name
from cpuruntime.devices.cpu.model import CpuModel
from cpuruntime.devices.interface import DeviceModel, Plugin
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph.graph import Graph
from cpuruntime.ops import isa
from cpuruntime.program.lowerings import find
from cpuruntime.properties import Property, Settings, select
from cpuruntime.streams.topology import Topology

_PROPERTIES = select(
    "SUPPORTED_PROPERTIES",
    "AVAILABLE_DEVICES",
    "FULL_DEVICE_NAME",
    "DEVICE_ARCHITECTURE",
    "OPTIMIZATION_CAPABILITIES",
    "RANGE_FOR_STREAMS",
    "RANGE_FOR_ASYNC_INFER_REQUESTS",
    "PERFORMANCE_HINT",
    "PERFORMANCE_HINT_NUM_REQUESTS",
    "EXECUTION_MODE_HINT",
    "MODEL_PRIORITY",
    "NUM_STREAMS",
    "INFERENCE_NUM_THREADS",
    "ENABLE_CPU_PINNING",
    "INFERENCE_PRECISION_HINT",
    "PERF_COUNT",
)


class CpuPlugin(Plugin):
    """The processor this process runs on."""

    name: ClassVar[str] = "CPU"

    def unavailable_reason(self) -> str | None:
        """None where kernels can be compiled for the processor."""
        if platform.system() != "Linux":
            return f"CPU streams need Linux (futex, sched_setaffinity); this is {platform.system()}."
        return None

    def properties(self) -> dict[str, Property]:
        """Its facts, and the settings that have an effect here."""
        return _PROPERTIES

    def fact(self, name: str) -> Any:
        """The value of a read-only property."""
        if name == "RANGE_FOR_STREAMS":
            return (1, Topology.read().usable)
        facts = {
            "AVAILABLE_DEVICES": [""],
            "FULL_DEVICE_NAME": f"{processor_name()} ({isa.current().name})",
            "DEVICE_ARCHITECTURE": platform.machine(),
            "OPTIMIZATION_CAPABILITIES": ["FP32"],
            "RANGE_FOR_ASYNC_INFER_REQUESTS": (1, 1, 1),
        }
        return facts[name]

    def query(self, graph: Graph, settings: Settings) -> set[str]:
        """The nodes that run on kernels; of a graph with dynamic shapes none is known yet."""
        if not all(value.is_static for value in graph.inputs):
            raise InvalidArgumentError("query_model needs static input shapes; reshape the model first.")
        optimised = passes.run(graph)
        slow = {origin for node in optimised.nodes if isinstance(find(node), str) for origin in node.origins}
        return {node.name for node in graph.nodes} - slow

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        """Plan the model's program and start its streams."""
        return CpuModel(graph, settings)
