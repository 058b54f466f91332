"""The CPU device's plugin: what the processor can do, and how a graph becomes a model."""

from __future__ import annotations

import platform
from contextlib import suppress
from functools import partial
from typing import Any

from cpuruntime.compiler import isa
from cpuruntime.compiler.pool import Progress, Workforce, compile_all
from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.fast_start import Missing, StartingModel, may_start_on_numpy, refuse_missing
from cpuruntime.devices.cpu.guesses import extents
from cpuruntime.devices.cpu.latency.model import compile_for_target
from cpuruntime.devices.cpu.model import CpuModel, resolved
from cpuruntime.devices.cpu.pipeline import PIPELINE, optimise_for_numpy
from cpuruntime.devices.cpu.streams.calibration import calibrate
from cpuruntime.devices.cpu.streams.dry_run import dry_run
from cpuruntime.devices.cpu.streams.setup import StreamSetup, set_up_streams
from cpuruntime.devices.interface import DeviceModel, Plugin
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import Error
from cpuruntime.graph import Graph, Node, PartialShape
from cpuruntime.hints import StreamPlan
from cpuruntime.host.affinity import allowed_cpus
from cpuruntime.host.ledger import Ledger
from cpuruntime.host.sysfs import processor_name
from cpuruntime.host.topology import Topology
from cpuruntime.operators.shape_inference import reshape
from cpuruntime.passes import can_evaluate
from cpuruntime.program.lowerings.catalogue import TABLE, find_lowering
from cpuruntime.program.lowerings.data_dependent import kernel_of
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.stages.cut import is_planned
from cpuruntime.properties import Settings
from cpuruntime.properties.device import Type as DeviceType
from cpuruntime.streams.native.needed import KERNELS


class CpuPlugin(Plugin):
    """The processor this process runs on."""

    pipeline = PIPELINE
    kernel, fallback = "numpy", True
    """What computes before kernels are compiled, for `StartingModel`."""

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
        """The nodes that run on kernels: for dynamic shapes those of a guess, and where it does not fit by operator."""
        open_ones = {one.name: one.partial_shape for one in PortInfo.inputs_of(graph) if one.partial_shape.is_dynamic}
        with suppress(Error):
            graph = reshape(graph, {name: PartialShape(extents(shape, (1,))) for name, shape in open_ones.items()})
        slow = {origin for node in self.optimise(graph).nodes if _is_slow(node) for origin in node.origins}
        return {node.name for node in graph.nodes} - slow

    def plan(self, graph: Graph, settings: Settings, topology: Topology | None = None) -> StreamPlan:
        return dry_run(Compilation.of(graph, settings, topology), Ledger() if topology is None else None)

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        starts = may_start_on_numpy(graph, settings)
        compilation = Compilation.of(graph, settings, compile=refuse_missing if starts else None, starts_fast=starts)
        setup = set_up_streams(compilation, calibrate, Ledger())
        try:
            if settings.value("LATENCY_TARGET_MS"):
                return compile_for_target(compilation, setup)
            return self._start(compilation, setup) if starts else CpuModel(compilation, setup)
        except BaseException:
            setup.release()
            raise

    def _start(self, compilation: Compilation, setup: StreamSetup) -> DeviceModel:
        """The model, or one that runs on NumPy until its kernels are compiled; what is wrong with it is raised now."""
        graph, optimised, settings = compilation.graph.clone(), compilation.optimised, compilation.settings
        try:
            if optimised is not None:
                refuse_missing(KERNELS)  # so that on a new machine NumPy can have the graph, which planning uses up
            optimised = None
            return CpuModel(compilation, setup)
        except Missing:
            if optimised is not None:
                Planner(optimised, compilation.weights, setup.plan.threads, exact=True).kernels(None)
        if not compilation.is_static:
            evaluated = graph
        elif optimised is not None and all(map(can_evaluate, optimised.nodes)):
            evaluated = optimised
        else:
            evaluated = optimise_for_numpy(graph)
        force = Workforce(compilation.topology.usable, allowed_cpus())

        def build(report: Progress) -> CpuModel:
            compile = partial(compile_all, force=force, progress=report)
            return CpuModel(Compilation.of(graph, settings, compile=compile), setup)

        properties = resolved(graph.name, settings, setup.plan)
        return StartingModel(self, graph, evaluated, settings, properties, build, setup.release)


def _is_slow(node: Node) -> bool:
    """Whether NumPy computes a node; control flow is planned with its bodies."""
    if node.bodies:
        return False
    if all(map(is_planned, node.outputs)):
        return isinstance(find_lowering(node), str)
    return (node.domain, node.op_type) not in TABLE and not kernel_of(node)
