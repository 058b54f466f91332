"""Shape arithmetic on `Size`s: the operators that exporters compute shapes with, on arrays of objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from cpuruntime.graph import Node, Size, Type
from cpuruntime.operators.movement_shapes import bound_of_slice

Arrays = Sequence[np.ndarray | None]


def has_sizes(array: np.ndarray | None) -> bool:
    """Whether an element is a `Size`."""
    return array is not None and array.dtype == object and any(isinstance(n, Size) for n in array.reshape(-1).tolist())


def evaluate_sizes(node: Node, arrays: Arrays) -> np.ndarray | None:
    """The node's first output, an array of objects or, without sizes in it, of plain numbers.

    None for an operator that is not one of these; ValueError, IndexError or TypeError for inputs that do not fit.
    """
    function = _FUNCTIONS.get(node.op_type)
    if function is None or node.domain:
        return None
    found = function(node, arrays)
    if found is None:
        return None
    found = np.asarray(found, object)
    return found if has_sizes(found) else found.astype(node.outputs[0].element_type.to_dtype())


def _each(function: Callable[..., Any]) -> Callable[[Node, Arrays], np.ndarray]:
    def run(node: Node, arrays: Arrays) -> np.ndarray:
        return np.frompyfunc(function, len(arrays), 1)(*arrays)

    return run


def _divide(a: Any, b: Any) -> Any:
    """ONNX divides integers towards zero."""
    if (a >= 0) == (b > 0):
        return a // b
    return -(-a // b)


def _remainder(a: Any, b: Any) -> Any:
    return a % b


def _cast(node: Node, arrays: Arrays) -> np.ndarray | None:
    wanted = Type.from_onnx(node.attributes["to"])
    return arrays[0] if wanted in (Type.i32, Type.i64) else None


def _axes(node: Node, arrays: Arrays) -> list[int] | None:
    given = arrays[1] if len(arrays) > 1 else None
    return [int(axis) for axis in given.reshape(-1)] if given is not None else node.attributes.get("axes")


def _unsqueeze(node: Node, arrays: Arrays) -> np.ndarray | None:
    axes = _axes(node, arrays)
    return None if axes is None else np.expand_dims(arrays[0], tuple(axes))


def _squeeze(node: Node, arrays: Arrays) -> np.ndarray:
    axes = _axes(node, arrays)
    return np.squeeze(arrays[0], None if axes is None else tuple(axes))


def _gather(node: Node, arrays: Arrays) -> np.ndarray:
    return np.take(arrays[0], arrays[1].astype(np.int64), int(node.attributes.get("axis", 0)))


def _concat(node: Node, arrays: Arrays) -> np.ndarray:
    return np.concatenate([array.astype(object) for array in arrays if array is not None], node.attributes["axis"])


def _slice(node: Node, arrays: Arrays) -> np.ndarray | None:
    data, count = arrays[0], len(arrays)
    if count < 3 or arrays[1] is None or arrays[2] is None:
        return None
    starts, ends = arrays[1].reshape(-1).tolist(), arrays[2].reshape(-1).tolist()
    axes = arrays[3].tolist() if count > 3 and arrays[3] is not None else range(len(starts))
    steps = arrays[4].tolist() if count > 4 and arrays[4] is not None else [1] * len(starts)
    places: list[Any] = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps):
        first = int(bound_of_slice(data.shape[axis], start, step, True))
        last = int(bound_of_slice(data.shape[axis], end, step, False))
        places[axis] = slice(first, None if last < 0 else last, step)
    return data[tuple(places)]


def _reshape(node: Node, arrays: Arrays) -> np.ndarray:
    return arrays[0].reshape([int(extent) for extent in arrays[1].reshape(-1)])


def _reduce_product(node: Node, arrays: Arrays) -> np.ndarray | None:
    if arrays[0].ndim != 1:
        return None
    total = reduce(lambda a, b: a * b, arrays[0].tolist(), 1)
    return np.array([total] if node.attributes.get("keepdims", 1) else total, object)




def _expand(node: Node, arrays: Arrays) -> np.ndarray:
    target = [int(extent) for extent in arrays[1].reshape(-1)]
    return np.broadcast_to(arrays[0], np.broadcast_shapes(arrays[0].shape, tuple(target)))


_FUNCTIONS: dict[str, Callable[[Node, Arrays], np.ndarray | None]] = {
    "Abs": _each(abs),
    "Add": _each(lambda a, b: a + b),
    "Cast": _cast,
    "Concat": _concat,
    "Div": _each(_divide),
    "Equal": _each(lambda a, b: bool(a == b)),
    "Expand": _expand,
    "Flatten": lambda node, arrays: arrays[0].reshape(1, -1) if arrays[0].ndim == 1 else None,
    "Gather": _gather,
    "Greater": _each(lambda a, b: bool(a > b)),
    "GreaterOrEqual": _each(lambda a, b: bool(a >= b)),
    "Identity": lambda node, arrays: arrays[0],
    "Less": _each(lambda a, b: bool(a < b)),
    "LessOrEqual": _each(lambda a, b: bool(a <= b)),
    "Max": _each(lambda *all: max(all)),
    "Min": _each(lambda *all: min(all)),
    "Mod": _each(_remainder),
    "Mul": _each(lambda a, b: a * b),
    "Neg": _each(lambda a: -a),
    "ReduceProd": _reduce_product,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _each(lambda a, b: a - b),
    "Unsqueeze": _unsqueeze,
    "Where": _each(lambda c, a, b: a if c else b),
}
