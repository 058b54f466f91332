"""Element types and shapes of the results of If, Loop, Scan and SequenceMap, and of what flows into their bodies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpuruntime.errors import Error, ModelError, UnsupportedError, printable
from cpuruntime.graph import Graph, Kind, Node, Type, Value

Infer = Callable[[Graph, Sequence[Value]], None]
"""Infers a body whose inputs are like the given values."""

Shape = tuple[int | None, ...] | None


def infer_bodies(node: Node, infer: Infer) -> None:
    """Set the types of the node's outputs, and those in its bodies. Raises ModelError, naming the node."""
    rule = _RULES.get(node.op_type)
    if rule is None:
        raise UnsupportedError(f"{node.where}: its subgraphs are not supported; those of {', '.join(_RULES)} are.")
    rule(node, infer)


def like(value: Value | None) -> Value:
    """A value of the same type, of which no data are known; of no type for an absent one."""
    if value is None:
        return Value("", kind=Kind.OPTIONAL)
    return Value(value.name, value.element_type, value.shape, kind=value.kind)


def joined(first: Shape, second: Shape) -> Shape:
    """The shape that both are: extents that differ are unknown."""
    if first is None or second is None or len(first) != len(second):
        return None
    return tuple(a if a == b else None for a, b in zip(first, second))


def _set(target: Value, source: Value, shape: Shape) -> None:
    target.element_type, target.kind, target.shape = source.element_type, source.kind, shape


def _captured(node: Node) -> list[Value]:
    return [like(None) if value is None else value for value in node.inputs[len(node.inputs) - node.captures :]]


def _check_counts(node: Node, body: Graph, inputs: int, states: int) -> None:
    """`inputs` of the body without those that are captured; of its outputs the first `states` are not collected."""
    given = len(body.inputs) - node.captures
    if given != inputs:
        raise ModelError(f"{node.where}: its body has {given} inputs; {inputs} flow into it.")
    if len(body.outputs) < states:
        raise ModelError(f"{node.where}: its body has {len(body.outputs)} outputs; {states} state variables need more.")


def _joined_kind(node: Node, what: str, first: Value, second: Value) -> Kind:
    """The kind of what is one or the other; ModelError when their types differ."""
    kinds = {first.kind, second.kind}
    found = first.kind if len(kinds) == 1 else _OPTIONAL.get(frozenset(kinds))
    if found is None or not first.element_type.compatible(second.element_type):
        raise ModelError(f"{node.where}: {what} is {_type(first)} and {_type(second)}; it must have one type.")
    return found


_OPTIONAL = {
    frozenset({Kind.TENSOR, Kind.OPTIONAL}): Kind.OPTIONAL,
    frozenset({Kind.SEQUENCE, Kind.OPTIONAL_SEQUENCE}): Kind.OPTIONAL_SEQUENCE,
}


def _type(value: Value) -> str:
    name = value.element_type.get_type_name()
    return name if value.kind is Kind.TENSOR else f"a {value.kind.value} of {name}"


def _if(node: Node, infer: Infer) -> None:
    branches: list[Graph] = [node.attributes["then_branch"], node.attributes["else_branch"]]
    fitting, errors = [], []
    for branch in branches:
        _check_counts(node, branch, 0, 0)
        if len(branch.outputs) != len(node.outputs):
            raise ModelError(f"{node.where}: a branch has {len(branch.outputs)} outputs, the node {len(node.outputs)}.")
        try:
            infer(branch, _captured(node))
            fitting.append(branch)
        except Error as error:  # such a branch may be one that is never taken
            errors.append(error)
    if not fitting:
        raise errors[0]
    for index, output in enumerate(node.outputs):
        first, last = fitting[0].outputs[index], fitting[-1].outputs[index]
        kind = _joined_kind(node, f"output '{printable(output.name)}' of its branches", first, last)
        shape = joined(first.shape, last.shape) if len(fitting) == 2 else None
        _set(output, last if first.element_type.is_dynamic() else first, shape)
        output.kind = kind


def _settle(node: Node, infer: Infer, lead: list[Value], states: list[Value], rows: list[Value], skip: int) -> None:
    """Widen the shapes of `states` until an iteration leaves them; the body gives them after `skip` other outputs."""
    body: Graph = node.attributes["body"]
    changed = True
    while changed:
        infer(body, [*lead, *states, *rows, *_captured(node)])
        changed = False
        for index, (state, result) in enumerate(zip(states, body.outputs[skip:])):
            kind = _joined_kind(node, f"state variable {index} ('{printable(state.name)}')", state, result)
            if kind is not state.kind:
                state.kind, changed = kind, True
            shape = joined(state.shape, result.shape)
            if state.element_type.is_dynamic() and result.element_type.is_static():
                state.element_type, changed = result.element_type, True
            if shape != state.shape:
                state.shape, changed = shape, True
    for output, state in zip(node.outputs, states):
        _set(output, state, state.shape)


def _loop(node: Node, infer: Infer) -> None:
    body: Graph = node.attributes["body"]
    states = [like(value) for value in node.inputs[2 : len(node.inputs) - node.captures]]
    _check_counts(node, body, 2 + len(states), 1 + len(states))
    if len(node.outputs) > len(body.outputs) - 1:
        raise ModelError(f"{node.where}: it has {len(node.outputs)} outputs, its body gives {len(body.outputs) - 1}.")
    _settle(node, infer, [Value("", Type.i64, ()), Value("", Type.boolean, ())], states, [], 1)
    for output, result in zip(node.outputs[len(states) :], body.outputs[1 + len(states) :]):
        _set(output, result, None if result.shape is None else (None, *result.shape))


def _scan(node: Node, infer: Infer) -> None:
    body: Graph = node.attributes["body"]
    inputs = node.inputs[: len(node.inputs) - node.captures]
    batched = node.version < 9
    inputs = inputs[1:] if batched else inputs
    count = node.attributes["num_scan_inputs"]
    first = len(inputs) - count
    if count < 1 or first < 0:
        raise ModelError(f"{node.where}: attribute 'num_scan_inputs' is {count}; the node has {len(inputs)} inputs.")
    _check_counts(node, body, len(inputs), first)
    if len(node.outputs) > len(body.outputs):
        raise ModelError(f"{node.where}: it has {len(node.outputs)} outputs, its body {len(body.outputs)}.")
    states, rows = [like(value) for value in inputs[:first]], [like(value) for value in inputs[first:]]
    axes = _axes(node, "scan_input_axes", count)
    length: int | None = None
    samples: int | None = None
    for row, axis in zip(rows, axes):
        if row.shape is not None:
            if not -len(row.shape) <= axis < len(row.shape) or (batched and len(row.shape) < 2):
                raise ModelError(f"{node.where}: scan input {row} has no axis {axis}.")
            axis = 1 if batched else axis % len(row.shape)
            length, samples = row.shape[axis], row.shape[0]
            row.shape = row.shape[2:] if batched else row.shape[:axis] + row.shape[axis + 1 :]
    for state in states if batched else ():
        state.shape = None if state.shape is None else state.shape[1:]
    _settle(node, infer, [], states, rows, 0)
    axes = _axes(node, "scan_output_axes", len(body.outputs) - first)
    for output, result, axis in zip(node.outputs[first:], body.outputs[first:], axes):
        shape = None if result.shape is None else list(result.shape)
        if shape is not None:
            shape.insert(axis % (len(shape) + 1), length)
        _set(output, result, None if shape is None else tuple(shape))
    for output in node.outputs if batched else ():
        output.shape = None if output.shape is None else (samples, *output.shape)


def _axes(node: Node, name: str, count: int) -> list[int]:
    axes: list[int] = node.attributes.get(name) or [0] * count
    if len(axes) != count:
        raise ModelError(f"{node.where}: attribute '{name}' is {axes}; it needs {count} numbers.")
    return axes


def _sequence_map(node: Node, infer: Infer) -> None:
    body: Graph = node.attributes["body"]
    items = [like(value) for value in node.inputs[: len(node.inputs) - node.captures]]
    _check_counts(node, body, len(items), 0)
    for item in items:
        item.kind = Kind.TENSOR
    infer(body, [*items, *_captured(node)])
    if len(node.outputs) > len(body.outputs):
        raise ModelError(f"{node.where}: it has {len(node.outputs)} outputs, its body {len(body.outputs)}.")
    for output, result in zip(node.outputs, body.outputs):
        _set(output, result, None)
        output.kind = Kind.SEQUENCE


_RULES: dict[str, Callable[[Node, Infer], None]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceMap": _sequence_map,
}
