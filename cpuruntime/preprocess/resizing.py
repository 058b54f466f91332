"""Resizing images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from cpuruntime.graph import Type, Value
from cpuruntime.preprocess.flow import Flow
from cpuruntime.preprocess.steps import transposed
from cpuruntime.preprocess.words import ResizeAlgorithm
from cpuruntime.preprocess.writer import StepWriter

_HALF_PIXEL = {"coordinate_transformation_mode": "half_pixel"}
_PILLOW = {"antialias": 1, "cubic_coeff_a": -0.5, "exclude_outside": 1, **_HALF_PIXEL}
_ATTRIBUTES: dict[ResizeAlgorithm, dict[str, Any]] = {
    ResizeAlgorithm.RESIZE_LINEAR: {"mode": "linear", **_HALF_PIXEL},
    ResizeAlgorithm.RESIZE_CUBIC: {"mode": "cubic", **_HALF_PIXEL},
    ResizeAlgorithm.RESIZE_NEAREST: {"mode": "nearest", "nearest_mode": "round_prefer_floor", **_HALF_PIXEL},
    ResizeAlgorithm.RESIZE_BILINEAR_PILLOW: {"mode": "linear", **_PILLOW},
    ResizeAlgorithm.RESIZE_BICUBIC_PILLOW: {"mode": "cubic", **_PILLOW},
}
_EXACT_BITS = 16
"""Of integers that single precision holds."""
_PILLOW_BITS = 22
"""Behind the point in Pillow's coefficients for bytes."""


def resize(flow: Flow, algorithm: ResizeAlgorithm, height: int | None, width: int | None) -> None:
    """Resize to a height and width; to those of the model where they are None."""
    axes = [flow.axis("H"), flow.axis("W")]
    sizes = [_wanted(flow, "H", height), _wanted(flow, "W", width)]
    flow.value = resized(flow.writer, flow.value, axes, sizes, algorithm)


def resized(
    writer: StepWriter, value: Value, axes: Sequence[int], sizes: list[int], algorithm: ResizeAlgorithm
) -> Value:
    """Two axes resized."""
    order = [*(axis for axis in range(len(value.shape or ())) if axis not in axes), *axes]
    value, element_type = transposed(writer, value, order), value.element_type
    attributes = _ATTRIBUTES[algorithm]
    if "antialias" in attributes and element_type is Type.u8:
        value = _as_pillow(writer, value, sizes, algorithm)
    elif element_type.is_real() or (
        algorithm is ResizeAlgorithm.RESIZE_NEAREST and element_type.bitwidth > _EXACT_BITS
    ):
        value = _resized(writer, value, sizes, attributes)
    else:
        value = _resized(writer, writer.cast(value, Type.f32), sizes, attributes)
        value = writer.rounded(value, element_type)
    return transposed(writer, value, [order.index(axis) for axis in range(len(order))])


def _wanted(flow: Flow, name: str, size: int | None) -> int:
    """The size that is given, or the model's."""
    if size is None:
        shape = flow.target_shape
        names = [] if shape is None else flow.target_layout.names(len(shape), flow.where)
        size = shape[names.index(name)] if shape is not None and name in names else None
        if size is None:
            raise flow.error(
                f"to which {name}? The model's is not known: give height and width, or the model's shape and layout."
            )
    if size < 1:
        raise flow.error(f"{name} must be at least 1, not {size}.")
    return size


def _resized(writer: StepWriter, value: Value, sizes: list[int], attributes: dict[str, Any]) -> Value:
    """By ONNX's Resize of images [N,C,H,W], with the sizes of all axes: a form that it has since operator set 11."""
    shape, is_image = writer.shape_of(value), len(value.shape or ()) == 4
    none = writer.constant([], np.float32)  # until operator set 13 no input may be absent
    target = writer.op("Concat", writer.slice(shape, 0, 0, -2), writer.constant(sizes), axis=0)
    since = 18 if "antialias" in attributes else 0
    if is_image:
        return writer.op("Resize", value, none, none, target, since=since, **attributes)
    spatial, every = writer.slice(shape, 0, -2), writer.constant([1, -1])
    images = writer.op("Reshape", value, writer.op("Concat", every, spatial, axis=0))
    ends = writer.op("Concat", writer.slice(writer.shape_of(images), 0, 0, 2), writer.constant(sizes), axis=0)
    return writer.op("Reshape", writer.op("Resize", images, none, none, ends, since=since, **attributes), target)


def _as_pillow(writer: StepWriter, value: Value, sizes: list[int], algorithm: ResizeAlgorithm) -> Value:
    """Pillow's arithmetic for bytes: along the rows, rounded to bytes, then along the columns; in 32-bit integers."""
    rows, columns = (_coefficients(writer, value, axis, size, algorithm) for axis, size in zip((-2, -1), sizes))
    value = writer.cast(value, Type.i32)
    value = _to_bytes(writer, writer.op("MatMul", value, writer.op("Transpose", columns, perm=[1, 0])))
    return writer.cast(_to_bytes(writer, writer.op("MatMul", rows, value)), Type.u8)


def _to_bytes(writer: StepWriter, value: Value) -> Value:
    half, one, low, high = (writer.constant(n, np.int32) for n in (1 << (_PILLOW_BITS - 1), 1 << _PILLOW_BITS, 0, 255))
    return writer.op("Clip", writer.op("Div", writer.op("Add", value, half), one), low, high, since=12)


def _coefficients(writer: StepWriter, value: Value, axis: int, size: int, algorithm: ResizeAlgorithm) -> Value:
    """Pillow's coefficients, i32 [size, extent of the axis]: what each element counts for in each element made."""
    op, real, last = writer.op, partial(writer.constant, dtype=np.float64), len(value.shape or ()) + axis
    extent = op("Reshape", writer.slice(writer.shape_of(value), 0, last, last + 1), writer.constant([]))
    extent = writer.cast(extent, Type.f64)
    scale = op("Div", extent, real(size))
    centers = op("Mul", real(np.arange(size)[:, None] + 0.5), scale)
    points = op("Range", real(0.5), op("Add", extent, real(0.5)), real(1))
    distances = op("Abs", op("Div", op("Sub", points, centers), op("Max", scale, real(1))))
    counts = (_triangle if algorithm is ResizeAlgorithm.RESIZE_BILINEAR_PILLOW else _cubic)(writer, distances)
    ones = op("Expand", real([[1]]), op("Concat", writer.shape_of(points), writer.constant([1]), axis=0))
    counts = op("Mul", op("Div", counts, op("MatMul", counts, ones)), real(1 << _PILLOW_BITS))
    return writer.cast(op("Add", counts, op("Mul", op("Sign", counts), real(0.5))), Type.i32)


def _triangle(writer: StepWriter, distances: Value) -> Value:
    one, zero = writer.constant(1, np.float64), writer.constant(0, np.float64)
    return writer.op("Max", writer.op("Sub", one, distances), zero)


def _cubic(writer: StepWriter, distances: Value) -> Value:
    op, real = writer.op, partial(writer.constant, dtype=np.float64)
    squares = op("Mul", distances, distances)
    near = op("Add", op("Mul", op("Sub", op("Mul", real(1.5), distances), real(2.5)), squares), real(1))
    far = op("Add", op("Mul", op("Sub", distances, real(5)), distances), real(8))
    far = op("Mul", op("Sub", op("Mul", far, distances), real(4)), real(-0.5))
    outer = op("Where", op("Less", distances, real(2)), far, real(0))
    return op("Where", op("Less", distances, real(1)), near, outer)
