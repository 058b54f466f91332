"""The batch axis: whether a graph computes each sample of a batch on its own, and the graph for one sample."""

from __future__ import annotations

from itertools import zip_longest

from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Graph, Node, PartialShape, Value
from cpuruntime.operators.batch_rules import extents
from cpuruntime.operators.shape_inference import reshape
from cpuruntime.operators.traits import traits_of

EXTENTS = -1
"""In place of a batch axis: the value is no part of a batch, but is computed from its extents, and so not the same for
one sample."""


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
        outputs = [value for value in node.outputs if value.name]
        if not all(value.is_static for value in outputs):
            return None
        found = _result_axes(node, axes)
        if found is None:
            return None
        for value, axis in found.items():
            if axis != EXTENTS and value.static_shape[axis] % count:
                return None
        split |= found
    return split if all(split.get(value) == 0 for value in graph.outputs) else None


def _result_axes(node: Node, axes: list[int | None]) -> dict[Value, int] | None:
    """The batch axis of each result; EXTENTS where all that differs between samples are extents."""
    traits, results = traits_of(node), [value for value in node.outputs if value.name]
    if all(axis in (None, EXTENTS) for axis in axes) or traits.batch is extents:
        return dict.fromkeys(results, EXTENTS)
    known = [None if axis == EXTENTS and place == traits.shape_input else axis for place, axis in enumerate(axes)]
    ranked = all(value is None or value.shape is not None for value in node.inputs)
    terms = traits.batch(node) if traits.batch is not None and EXTENTS not in known and ranked else None
    if terms is None:
        return None
    rows = zip_longest(terms[0], known, node.inputs)
    places = [(list(term or ()), axis) for term, axis, value in rows if value is not None]
    labels = {term[axis] if axis < len(term) else None for term, axis in places if axis is not None}
    label = labels.pop()
    if labels or label is None or any(term.count(label) != (axis is not None) for term, axis in places):
        return None
    outputs = [list(term) for term, _ in zip_longest(terms[1], node.outputs, fillvalue=terms[1][-1])]
    found = {value: term.index(label) for value, term in zip(node.outputs, outputs) if value.name and label in term}
    return found if len(found) == len(results) else None
