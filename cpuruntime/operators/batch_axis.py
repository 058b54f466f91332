"""The batch axis: whether a graph computes each sample of a batch on its own, and the graph for one sample."""

from __future__ import annotations

from itertools import zip_longest

from cpuruntime.errors import InvalidArgumentError, UnsupportedError, printable
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
    try:
        return _one_sample(graph)
    except _MixedError:
        return None


def enlarged(graph: Graph, count: int) -> Graph:
    """The graph for batches of `count` times as many samples, each computed on its own.

    All inputs and outputs are `count` times as long in their first dimension. Raises UnsupportedError, saying what is
    in the way, where shapes are not static, the model does not take larger ones, or an operator mixes samples.
    """
    for value in (*graph.inputs, *graph.outputs):
        if not value.is_static:
            raise UnsupportedError(f"'{printable(value.name)}' has no static shape")
        if not value.static_shape or not value.static_shape[0]:
            raise UnsupportedError(f"'{printable(value.name)}' has no first dimension for samples")

    def longer(value: Value) -> tuple[int, ...]:
        return count * value.static_shape[0], *value.static_shape[1:]

    try:
        larger = reshape(graph, {value.name: PartialShape(list(longer(value))) for value in graph.inputs})
    except InvalidArgumentError as error:
        raise UnsupportedError(str(error)) from error
    for old, new in zip(graph.outputs, larger.outputs):
        if new.shape != longer(old):
            raise UnsupportedError(f"the first dimension of output '{printable(old.name)}' is none of samples")
    try:
        _one_sample(larger)
    except _MixedError as error:
        raise UnsupportedError(str(error)) from error
    return larger


class _MixedError(Exception):
    """The samples of a batch are not computed each on its own; the message says why."""


def _one_sample(graph: Graph) -> tuple[Graph, int]:
    if not graph.inputs or not all(value.is_static and value.static_shape for value in graph.inputs):
        raise _MixedError("not all inputs have static shapes of samples")
    counts = {value.static_shape[0] for value in graph.inputs}
    count = counts.pop()
    if counts or count < 2:
        raise _MixedError("the inputs have not all the same number of samples, 2 or more")
    split = _batch_axes(graph, count)
    try:
        found = reshape(graph, {v.name: PartialShape([1, *v.static_shape[1:]]) for v in graph.inputs})
    except InvalidArgumentError as error:
        raise _MixedError(str(error)) from error
    for node, of_one in zip(graph.nodes, found.nodes):
        for value, part in zip(node.outputs, of_one.outputs):
            if split.get(value, EXTENTS) != EXTENTS and not _is_part(part, value, split[value], count):
                raise _MixedError(f"{node.where} mixes samples")
    return found, count


def _is_part(part: Value, value: Value, axis: int, count: int) -> bool:
    """Whether a value is as long as `count` parts along an axis."""
    if not part.is_static:
        return False
    shape = part.static_shape
    return value.static_shape == (*shape[:axis], count * shape[axis], *shape[axis + 1 :])


def _batch_axes(graph: Graph, count: int) -> dict[Value, int]:
    """The batch axis, or EXTENTS, of each value that depends on the inputs. Raises where an operator mixes samples."""
    split = dict.fromkeys(graph.inputs, 0)
    for node in graph.nodes:
        axes = [None if value is None else split.get(value) for value in node.inputs]
        if all(axis is None for axis in axes):
            continue
        outputs = [value for value in node.outputs if value.name]
        found = _result_axes(node, axes) if all(value.is_static for value in outputs) else None
        if found is None or any(axis != EXTENTS and v.static_shape[axis] % count for v, axis in found.items()):
            raise _MixedError(f"{node.where} mixes samples, or has no rule for them")
        split |= found
    for value in graph.outputs:
        if split.get(value) != 0:
            raise _MixedError(f"output '{printable(value.name)}' has not a part for each sample in its first dimension")
    return split


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
