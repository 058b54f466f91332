"""The launches of a whole graph."""

from __future__ import annotations

from typing import Literal

from cpuruntime import passes
from cpuruntime.devices.gpu.lower.catalogue import find, reason
from cpuruntime.devices.gpu.lower.emitter import Emitter, Lowered, is_view
from cpuruntime.devices.gpu.lower.tuning import Tuning, tuning_for
from cpuruntime.devices.gpu.lower.walks import copy, whole
from cpuruntime.errors import UnsupportedError
from cpuruntime.gpu_runtime.interface import Facts
from cpuruntime.graph import Graph, Node

_ONLY_CPU = {"byte_sums", "images", "volumes"}
PIPELINE: passes.Pipeline = tuple(
    one for one in passes.CANONICAL + passes.SIMPLIFY + passes.FUSE if one.name not in _ONLY_CPU
)
"""The passes before `lower`: those whose operators have kernels here."""


def lower(
    graph: Graph, facts: Facts, precision: Literal["f32", "f16"] = "f32", tuning: Tuning | None = None
) -> Lowered:
    """The launches of a graph after `PIPELINE`, whose shapes are all known.

    `precision` is the type in which floats lie in memory, but for inputs and outputs, which are as the graph says;
    sums are f32. `tuning` is that of the device unless given. Raises UnsupportedError for a node without a kernel.
    """
    emitter = Emitter(graph, tuning or tuning_for(facts), precision)
    for node in graph.nodes:
        found = reason(node)
        if found is not None:
            raise UnsupportedError(f"{node.where}: GPU has {found}. Run it on HETERO:GPU,CPU.")
        lowering = find(node)
        assert lowering is not None
        emitter.node = node
        if not is_view(node):
            lowering.run(emitter, node)
    _outputs(emitter, graph)
    return emitter.lowered


def lower_alone(node: Node, precision: Literal["f32", "f16"], tuning: Tuning) -> Lowered:
    """The launches of one node after `PIPELINE`; its inputs and outputs lie as those between nodes: to time them."""
    emitter = Emitter(Graph(node.name, [], [], [node]), tuning, precision)
    emitter.node = node
    for value in dict.fromkeys(node.inputs):
        if value is not None and value.constant is None:
            emitter.new(value)
    lowering = find(node)
    assert lowering is not None
    lowering.run(emitter, node)
    return emitter.lowered


def _outputs(emitter: Emitter, graph: Graph) -> None:
    """Outputs that lie where something else does get copies; every other one lies where it was computed."""
    for value in dict.fromkeys(graph.outputs):
        source = emitter.place(value)
        if value in emitter.copied and value not in graph.inputs:
            emitter.node = value.producer or Node("Identity", value.name, [value], [])
            copy(emitter, whole(source), whole(emitter.new(value)), value.static_shape)
        else:
            emitter.lowered.values[value] = source
