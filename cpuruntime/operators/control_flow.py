"""Runs If, Loop, Scan and SequenceMap on arrays, node by node.

A value is an array, a list of arrays (a sequence) or None (an optional that is absent).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.graph import Graph, Node, Value

Evaluate = Callable[[Node, Sequence[Any]], list[Any]]
"""Computes the outputs of a node from its inputs."""


def run(node: Node, inputs: Sequence[Any], evaluate: Evaluate) -> list[Any]:
    """The outputs of a node of `OPERATORS`, whose bodies run by `evaluate`; the last inputs are those it captures.

    Raises InvalidArgumentError when the data break a rule of the operator.
    """
    count = len(inputs) - node.captures
    return OPERATORS[node.op_type](node, inputs[:count], list(inputs[count:]), evaluate)


def run_graph(graph: Graph, inputs: Iterable[Any], evaluate: Evaluate) -> list[Any]:
    """The outputs of a graph."""
    found: dict[Value, Any] = dict(zip(graph.inputs, inputs))

    def read(value: Value | None) -> Any:
        return None if value is None else found[value] if value.constant is None else value.constant

    for node in graph.nodes:
        found.update(zip(node.outputs, evaluate(node, [read(value) for value in node.inputs])))
    return [read(value) for value in graph.outputs]


def truth(node: Node, condition: Any) -> bool:
    """A condition, a tensor of one element."""
    if np.size(condition) != 1:
        shape = list(np.shape(condition))
        raise InvalidArgumentError(f"{node.where}: a condition has the shape {shape}; it must have one element.")
    return bool(np.reshape(condition, ()))


def trip_count(node: Node, inputs: Sequence[Any]) -> int | None:
    """The trip count of a Loop; None for no limit."""
    if not inputs or inputs[0] is None:
        return None
    if np.size(inputs[0]) != 1:
        shape = list(np.shape(inputs[0]))
        raise InvalidArgumentError(f"{node.where}: the trip count has the shape {shape}; it must have one element.")
    return int(np.reshape(inputs[0], ()))


def check_state(node: Node, index: int, before: Any, after: Any) -> None:
    """InvalidArgumentError when an iteration of a Loop or Scan changes the type of state variable `index`."""
    if before is None or after is None:
        return
    was, now = (str(state.dtype) if isinstance(state, np.ndarray) else "a sequence" for state in (before, after))
    if was != now:
        raise InvalidArgumentError(
            f"{node.where}: an iteration turns state variable {index} from {was} into {now}; its type must stay."
        )


def _if(node: Node, inputs: Sequence[Any], captures: list[Any], evaluate: Evaluate) -> list[Any]:
    branch = "then_branch" if truth(node, inputs[0]) else "else_branch"
    return run_graph(node.attributes[branch], captures, evaluate)


def _loop(node: Node, inputs: Sequence[Any], captures: list[Any], evaluate: Evaluate) -> list[Any]:
    body: Graph = node.attributes["body"]
    limit = trip_count(node, inputs)
    go_on = len(inputs) < 2 or inputs[1] is None or truth(node, inputs[1])
    state = list(inputs[2:])
    collected: list[list[Any]] = [[] for _ in body.outputs[1 + len(state) :]]
    count = 0
    while go_on and (limit is None or count < limit):
        condition, *results = run_graph(body, [np.array(count), np.array(True), *state, *captures], evaluate)
        go_on = truth(node, condition)
        for index, (before, after) in enumerate(zip(state, results)):
            check_state(node, index, before, after)
        for items, item in zip(collected, results[len(state) :]):
            items.append(item)
        state = results[: len(state)]
        count += 1
    scans = body.outputs[1 + len(state) :]
    return [*state, *(stacked(node, items, value) for items, value in zip(collected, scans))]


def stacked(node: Node, items: list[np.ndarray], value: Value, axis: int = 0) -> np.ndarray:
    """What the iterations of a Loop or Scan gave for the scan output `value` of the body."""
    if not items:
        shape = [extent or 0 for extent in value.shape or ()]
        shape.insert(axis, 0)
        return np.zeros(shape, value.element_type.to_dtype())
    shapes = {item.shape for item in items}
    if len(shapes) > 1:
        raise InvalidArgumentError(
            f"{node.where}: iterations give scan output '{printable(value.name)}' in the shapes "
            f"{', '.join(str(list(shape)) for shape in sorted(shapes)[:4])}; they must be the same."
        )
    return np.stack(items, axis)


def _scan(node: Node, inputs: Sequence[Any], captures: list[Any], evaluate: Evaluate) -> list[Any]:
    if node.version < 9:
        return _batched_scan(node, inputs, captures, evaluate)
    return scan_rows(node, inputs, captures, evaluate)


def scan_rows(node: Node, inputs: Sequence[Any], captures: list[Any], evaluate: Evaluate) -> list[Any]:
    """One Scan over sequences that are not batched."""
    body: Graph = node.attributes["body"]
    states, sequences = scan_inputs(node, inputs)
    length = scan_length(node, sequences)
    collected: list[list[Any]] = [[] for _ in body.outputs[len(states) :]]
    for step in range(length):
        results = run_graph(body, [*states, *(rows[step, ...] for rows in sequences), *captures], evaluate)
        for index, (before, after) in enumerate(zip(states, results)):
            check_state(node, index, before, after)
        for items, item in zip(collected, results[len(states) :]):
            items.append(item)
        states = results[: len(states)]
    outputs: list[Any] = list(states)
    axes, directions = scan_outputs(node, len(collected))
    for items, value, axis, backwards in zip(collected, body.outputs[len(states) :], axes, directions):
        rank = 1 + (items[0].ndim if items else len(value.shape or ()))
        outputs.append(stacked(node, items[::-1] if backwards else items, value, axis % rank))
    return outputs


def scan_inputs(node: Node, inputs: Sequence[Any]) -> tuple[list[Any], list[np.ndarray]]:
    """The first states of a Scan, and its scan inputs with the iterations first, in their order."""
    count = node.attributes["num_scan_inputs"]
    states, sequences = list(inputs[: len(inputs) - count]), inputs[len(inputs) - count :]
    axes = node.attributes.get("scan_input_axes") or [0] * count
    directions = node.attributes.get("scan_input_directions", node.attributes.get("directions")) or [0] * count
    if len(axes) != count or len(directions) != count:
        raise InvalidArgumentError(f"{node.where}: {count} scan inputs need as many axes and directions.")
    rows = []
    for array, axis, backwards in zip(sequences, axes, directions):
        if not -array.ndim <= axis < array.ndim:
            raise InvalidArgumentError(f"{node.where}: scan input of shape {list(array.shape)} has no axis {axis}.")
        moved = np.moveaxis(array, axis, 0)
        rows.append(moved[::-1] if backwards else moved)
    return states, rows


def scan_length(node: Node, sequences: Sequence[np.ndarray]) -> int:
    """How many iterations a Scan has."""
    lengths = sorted({len(rows) for rows in sequences})
    if len(lengths) != 1:
        raise InvalidArgumentError(f"{node.where}: its scan inputs have {lengths} elements; they must have as many.")
    return lengths[0]


def scan_outputs(node: Node, count: int) -> tuple[list[int], list[int]]:
    """The axes and directions of the scan outputs."""
    axes = node.attributes.get("scan_output_axes") or [0] * count
    directions = node.attributes.get("scan_output_directions") or [0] * count
    return axes, directions


def _batched_scan(node: Node, inputs: Sequence[Any], captures: list[Any], evaluate: Evaluate) -> list[Any]:
    results = [scan_rows(node, sample, captures, evaluate) for sample in samples(node, inputs)]
    return batch_of(node, inputs, results)


def samples(node: Node, inputs: Sequence[Any]) -> list[list[np.ndarray]]:
    """The inputs of each sample of a Scan of opset 8.

    The first axis is the batch, the second the sequence, of a length of its own for each sample.
    """
    lengths, *rest = inputs
    batch, longest = rest[-1].shape[:2]
    sizes = [longest] * batch if lengths is None else [int(size) for size in lengths]
    states = len(rest) - node.attributes["num_scan_inputs"]
    if len(sizes) != batch or not all(0 <= size <= longest for size in sizes):
        raise InvalidArgumentError(f"{node.where}: sequence_lens {sizes} for {batch} sequences of length {longest}.")
    return [
        [array[sample, ...] if index < states else array[sample, :size] for index, array in enumerate(rest)]
        for sample, size in enumerate(sizes)
    ]


def batch_of(node: Node, inputs: Sequence[Any], results: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """The outputs of a Scan of opset 8 from those of its samples: zeros follow the shorter sequences."""
    states, longest = len(inputs) - 1 - node.attributes["num_scan_inputs"], inputs[-1].shape[1]
    outputs = []
    for index, arrays in enumerate(zip(*results)):
        if index >= states:
            missing = [np.zeros((longest - len(array), *array.shape[1:]), array.dtype) for array in arrays]
            arrays = [np.concatenate(pair) for pair in zip(arrays, missing)]
        outputs.append(np.stack(arrays))
    return outputs


def _sequence_map(node: Node, inputs: Sequence[Any], captures: list[Any], evaluate: Evaluate) -> list[Any]:
    body: Graph = node.attributes["body"]
    outputs: list[list[Any]] = [[] for _ in body.outputs]
    for item in items(node, inputs):
        for sequence, result in zip(outputs, run_graph(body, [*item, *captures], evaluate)):
            sequence.append(result)
    return list(outputs)


def items(node: Node, inputs: Sequence[Any]) -> list[list[Any]]:
    """What flows into the body of a SequenceMap for each element of its sequences."""
    lengths = sorted({len(value) for value in inputs if isinstance(value, list)})
    if len(lengths) != 1:
        raise InvalidArgumentError(f"{node.where}: its sequences have {lengths} elements; they must have as many.")
    return [[value[index] if isinstance(value, list) else value for value in inputs] for index in range(lengths[0])]


OPERATORS: dict[str, Callable[[Node, Sequence[Any], list[Any], Evaluate], list[Any]]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceMap": _sequence_map,
}
