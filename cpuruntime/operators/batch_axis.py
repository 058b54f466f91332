"""The batch axis: whether a graph computes each sample of a batch on its own, and the graph for one sample."""

from __future__ import annotations

from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Graph, Node, PartialShape, Value
from cpuruntime.operators.batch_rules import EXTENTS, Axes
from cpuruntime.operators.shape_inference import reshape
from cpuruntime.operators.traits import traits_of


def one_sample(graph: Graph) -> tuple[Graph, int] | None:
    """The graph for one sample of a batch, and how many samples the batch has.

    The samples lie one after the other: all inputs and outputs are as many times as long in their first dimension as
    those for one sample. Values between them may be split along other axes. None when the shapes are not static, there
    is one sample only, or an operator mixes samples or has no rule for them in its row of `traits`.
    """
    if not graph.inputs or not all(value.is_static and value.static_shape for value in graph.inputs):
        return None
    counts = {value.static_shape[0] for value in graph.inputs}
    count = counts.pop()
    if counts or count < 2:
        return None
    split = _batch_axes(graph, count)
    if split is None:
        return None
    try:
        found = reshape(graph, {v.name: PartialShape([1, *v.static_shape[1:]]) for v in graph.inputs})
    except InvalidArgumentError:
        return None
    for node, of_one in zip(graph.nodes, found.nodes):
        for value, part in zip(node.outputs, of_one.outputs):
            if split.get(value, EXTENTS) != EXTENTS and not _is_part(part, value, split[value], count):
                return None
    return found, count


def _is_part(part: Value, value: Value, axis: int, count: int) -> bool:
    """Whether a value is as long as `count` parts along an axis."""
    if not part.is_static:
        return False
    shape = part.static_shape
    return value.static_shape == (*shape[:axis], count * shape[axis], *shape[axis + 1 :])


def _batch_axes(graph: Graph, count: int) -> dict[Value, int] | None:
    """The batch axis, or EXTENTS, of each value that depends on the inputs; None where an operator mixes samples."""
    split = dict.fromkeys(graph.inputs, 0)
    for node in graph.nodes:
        axes = [None if value is None else split.get(value) for value in node.inputs]
        if all(axis is None for axis in axes):
            continue
        if not all(value.is_static for value in node.outputs if value.name):
            return None
        found = _result_axes(node, axes)
        if found is None:
            return None
        for value, axis in zip(node.outputs, [found] * len(node.outputs) if isinstance(found, int) else found):
            if value.name:
                if axis != EXTENTS and value.static_shape[axis] % count:
                    return None
                split[value] = axis
    return split if all(split.get(value) == 0 for value in graph.outputs) else None


def _result_axes(node: Node, axes: Axes) -> int | list[int] | None:
    """The batch axis of the results, or that of each; EXTENTS where all that differs between samples are extents."""
    if all(axis in (None, EXTENTS) for axis in axes):
        return EXTENTS
    traits = traits_of(node)
    known = [None if axis == EXTENTS and place == traits.shape_input else axis for place, axis in enumerate(axes)]
    return None if traits.batch is None or EXTENTS in known else traits.batch(node, known)
