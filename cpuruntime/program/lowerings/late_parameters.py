"""Operators whose parameters differ each time, as in the body of a loop, and lists of tensors: run without a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cpuruntime.graph import Node, Type, Value
from cpuruntime.operators.evaluation.evaluate import evaluate
from cpuruntime.operators.evaluation.inputs import integers
from cpuruntime.operators.evaluation.resize import resized_shape
from cpuruntime.ops.movement import fill
from cpuruntime.program.lowerings.resize import check_resize, run_resize
from cpuruntime.program.plan.packing import copy_into, run_kernel

LISTS = frozenset({
    *("OptionalGetElement", "OptionalHasElement", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase"),
    *("Optional", "SequenceInsert", "SequenceLength"),
})  # fmt: skip
"""Operators that only put tensors into lists and take them out."""


def _row_major(x: np.ndarray) -> np.ndarray:
    """The elements of a view, copied by the kernel unless they lie so."""
    if x.flags.c_contiguous:
        return x
    target = np.empty(x.shape, x.dtype)
    if x.size:
        copy_into(target, x)
    return target


def _new(shape: Sequence[int], dtype: Any) -> np.ndarray | None:
    """An array without content; None for a shape that has none: the evaluator says what is wrong with it."""
    try:
        return np.empty(shape, dtype)
    except (ValueError, MemoryError):
        return None


def moved(node: Node, arrays: Sequence[Any]) -> list[Any]:
    """Slice, Reshape, Squeeze, Unsqueeze: the evaluator makes a view."""
    return [_row_major(result) for result in evaluate(node, arrays)]


def split(node: Node, arrays: Sequence[Any]) -> list[Any]:
    """SplitToSequence."""
    return [[_row_major(part) for part in evaluate(node, arrays)[0]]]


def expanded(node: Node, arrays: Sequence[Any]) -> list[Any] | None:
    """Expand."""
    x, shape = arrays[0], tuple(integers(arrays[1]))
    try:
        return [_row_major(np.broadcast_to(x, np.broadcast_shapes(x.shape, shape)))]
    except ValueError:
        return None  # the evaluator says what is wrong


def filled(node: Node, arrays: Sequence[Any]) -> list[Any] | None:
    """ConstantOfShape."""
    shape, element = integers(arrays[0]), node.attributes.get("value", np.zeros(1, np.float32))
    if element.size != 1 or element.dtype.hasobject or element.dtype.itemsize not in (1, 2, 4, 8):
        return None
    target = _new(shape, element.dtype)
    if target is None:
        return None
    pattern = int.from_bytes(element.tobytes() * (8 // target.itemsize), "little", signed=True)
    run_kernel(fill, target=target.ctypes.data, size=target.nbytes, pattern=pattern)
    return [target]


def joined(node: Node, arrays: Sequence[Any]) -> list[Any] | None:
    """ConcatFromSequence."""
    parts, axis, is_new = arrays[0], node.attributes["axis"], node.attributes.get("new_axis", 0)
    if not parts or not -parts[0].ndim - is_new <= axis < parts[0].ndim + is_new:
        return None
    axis %= parts[0].ndim + is_new
    parts = [np.expand_dims(part, axis) if is_new else part for part in parts]
    shapes = {(part.dtype, part.ndim, *part.shape[:axis], *part.shape[axis + 1 :]) for part in parts}
    if len(shapes) > 1:
        return None
    ends = np.cumsum([part.shape[axis] for part in parts]).tolist()
    target = np.empty((*parts[0].shape[:axis], ends[-1], *parts[0].shape[axis + 1 :]), parts[0].dtype)
    for part, end in zip(parts, ends):
        if part.size:
            copy_into(target[(*[slice(None)] * axis, slice(end - part.shape[axis], end))], part)
    return [target]


def resized(node: Node, arrays: Sequence[Any]) -> list[Any] | None:
    """Resize."""
    x = arrays[0]
    if x.dtype != np.float32 or x.ndim not in (3, 4):
        return None
    inputs = [None if array is None else Value.of(f"x{index}", array) for index, array in enumerate(arrays)]
    shape = resized_shape(node, arrays)
    target = _new(shape, np.float32)
    known = Node("Resize", node.name, inputs, [Value("y", Type.f32, shape)], node.attributes, "", node.version)
    if target is None or check_resize(known) is not None:
        return None
    run_resize(known, x, target)
    return [target]
