"""How a graph becomes a model of the CPU: at once, on NumPy until kernels are compiled, or under a latency target."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from cpuruntime.compiler.pool import Progress, compile_all
from cpuruntime.devices.cpu.building import build_model
from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.fast_start import Missing, StartingModel, may_start_on_numpy, refuse_missing
from cpuruntime.devices.cpu.guesses import extents
from cpuruntime.devices.cpu.model import CpuModel, resolved
from cpuruntime.devices.cpu.pipeline import optimise, optimise_for_numpy
from cpuruntime.devices.cpu.streams.calibration import calibrate
from cpuruntime.devices.cpu.streams.setup import StreamSetup, set_up_streams
from cpuruntime.devices.cpu.workforce import workforce
from cpuruntime.devices.interface import DeviceModel
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import Error
from cpuruntime.graph import Graph, Node, PartialShape, settle
from cpuruntime.host.ledger import Ledger
from cpuruntime.operators.shape_inference import reshape
from cpuruntime.passes import can_evaluate
from cpuruntime.program.lowerings.catalogue import MODULES, find_lowering
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.stages.cut import is_planned
from cpuruntime.properties import Settings
from cpuruntime.streams.native.needed import KERNELS


def compile_graph(plugin: Any, graph: Graph, settings: Settings) -> DeviceModel:
    """The model of a graph as it was read; `plugin` is named where NumPy computes."""
    if settings.value("PRECISION_BUDGET"):
        from cpuruntime.devices.cpu.precision_search import choose_precisions  # not above: few models need it

        graph = choose_precisions(graph, settings, partial(compile_graph, plugin))
    starts = may_start_on_numpy(graph, settings)
    compile = refuse_missing if starts else None
    compilation = Compilation.of(graph, settings, plugin.topology(settings), compile, starts)
    if not compilation.weights.planned_once:
        for kept in filter(None, (graph, compilation.optimised)):
            settle(kept)
    setup = set_up_streams(compilation, calibrate, Ledger(), device=str(plugin.target))
    try:
        if settings.value("LATENCY_TARGET_MS"):
            from cpuruntime.devices.cpu.latency.model import compile_for_target  # not above: few models need it

            return compile_for_target(compilation, setup)
        return _start(plugin, compilation, setup) if starts else build_model(compilation, setup)
    except BaseException:
        setup.release()
        raise


def _start(plugin: Any, compilation: Compilation, setup: StreamSetup) -> DeviceModel:
    """The model, or one that runs on NumPy until its kernels are compiled; what is wrong with it is raised now."""
    graph, optimised, settings = compilation.graph.clone(), compilation.optimised, compilation.settings
    try:
        if optimised is not None:
            refuse_missing(KERNELS)  # so that on a new machine NumPy can have the graph, which planning uses up
        optimised = None
        return build_model(compilation, setup)
    except Missing:
        settle(graph)
        if optimised is not None:
            settle(optimised)
            Planner(optimised, compilation.weights, setup.plan.threads, exact=True).kernels(None)
    if not compilation.is_static:
        evaluated = graph
    elif optimised is not None and all(map(can_evaluate, optimised.nodes)):
        evaluated = optimised
    else:
        evaluated = optimise_for_numpy(graph)
    force = workforce(compilation.topology)

    def build(report: Progress) -> CpuModel:
        compile = partial(compile_all, force=force, progress=report)
        return build_model(Compilation.of(graph, settings, compilation.topology, compile), setup)

    properties = resolved(graph.name, settings, setup)
    return StartingModel(plugin, graph, evaluated, settings, properties, build, setup.release)


def query_graph(graph: Graph) -> set[str]:
    """The nodes that run on kernels: for dynamic shapes those of a guess, and where it does not fit by operator."""
    open_ones = {one.name: one.partial_shape for one in PortInfo.inputs_of(graph) if one.partial_shape.is_dynamic}
    found = graph
    with suppress(Error):
        found = reshape(graph, {name: PartialShape(extents(shape, (1,))) for name, shape in open_ones.items()})
    slow = {origin for node in optimise(found).nodes if _is_slow(node) for origin in node.origins}
    return {node.name for node in graph.nodes} - slow


def _is_slow(node: Node) -> bool:
    """Whether NumPy computes a node; control flow is planned with its bodies."""
    if node.bodies:
        return False
    if all(map(is_planned, node.outputs)):
        return isinstance(find_lowering(node), str)
    from cpuruntime.program.lowerings.data_dependent import kernel_of  # only queries need it

    return (node.domain, node.op_type) not in MODULES and not kernel_of(node)
