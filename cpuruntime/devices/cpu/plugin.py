"""The CPU device's plugin: what the processor can do, and how a graph becomes a model."""

from __future__ import annotations

import platform
from typing import Any

from cpuruntime.compiler import isa
from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.latency.model import compile_for_target
from cpuruntime.devices.cpu.model import CpuModel
from cpuruntime.devices.cpu.pipeline import PIPELINE
from cpuruntime.devices.cpu.streams.calibration import calibrate
from cpuruntime.devices.cpu.streams.dry_run import dry_run
from cpuruntime.devices.cpu.streams.setup import set_up_streams
from cpuruntime.devices.interface import DeviceModel, Plugin
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Graph
from cpuruntime.hints import StreamPlan
from cpuruntime.host.ledger import Ledger
from cpuruntime.host.sysfs import processor_name
from cpuruntime.host.topology import Topology
from cpuruntime.program.lowerings.catalogue import find_lowering
from cpuruntime.properties import Settings
from cpuruntime.properties.device import Type as DeviceType


class CpuPlugin(Plugin):
    """The processor this process runs on."""

    pipeline = PIPELINE

    def unavailable_reason(self) -> str | None:
        if platform.system() != "Linux":
            return f"CPU streams need Linux (futex, sched_setaffinity); this is {platform.system()}."
        return None

    def fact(self, name: str) -> Any:
        if name == "RANGE_FOR_STREAMS":
            return (1, Topology.read().usable)
        if name == "DEVICE_TYPE":
            return DeviceType.INTEGRATED
        if name == "CPU_HOLDERS":
            holders = Ledger().holders()
            leased = sorted({cpu for holder in holders for cpu in holder.cpus})
            return {cpu: [holder.pid for holder in holders if cpu in holder.cpus] for cpu in leased}
        if name == "FULL_DEVICE_NAME":
            return f"{processor_name()} ({isa.current().name})"
        return super().fact(name)

    def query(self, graph: Graph, settings: Settings) -> set[str]:
        """The nodes that run on kernels; of a graph with dynamic shapes none is known yet."""
        if not all(value.is_static for value in graph.inputs):
            raise InvalidArgumentError("query_model needs static input shapes; reshape the model first.")
        optimised = self.optimise(graph)
        slow = {origin for node in optimised.nodes if isinstance(find_lowering(node), str) for origin in node.origins}
        return {node.name for node in graph.nodes} - slow

    def plan(self, graph: Graph, settings: Settings, topology: Topology | None = None) -> StreamPlan:
        return dry_run(Compilation.of(graph, settings, topology), Ledger() if topology is None else None)

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        compilation = Compilation.of(graph, settings)
        setup = set_up_streams(compilation, calibrate, Ledger())
        try:
            if settings.value("LATENCY_TARGET_MS"):
                return compile_for_target(compilation, setup)
            return CpuModel(compilation, setup)
        except BaseException:
            setup.release()
            raise
