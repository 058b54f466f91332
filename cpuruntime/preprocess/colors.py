"""Conversion of colours, and the shapes of planes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Type, Value
from cpuruntime.preprocess.flow import Flow
from cpuruntime.preprocess.steps import drop_last_channel, reverse_channels, transposed
from cpuruntime.preprocess.words import ColorFormat
from cpuruntime.preprocess.writer import StepWriter

_SINGLE = (ColorFormat.NV12_SINGLE_PLANE, ColorFormat.I420_SINGLE_PLANE)
_THREE = (ColorFormat.RGB, ColorFormat.BGR)
_WITHOUT_LAST = {ColorFormat.RGBX: ColorFormat.RGB, ColorFormat.BGRX: ColorFormat.BGR}
_GRAY = np.float32([0.299, 0.587, 0.114])
# What Y - 16, U - 128 and V - 128 count for in red, green and blue (BT.601, limited range).
_FROM_YUV = ((1.164, 0.0, 1.596), (1.164, -0.391, -0.813), (1.164, 2.018, 0.0))

PLANES = {ColorFormat.NV12_TWO_PLANES: ("y", "uv"), ColorFormat.I420_THREE_PLANES: ("y", "u", "v")}
"""The names of planes that are tensors of their own."""


def plane_shapes(
    color: ColorFormat, shape: Sequence[int | None] | None, channels: int | None, where: str
) -> list[list[int | None] | None]:
    """The shapes of an image's planes.

    Args:
        color: its format.
        shape: the image's: of NV12 and I420 NHWC.
        channels: the axis of the channels of another format.
        where: what a message begins with.
    """
    count = len(PLANES.get(color, "1"))
    if shape is None or color is ColorFormat.UNDEFINED:
        return [None if shape is None else list(shape)] * count
    extents = list(shape)
    if color not in PLANES and color not in _SINGLE:
        if channels is not None:
            extents[channels] = 3 if color in _THREE else 4 if color in _WITHOUT_LAST else extents[channels]
        return [extents]
    if len(extents) != 4:
        raise InvalidArgumentError(f"{where}: an image of {color.name} has rank 4, [N,H,W,C], not {len(extents)}.")
    batch, height, width, _ = extents
    if (height or 0) % 2 or (width or 0) % 2:
        raise InvalidArgumentError(
            f"{where}: an image of {color.name} has even height and width, not {height} x {width}."
        )
    if color in _SINGLE:
        return [[batch, None if height is None else height * 3 // 2, width, 1]]
    half = [None if extent is None else extent // 2 for extent in (height, width)]
    return [[batch, height, width, 1], *([batch, *half, 3 - (count - 1)] for _ in range(count - 1))]


def convert_color(flow: Flow, target: ColorFormat) -> None:
    """Convert to another format. Raises InvalidArgumentError where there is no conversion."""
    source = flow.color
    if source is target:
        return
    if source in (*_SINGLE, *PLANES) and target in (*_THREE, ColorFormat.GRAY):
        planes = _planes(flow)
        flow.values = planes[:1] if target is ColorFormat.GRAY else [_from_yuv(flow, planes, target)]
    elif source in _THREE and target in _THREE:
        reverse_channels(flow)
    elif source in _THREE and target is ColorFormat.GRAY:
        _gray(flow)
    elif source in _WITHOUT_LAST and target in _THREE:
        drop_last_channel(flow)
        if _WITHOUT_LAST[source] is not target:
            reverse_channels(flow)
    else:
        hint = " Say by tensor().set_color_format what it is." if source is ColorFormat.UNDEFINED else ""
        raise flow.error(f"{source.name} is not convertible to {target.name}.{hint}")
    flow.color = target


def _gray(flow: Flow) -> None:
    writer, axis, element_type = flow.writer, flow.axis("C"), flow.value.element_type
    if flow.shape[axis] not in (None, 3):
        raise flow.error(f"the image has {flow.shape[axis]} channels, not 3.")
    value = flow.value if element_type.is_real() else writer.cast(flow.value, Type.f32)
    weights = _GRAY if flow.color is ColorFormat.RGB else _GRAY[::-1]
    parts = [writer.slice(value, axis, index, index + 1) for index in range(3)]
    flow.value = writer.rounded(weighted(writer, parts, weights), element_type)


def weighted(writer: StepWriter, parts: Sequence[Value], weights: Sequence[float]) -> Value:
    """The sum of values of one shape and type, each times a number."""
    dtype = parts[0].element_type.to_dtype()
    total = None
    for part, weight in zip(parts, weights):
        if weight:
            product = writer.op("Mul", part, writer.constant(weight, dtype))
            total = product if total is None else writer.op("Add", total, product)
    assert total is not None
    return total


def _planes(flow: Flow) -> list[Value]:
    """Y, U and V, [N,H,W,1] and twice [N,H/2,W/2,1]; where shapes are dynamic, errors name the nodes, so the rule."""
    writer, values = flow.writer, flow.values
    writer.prefix += f" of {flow.color.name}, with even height and width"
    if flow.color in _SINGLE:
        image, shape = flow.value, flow.shape
        if len(shape) != 4 or (shape[1] or 0) % 3 or (shape[2] or 0) % 2 or shape[3] not in (None, 1):
            raise flow.error(
                f"an image of {flow.color.name} is [N, H * 3 / 2, W, 1], with even H and W; this one has the shape "
                f"{list(shape)}."
            )
        height: int | Value = shape[1] * 2 // 3 if shape[1] is not None else _two_thirds(flow, image)
        values = [writer.slice(image, 1, 0, height), writer.slice(image, 1, height)]
    if flow.color is ColorFormat.I420_SINGLE_PLANE:
        halves = writer.op("Reshape", values[1], writer.constant([0, 2, -1]))
        corners = writer.slice(writer.slice(values[0], 1, step=2), 2, step=2)
        target = writer.shape_of(corners)
        return [values[0], *(writer.op("Reshape", writer.slice(halves, 1, i, i + 1), target) for i in range(2))]
    if flow.color is ColorFormat.NV12_SINGLE_PLANE:
        return [values[0], *(writer.slice(values[1], 2, start, step=2) for start in range(2))]
    if flow.color is ColorFormat.NV12_TWO_PLANES:
        return [values[0], *(writer.slice(values[1], 3, index, index + 1) for index in range(2))]
    return values


def _two_thirds(flow: Flow, image: Value) -> Value:
    writer = flow.writer
    rows = writer.slice(writer.op("Shape", image), 0, 1, 2)
    return writer.op("Div", writer.op("Mul", rows, writer.constant([2])), writer.constant([3]))


def _from_yuv(flow: Flow, planes: Sequence[Value], target: ColorFormat) -> Value:
    writer, element_type = flow.writer, flow.values[0].element_type
    work = element_type if element_type.is_real() else Type.f32
    scales = writer.constant([1, 1, 2, 2], np.float32)
    modes = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    planes = [transposed(writer, writer.cast(plane, work), [0, 3, 1, 2]) for plane in planes]
    none = writer.constant([], np.float32)  # until operator set 13 no input may be absent
    planes = [planes[0], *(writer.op("Resize", plane, none, scales, **modes) for plane in planes[1:])]
    shifts = [writer.constant(shift, work.to_dtype()) for shift in (16, 128, 128)]
    parts = [writer.op("Sub", plane, shift) for plane, shift in zip(planes, shifts)]
    rows = _FROM_YUV if target is ColorFormat.RGB else _FROM_YUV[::-1]
    image = writer.op("Concat", *(weighted(writer, parts, row) for row in rows), axis=1)
    if element_type.is_real():
        image = writer.op("Clip", image, *(writer.constant(limit, work.to_dtype()) for limit in (0, 255)))
    return transposed(writer, writer.rounded(image, element_type), [0, 2, 3, 1])
