"""Where the elements of a value lie in another one that it is a view of: offset and strides, as NumPy finds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from cpuruntime.graph import Node, Value
from cpuruntime.passes.operators import is_internal, is_onnx, scalar


@dataclass(frozen=True)
class StridedView:
    """`factor` times elements of `base`, counted row by row: `offset` is the first, `strides` has one for each axis."""

    base: Value
    offset: int
    strides: tuple[int, ...]
    factor: float = 1.0

    def numbers(self) -> list[int]:
        """Offset and strides, as attributes hold them."""
        return [self.offset, *self.strides]


Step = Callable[[np.ndarray], "np.ndarray | None"]
Accept = Callable[[tuple[int, ...]], bool]


def find_view(value: Value, last: Step, accept: Accept, with_factor: bool = False) -> StridedView | None:
    """The furthest value that `value`, after the step `last`, is a view of with strides that `accept` takes; None when
    it does not take those of `value` itself. `with_factor` allows products with numbers on the way."""
    candidates: list[tuple[Value, float]] = [(value, 1.0)]
    steps: list[Step] = [last]
    best = _try(candidates[0], steps, accept)
    while True:
        base, factor = candidates[-1]
        node = base.producer
        found = _step(node, base) if node is not None else None
        if found is not None:
            source, step = found
            steps.append(step)
        elif with_factor and is_onnx(node, "Mul", "Div"):
            product = scaled(node)
            if product is None or product[0].shape != base.shape:
                return best
            source, factor = product[0], factor * product[1]
        else:
            return best
        candidates.append((source, factor))
        best = _try(candidates[-1], steps, accept) or best


def _try(candidate: tuple[Value, float], steps: list[Step], accept: Accept) -> StridedView | None:
    base, factor = candidate
    if not base.is_static or not prod(base.static_shape):
        return None
    # One byte an element, so that NumPy's strides count elements. Nothing is read or written, and no memory used.
    array = view = np.empty(base.static_shape, np.int8)
    for step in reversed(steps):
        moved = step(view)
        if moved is None:
            return None
        view = moved
    strides = tuple(0 if extent == 1 else stride for extent, stride in zip(view.shape, view.strides))
    if not accept(strides):
        return None
    return StridedView(base, view.ctypes.data - array.ctypes.data, strides, factor)


def reshaped(shape: tuple[int, ...]) -> Step:
    """The step that gives another shape."""

    def step(array: np.ndarray) -> np.ndarray | None:
        result = array.reshape(shape)
        return result if np.may_share_memory(result, array) else None

    return step


def scaled(node: Node) -> tuple[Value, float] | None:
    """The value that a Mul or Div multiplies by a number, and that number."""
    left, right = node.inputs
    number = scalar(right)
    if number:
        return left, number if node.op_type == "Mul" else 1 / number
    number = scalar(left)
    return (right, number) if number and node.op_type == "Mul" else None


def _step(node: Node, output: Value) -> tuple[Value, Step] | None:
    """What `node` reads, and how `output` is a view of that."""
    source = node.inputs[0] if node.inputs else None
    if source is None or not source.is_static or not output.is_static:
        return None
    if is_internal(node, "Reshape"):
        return source, reshaped(output.static_shape)
    make = _STEPS.get(node.op_type) if node.domain == "" else None
    step = None if make is None else make(node, output)
    return None if step is None else (source, step)


def _transpose(node: Node, output: Value) -> Step:
    perm = node.attributes.get("perm")
    return lambda array: array.transpose(perm)


def _split(node: Node, output: Value) -> Step | None:
    sizes = node.input(1)
    if sizes is None or sizes.constant is None:
        return None
    first = int(sizes.constant[: node.outputs.index(output)].sum())
    return _piece(node.attributes.get("axis", 0), first, first + output.static_shape[node.attributes.get("axis", 0)])


def _slice(node: Node, output: Value) -> Step | None:
    constants = [None if value is None else value.constant for value in node.inputs[1:]]
    starts, _, axes, steps = (*constants, None, None)[:4]
    if starts is None or any(v is not None and v.constant is None for v in node.inputs[1:]):
        return None
    if axes is None or len(axes) != 1 or (steps is not None and steps[0] != 1):
        return None
    axis = int(axes[0])
    extent = node.inputs[0].static_shape[axis]
    start = int(starts[0])
    start = min(max(start + extent if start < 0 else start, 0), extent)
    return _piece(axis, start, start + output.static_shape[axis])


def _piece(axis: int, first: int, last: int) -> Step:
    def step(array: np.ndarray) -> np.ndarray:
        places = [slice(None)] * array.ndim
        places[axis] = slice(first, last)
        return array[tuple(places)]

    return step


def _pick(node: Node, output: Value) -> Step | None:
    index, axis = node.inputs[1].constant, node.attributes.get("axis", 0)
    if index is None or index.ndim:
        return None
    place = int(index)
    return lambda array: np.moveaxis(array, axis, 0)[place]


def _expand(node: Node, output: Value) -> Step:
    return lambda array: np.broadcast_to(array, output.static_shape)


_STEPS: dict[str, Callable[[Node, Value], Step | None]] = {
    "Expand": _expand,
    "Gather": _pick,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
