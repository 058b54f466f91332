"""Operators that only move elements: views, slices, joins, padding, rearrangement."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node, Type
from cpuruntime.operators.evaluation.inputs import (
    Arrays,
    Rule,
    attribute,
    given_axes,
    integers,
    normal_axis,
    optional,
)


def _concat(node: Node, arrays: Arrays) -> np.ndarray:
    return np.concatenate([array for array in arrays if array is not None], attribute(node, "axis"))


def _constant_of_shape(node: Node, arrays: Arrays) -> np.ndarray:
    shape = integers(arrays[0])
    if any(extent < 0 for extent in shape):
        raise ModelError(f"{node.where}: the shape {shape} has a negative extent.")
    value = node.attributes.get("value", np.zeros(1, np.float32))
    if value.size != 1:
        raise ModelError(f"{node.where}: the value has {value.size} elements; it must have one.")
    if value.dtype != object and not value.reshape(1).view(np.uint8).any():
        return np.zeros(shape, value.dtype)
    return np.full(shape, value.reshape(()), value.dtype)


def _constant(node: Node, arrays: Arrays) -> np.ndarray:
    ((name, data),) = node.attributes.items()
    kinds = {"float": np.float32, "int": np.int64, "string": object}
    return data if isinstance(data, np.ndarray) else np.array(data, kinds[name.removeprefix("value_").rstrip("s")])


def _expand(node: Node, arrays: Arrays) -> np.ndarray:
    x, target = arrays[0], integers(arrays[1])
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(target))).copy()


def _flatten(node: Node, arrays: Arrays) -> np.ndarray:
    x, axis = arrays[0], attribute(node, "axis")
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _reshape(node: Node, arrays: Arrays) -> np.ndarray:
    x = arrays[0]
    target = integers(arrays[1]) if len(arrays) > 1 else attribute(node, "shape")
    if not attribute(node, "allowzero"):
        target = [x.shape[index] if extent == 0 else extent for index, extent in enumerate(target)]
    if -1 in target and 0 in target:
        raise ModelError(f"{node.where}: the shape {target} has both 0 and -1.")
    return x.reshape(target)


def _shape(node: Node, arrays: Arrays) -> np.ndarray:
    return np.array(arrays[0].shape, np.int64)[attribute(node, "start") : attribute(node, "end")]


def _slice(node: Node, arrays: Arrays) -> np.ndarray:
    x = arrays[0]
    if node.version < 10:
        starts, ends, axes, steps = node.attributes["starts"], node.attributes["ends"], attribute(node, "axes"), None
    else:
        starts, ends = integers(arrays[1]), integers(arrays[2])
        axes, steps = (
            None if array is None else integers(array) for array in (optional(arrays, 3), optional(arrays, 4))
        )
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps):
        axis = normal_axis(node, axis, x.ndim)
        index[axis] = _range(start, end, step, x.shape[axis])
    return x[tuple(index)]


def _range(start: int, end: int, step: int, extent: int) -> slice:
    """The slice with negative bounds counted from the end and clamped as ONNX says."""
    start, end = (n + extent if n < 0 else n for n in (start, end))
    if step > 0:
        return slice(min(max(start, 0), extent), min(max(end, 0), extent), step)
    end = min(max(end, -1), extent - 1)
    return slice(min(max(start, 0), extent - 1), None if end < 0 else end, step) if extent else slice(0, 0, step)


def split_sizes(node: Node, extent: int, parts: int, size: int | None = None) -> list[int]:
    """Equal parts of an axis, the last one smaller where it does not divide."""
    size = -(-extent // parts) if size is None else size
    return [max(0, min(size, extent - index * size)) for index in range(parts)]


def _split(node: Node, arrays: Arrays) -> tuple[np.ndarray, ...]:
    x, given = arrays[0], optional(arrays, 1)
    axis = normal_axis(node, attribute(node, "axis") or 0, x.ndim)
    sizes = attribute(node, "split") if given is None else integers(given)
    sizes = split_sizes(node, x.shape[axis], len(node.outputs)) if sizes is None else sizes
    if sum(sizes) != x.shape[axis] or len(sizes) != len(node.outputs) or min(sizes, default=0) < 0:
        raise ModelError(f"{node.where}: the parts {sizes} do not add up to the extent {x.shape[axis]}.")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


def _squeeze(node: Node, arrays: Arrays) -> np.ndarray:
    axes = given_axes(node, arrays)
    return np.squeeze(arrays[0], None if axes is None else tuple(axes))


def _unsqueeze(node: Node, arrays: Arrays) -> np.ndarray:
    return np.expand_dims(arrays[0], tuple(given_axes(node, arrays) or ()))


def _tile(node: Node, arrays: Arrays) -> np.ndarray:
    repeats = integers(arrays[1])
    if any(count < 0 for count in repeats) or len(repeats) != arrays[0].ndim:
        raise ModelError(f"{node.where}: the repeats {repeats} must be {arrays[0].ndim} numbers >= 0.")
    return np.tile(arrays[0], repeats)


def _trilu(node: Node, arrays: Arrays) -> np.ndarray:
    x, offset = arrays[0], 0 if optional(arrays, 1) is None else integers(arrays[1])[0]
    rows, columns = x.shape[-2:]
    offset = min(max(offset, -rows - columns), rows + columns)
    keep = np.tri(rows, columns, offset - 1 if attribute(node, "upper") else offset, dtype=bool)
    keep = ~keep if attribute(node, "upper") else keep
    return np.where(keep, x, np.zeros((), x.dtype)).astype(x.dtype)


def _pad(node: Node, arrays: Arrays) -> np.ndarray:
    x, mode = arrays[0], attribute(node, "mode")
    pads = attribute(node, "pads") if node.version < 11 else integers(arrays[1])
    axes = given_axes(node, arrays, 3) if node.version >= 18 else None
    axes = list(range(x.ndim)) if axes is None else [normal_axis(node, axis, x.ndim) for axis in axes]
    if len(pads) != 2 * len(axes):
        raise ModelError(f"{node.where}: {len(pads)} pads for {len(axes)} axes; two are needed for each.")
    fill = attribute(node, "value") if node.version < 11 else optional(arrays, 2)
    fill = np.zeros((), x.dtype) if fill is None else np.asarray(fill).reshape(-1)[:1].reshape(()).astype(x.dtype)
    for axis, before, after in zip(axes, pads, pads[len(axes) :]):
        x = _pad_axis(node, x, axis, before, after, mode, fill)
    return x


def _pad_axis(node: Node, x: np.ndarray, axis: int, before: int, after: int, mode: str, fill: np.ndarray) -> np.ndarray:
    """Negative pads crop. The other modes repeat what is left after cropping."""
    extent = x.shape[axis]
    first, last = min(max(0, -before), extent), max(extent - max(0, -after), 0)
    x = np.take(x, range(first, max(first, last)), axis)
    before, after, extent = max(before, 0), max(after, 0), x.shape[axis]
    if mode == "constant":
        return _join(axis, x, before, after, fill)
    places = np.arange(-before, extent + after)
    if extent == 0 and len(places):
        raise ModelError(f"{node.where}: mode '{mode}' has nothing to repeat along axis {axis}.")
    if mode == "edge":
        places = np.clip(places, 0, extent - 1)
    elif mode == "wrap":
        places = places % max(extent, 1)
    elif mode == "reflect":
        period = max(2 * (extent - 1), 1)
        places = places % period
        places = np.minimum(places, period - places) if extent > 1 else places * 0
    else:
        raise ModelError(f"{node.where}: there is no mode '{mode}'.")
    return np.take(x, places, axis)


def _join(axis: int, x: np.ndarray, before: int, after: int, fill: np.ndarray) -> np.ndarray:
    def block(extent: int) -> np.ndarray:
        return np.full((*x.shape[:axis], extent, *x.shape[axis + 1 :]), fill, x.dtype)

    return np.concatenate([block(before), x, block(after)], axis)


def _center_crop_pad(node: Node, arrays: Arrays) -> np.ndarray:
    x, target = arrays[0], integers(arrays[1])
    axes = attribute(node, "axes") or range(x.ndim)
    for axis, wanted in zip(axes, target):
        axis = normal_axis(node, axis, x.ndim)
        extent = x.shape[axis]
        if wanted <= extent:
            start = (extent - wanted) // 2
            x = np.take(x, range(start, start + wanted), axis)
        else:
            before = (wanted - extent) // 2
            x = _join(axis, x, before, wanted - extent - before, np.zeros((), x.dtype))
    return x


def _depth_to_space(node: Node, arrays: Arrays) -> np.ndarray:
    x, size = arrays[0], node.attributes["blocksize"]
    batch, channels, *spatial = x.shape
    rank, rest = len(spatial), channels // size ** len(spatial)
    blocks = [size] * rank
    if attribute(node, "mode") == "CRD":
        y, first, depth = x.reshape(batch, rest, *blocks, *spatial), 2, 1
    else:
        y, first, depth = x.reshape(batch, *blocks, rest, *spatial), 1, 1 + rank
    order = [axis for place in range(rank) for axis in (2 + rank + place, first + place)]
    return y.transpose(0, depth, *order).reshape(batch, rest, *[n * size for n in spatial])


def _space_to_depth(node: Node, arrays: Arrays) -> np.ndarray:
    x, size = arrays[0], node.attributes["blocksize"]
    batch, channels, *spatial = x.shape
    rank = len(spatial)
    y = x.reshape(batch, channels, *(part for n in spatial for part in (n // size, size)))
    inner, outer = range(3, 3 + 2 * rank, 2), range(2, 2 + 2 * rank, 2)
    order = (0, 1, *inner, *outer) if attribute(node, "mode") == "CRD" else (0, *inner, 1, *outer)
    return y.transpose(order).reshape(batch, -1 if x.size else channels * size**rank, *[n // size for n in spatial])


def _reverse_sequence(node: Node, arrays: Arrays) -> np.ndarray:
    x, lengths = arrays
    time, batch = attribute(node, "time_axis"), attribute(node, "batch_axis")
    y = np.moveaxis(x, (batch, time), (0, 1)).copy()
    for row, length in enumerate(integers(lengths)):
        y[row, :length] = y[row, :length][::-1]
    return np.moveaxis(y, (0, 1), (batch, time))


def _eye_like(node: Node, arrays: Arrays) -> np.ndarray:
    dtype = arrays[0].dtype if attribute(node, "dtype") is None else Type.from_onnx(node.attributes["dtype"]).to_dtype()
    rows, columns = arrays[0].shape
    return np.eye(rows, columns, attribute(node, "k")).astype(dtype)


def _range_of(node: Node, arrays: Arrays) -> np.ndarray:
    start, limit, delta = (np.asarray(array).reshape(()) for array in arrays)
    if delta == 0:
        raise ModelError(f"{node.where}: the step is 0.")
    if start.dtype.kind in "iu":
        return np.array(range(int(start), int(limit), int(delta)), start.dtype)
    count = max(0, math.ceil((float(limit) - float(start)) / float(delta)))
    return (start + np.arange(count) * delta).astype(start.dtype)


def _im2col_places(image: Sequence[int], kernel: Sequence[int], dilations: Sequence[int], pads: Sequence[int],
                   strides: Sequence[int]) -> list[int]:  # fmt: skip
    rank = len(image)
    return [
        (n + pads[i] + pads[i + rank] - d * (k - 1) - 1) // s + 1
        for i, (n, k, d, s) in enumerate(zip(image, kernel, dilations, strides))
    ]


def _col2im(node: Node, arrays: Arrays) -> np.ndarray:
    """Adds the columns up where their windows overlap."""
    x, image, kernel = arrays[0], integers(arrays[1]), integers(arrays[2])
    rank = len(image)
    strides, dilations = (attribute(node, name) or [1] * rank for name in ("strides", "dilations"))
    pads = attribute(node, "pads") or [0] * 2 * rank
    places = _im2col_places(image, kernel, dilations, pads, strides)
    columns = x.reshape(x.shape[0], -1, *kernel, *places)
    padded = [n + pads[i] + pads[i + rank] for i, n in enumerate(image)]
    result = np.zeros((x.shape[0], columns.shape[1], *padded), x.dtype)
    for offset in np.ndindex(*kernel):
        spots = tuple(
            slice(o * d, o * d + (p - 1) * s + 1, s) for o, d, p, s in zip(offset, dilations, places, strides)
        )
        result[(slice(None), slice(None), *spots)] += columns[(slice(None), slice(None), *offset)]
    return result[(slice(None), slice(None), *(slice(pads[i], pads[i] + n) for i, n in enumerate(image)))]


TABLE: dict[str, Rule] = {
    "CenterCropPad": _center_crop_pad,
    "Col2Im": _col2im,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "EyeLike": _eye_like,
    "Flatten": _flatten,
    "Identity": lambda node, arrays: arrays[0],
    "Pad": _pad,
    "Range": _range_of,
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Shape": _shape,
    "Size": lambda node, arrays: np.array(arrays[0].size, np.int64),
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": lambda node, arrays: np.transpose(arrays[0], attribute(node, "perm")),
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}
