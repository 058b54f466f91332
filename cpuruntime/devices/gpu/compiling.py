"""How a graph becomes a model of the GPU: passes, launches, kernels; for unknown shapes when they are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpuruntime import passes
from cpuruntime.devices.cpu.guesses import extents
from cpuruntime.devices.gpu.choosing import Choices
from cpuruntime.devices.gpu.lower import PIPELINE, lower, prelude, reason, tuning_for
from cpuruntime.devices.gpu.model import GpuModel
from cpuruntime.devices.gpu.modules import modules_of
from cpuruntime.devices.gpu.program import Constants, Program
from cpuruntime.devices.gpu.recipe import Recipe
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import Error, UnsupportedError
from cpuruntime.graph import Graph, Node, PartialShape, Type, Value, settle
from cpuruntime.operators.shape_inference import reshape
from cpuruntime.properties import Settings
from cpuruntime.properties.hint import Priority
from cpuruntime.store import SectionFile
from cpuruntime.trace.recorder import span


def compile_graph(
    plugin: Any, graph: Graph, settings: Settings, streams: tuple[int, str], facts: dict[str, Any], why: str
) -> GpuModel:
    """The model of a graph as it was read. `why` says of what type floats are in memory.

    Raises:
        UnsupportedError: a node has no kernel, or its kernel does not build.
        OutOfMemoryError: the device has not the memory.
    """
    runtime = plugin.runtime
    precision = facts["INFERENCE_PRECISION_HINT"].get_type_name()
    constants, modules = Constants(runtime), modules_of(runtime)
    is_low = settings.value("GPU_HOST_TASK_PRIORITY") is Priority.LOW
    is_gpu = runtime.facts.kind == "gpu"  # the drivers of processors take long to build kernels
    tuning = Choices(runtime, modules, is_low).tuning if is_gpu else tuning_for(runtime.facts)
    ways = "timed on this device, once" if is_gpu else "chosen by rule: the driver runs on the processor"

    def make(known: Graph) -> Program:
        with span("passes"):
            optimised = passes.run(known, PIPELINE)
        with span("lower to launches"):
            lowered = lower(optimised, runtime.facts, precision=precision, tuning=tuning)
        recipe = Recipe.of(optimised, lowered)
        return Program(runtime, recipe, prelude(runtime.dialect), modules, constants, is_low)

    graph = graph.clone()
    settle(graph)
    if not all(value.is_static for value in graph.inputs):
        for node, found in refused(graph).items():
            raise UnsupportedError(f"{node.where}: GPU has {found}. Run it on HETERO:GPU,CPU.")
    decisions = [why, f"where a node has several sets of kernels they are {ways}", _memory(runtime.facts.is_unified)]
    return GpuModel(plugin, runtime, graph, make, settings, streams, facts, decisions)


def restore(
    plugin: Any, stored: Mapping[str, Any], file: SectionFile, settings: Settings, streams: tuple[int, str]
) -> GpuModel:
    """The model of what `GpuModel.export` gave. Raises ValueError where it does not fit together."""
    runtime = plugin.runtime
    is_low = settings.value("GPU_HOST_TASK_PRIORITY") is Priority.LOW
    recipe = Recipe.restored(stored, file)
    inputs, outputs = ([Value(name, Type(kind), tuple(shape)) for name, kind, shape in r] for r in stored["ports"])
    graph = Graph(stored["name"], inputs, outputs, [])

    def make(_: Graph) -> Program:
        return Program(runtime, recipe, prelude(runtime.dialect), modules_of(runtime), Constants(runtime), is_low)

    facts = stored["facts"] | {"INFERENCE_PRECISION_HINT": Type(stored["precision"])}
    return GpuModel(plugin, runtime, graph, make, settings, streams, facts, stored["decisions"])


def refused(graph: Graph) -> dict[Node, str]:
    """The nodes without a kernel, after the passes, with the reasons; for dynamic shapes those of a guess."""
    found = graph
    open_ones = {one.name: one.partial_shape for one in PortInfo.inputs_of(graph) if one.partial_shape.is_dynamic}
    if open_ones:
        try:
            found = reshape(graph, {name: PartialShape(extents(shape, (1,))) for name, shape in open_ones.items()})
        except Error:  # the guess does not fit: the first inference says more
            return {}
    reasons = {node: reason(node) for node in passes.run(found, PIPELINE).nodes}
    return {node: why for node, why in reasons.items() if why is not None}


def _memory(is_unified: bool) -> str:
    if is_unified:
        return (
            "inputs and outputs: kernels use the memory of get_tensor in place, and memory that was set where it "
            "begins a page; other memory is copied"
        )
    return "inputs and outputs are copied to the device and back, but for remote tensors"
