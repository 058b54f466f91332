"""Operators that only move elements."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from evaluation.variants.variant import Draw, Variant

_ANY = (np.float32, np.float32, np.int64, np.int32, np.float64, np.bool_, np.uint8, np.float16)


def _i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _concat(d: Draw) -> Variant:
    shape, dtype = d.shape(1), d.choose(*_ANY)
    axis = d.axis(len(shape))
    arrays = []
    for _ in range(d.number(1, 4)):
        shape[axis] = d.number(0, 4)
        arrays.append(d.array(shape, dtype))
    return Variant("Concat", d.opset("Concat"), arrays, {"axis": axis})


def _constant_of_shape(d: Draw) -> Variant:
    attributes = d.some(value=None)
    return Variant("ConstantOfShape", d.opset("ConstantOfShape"), [_i64(*d.shape())], attributes)


def _depth_to_space(d: Draw) -> Variant:
    opset, size = d.opset("DepthToSpace"), d.number(1, 3)
    x = d.array([d.number(1, 2), size * size * d.number(1, 3), d.number(1, 4), d.number(1, 4)])
    attributes = d.some(mode=d.choose("DCR", "CRD")) if opset >= 11 else {}
    return Variant("DepthToSpace", opset, [x], {"blocksize": size, **attributes})


def _space_to_depth(d: Draw) -> Variant:
    size = d.number(1, 3)
    x = d.array([d.number(1, 2), d.number(1, 3), size * d.number(1, 4), size * d.number(1, 4)])
    return Variant("SpaceToDepth", d.opset("SpaceToDepth"), [x], {"blocksize": size})


def _expand(d: Draw) -> Variant:
    target = d.shape(1)
    shape = [1 if d.chance(0.4) else extent for extent in target][d.number(0, len(target)) :]
    target = [1 if d.chance(0.2) and extent != 0 else extent for extent in target]
    return Variant("Expand", d.opset("Expand"), [d.array(shape, d.choose(*_ANY)), _i64(*target)])


def _eye_like(d: Draw) -> Variant:
    x = d.array(d.shape(2, 2), d.choose(np.float32, np.int64, np.float64))
    return Variant("EyeLike", d.opset("EyeLike"), [x], d.some(k=d.number(-3, 3), dtype=d.choose(1, 7, 11)))


def _flatten(d: Draw) -> Variant:
    opset, shape = d.opset("Flatten"), d.shape(1)
    axis = d.number(0 if opset < 11 else -len(shape), len(shape))
    return Variant("Flatten", opset, [d.array(shape, np.float32)], d.some(axis=axis))


def _pad(d: Draw) -> Variant:
    opset, shape = d.opset("Pad"), d.shape(1, 4, empty=0)
    rank, mode = len(shape), d.choose("constant", "constant", "edge", "reflect", *(["wrap"] if opset >= 19 else []))
    axes = list(range(rank))
    if opset >= 18 and d.chance():
        axes = d.axes(rank)
    most = [3 if mode == "constant" else shape[axis] - 1 for axis in axes]
    least = [-1 if mode == "constant" and shape[axis] > 2 and d.chance(0.4) else 0 for axis in axes]
    pads = [d.number(low, high) for _ in range(2) for low, high in zip(least, most)]
    dtype = np.float32 if opset < 11 else d.choose(np.float32, np.float64, np.int64, np.int32)
    x, attributes = d.array(shape, dtype), d.some(mode=mode) or {"mode": mode}
    fill = d.array((), dtype)
    if opset < 11:
        return Variant("Pad", opset, [x], {"pads": pads, **attributes, **d.some(value=float(fill))})
    inputs = [x, _i64(*pads), fill if d.chance() else None]
    return Variant("Pad", opset, inputs + ([_i64(*axes)] if opset >= 18 and len(axes) <= rank else []), attributes)


def _range(d: Draw) -> Variant:
    dtype = d.choose(np.float32, np.float64, np.int64, np.int32, np.int16)
    start, limit = (np.asarray(d.number(-9, 9) * (1.0 if np.dtype(dtype).kind == "i" else 0.7)) for _ in range(2))
    delta = np.asarray(d.choose(1, 2, 3, -1, -2) * (1.0 if np.dtype(dtype).kind == "i" else 0.4))
    return Variant("Range", d.opset("Range"), [array.astype(dtype) for array in (start, limit, delta)])


def _reshape(d: Draw) -> Variant:
    opset, shape = d.opset("Reshape"), d.shape(1)
    target = list(shape)
    d.random.shuffle(target)
    if d.chance() and 0 not in target:
        target[d.number(0, len(target) - 1)] = -1
    elif d.chance():
        target = [*target, 1]
    if d.chance(0.3) and 0 not in shape:
        target = [0, -1] if len(shape) > 1 else [0]
    return Variant("Reshape", opset, [d.array(shape, d.choose(*_ANY)), _i64(*target)])


def _reverse_sequence(d: Draw) -> Variant:
    shape = d.shape(2, 4, empty=0)
    time = d.number(0, 1)
    lengths = d.random.integers(1, shape[time] + 1, shape[1 - time])
    attributes = {"time_axis": time, "batch_axis": 1 - time} if time or d.chance() else {}
    return Variant("ReverseSequence", d.opset("ReverseSequence"), [d.array(shape), lengths], attributes)


def _shape(d: Draw) -> Variant:
    opset, shape = d.opset("Shape"), d.shape()
    attributes = d.some(start=d.number(-5, 5), end=d.number(-5, 5)) if opset >= 15 else {}
    return Variant("Shape", opset, [d.array(shape)], attributes)


def _slice(d: Draw) -> Variant:
    opset, shape = d.opset("Slice"), d.shape(1)
    axes = d.axes(len(shape))
    if opset < 10:
        axes = [axis % len(shape) for axis in axes]
    far = d.choose(0, 0, 2**31 - 1)
    starts, ends = ([d.number(-6, 6) for _ in axes] for _ in range(2))
    ends = [far or end for end in ends]
    x = d.array(shape, d.choose(*_ANY))
    if opset < 10:
        return Variant("Slice", opset, [x], {"starts": starts, "ends": ends, "axes": axes})
    steps = [d.choose(1, 1, 2, 3, -1, -2) for _ in axes]
    ends = [-(2**31) if step < 0 and (far or d.chance(0.3)) else end for end, step in zip(ends, steps)]
    dtype = d.choose(np.int64, np.int32)
    return Variant("Slice", opset, [x, *(np.array(numbers, dtype) for numbers in (starts, ends, axes, steps))])


def _split(d: Draw) -> Variant:
    opset, shape = d.opset("Split"), d.shape(1, 4, empty=0)
    axis = d.axis(len(shape)) if opset >= 11 else d.number(0, len(shape) - 1)
    parts = d.number(1, 3)
    if d.chance():
        sizes = [d.number(0 if opset >= 11 else 1, 3) for _ in range(parts)]
        shape[axis] = sum(sizes)
        x = d.array(shape)
        inputs = [x, _i64(*sizes)] if opset >= 13 else [x]
        attributes = {"axis": axis} if opset >= 13 else {"axis": axis, "split": sizes}
        return Variant("Split", opset, inputs, attributes, [True] * parts)
    shape[axis] = parts * d.number(1, 3) + (d.number(0, parts - 1) if opset >= 18 else 0)
    if opset >= 18 and -(-shape[axis] // parts) * (parts - 1) >= shape[axis]:
        shape[axis] = parts
    attributes = {"axis": axis, **({"num_outputs": parts} if opset >= 18 else {})}
    return Variant("Split", opset, [d.array(shape, d.choose(*_ANY))], attributes, [True] * parts)


def _squeeze(d: Draw) -> Variant:
    opset, shape = d.opset("Squeeze"), [1 if d.chance() else extent for extent in d.shape(1, empty=0)]
    ones = [axis for axis, extent in enumerate(shape) if extent == 1]
    axes = [axis - len(shape) if d.chance(0.3) and opset >= 11 else axis for axis in ones if d.chance(0.7)]
    x = d.array(shape)
    if not axes:
        return Variant("Squeeze", opset, [x])
    return Variant("Squeeze", opset, [x, _i64(*axes)] if opset >= 13 else [x], {} if opset >= 13 else {"axes": axes})


def _unsqueeze(d: Draw) -> Variant:
    opset, shape = d.opset("Unsqueeze"), d.shape(0, 3)
    rank = len(shape) + d.number(1, 2)
    axes = [axis - rank if d.chance(0.3) and opset >= 11 else axis for axis in
            d.random.permutation(rank)[: rank - len(shape)].tolist()]  # fmt: skip
    x = d.array(shape)
    return Variant("Unsqueeze", opset, [x, _i64(*axes)] if opset >= 13 else [x], {} if opset >= 13 else {"axes": axes})


def _tile(d: Draw) -> Variant:
    shape = d.shape(1, 3)
    return Variant("Tile", d.opset("Tile"), [d.array(shape, np.float32), _i64(*(d.number(0, 3) for _ in shape))])


def _transpose(d: Draw) -> Variant:
    shape = d.shape()
    perm = d.random.permutation(len(shape)).tolist()
    return Variant("Transpose", d.opset("Transpose"), [d.array(shape, d.choose(*_ANY))],
                   {"perm": perm} if perm and d.chance(0.8) else {})  # fmt: skip


def _trilu(d: Draw) -> Variant:
    x = d.array(d.shape(2, 4), d.choose(np.float32, np.int64, np.float64, np.bool_))
    return Variant("Trilu", d.opset("Trilu"), [x, np.asarray(d.number(-6, 6)) if d.chance() else None],
                   d.some(upper=d.number(0, 1)))  # fmt: skip


def _center_crop_pad(d: Draw) -> Variant:
    shape = d.shape(1, 3, empty=0)
    axes = d.axes(len(shape)) if d.chance() else None
    count = len(shape) if axes is None else len(axes)
    attributes = {} if axes is None else {"axes": axes}
    x = d.array(shape, np.float32)
    return Variant("CenterCropPad", 18, [x, _i64(*(d.number(1, 7) for _ in range(count)))], attributes)


def _col2im(d: Draw) -> Variant:
    rank = d.number(1, 3)
    kernel, dilations, strides = ([d.number(1, n) for _ in range(rank)] for n in (3, d.choose(1, 1, 2), 3))
    pads = [d.number(0, 1) for _ in range(2 * rank)]
    image = [d.number((k - 1) * s + 1, (k - 1) * s + 4) for k, s in zip(kernel, dilations)]
    places = [(n + pads[i] + pads[i + rank] - (k - 1) * s - 1) // t + 1
              for i, (n, k, s, t) in enumerate(zip(image, kernel, dilations, strides))]  # fmt: skip
    x = d.array([d.number(1, 2), d.number(1, 3) * int(np.prod(kernel)), int(np.prod(places))])
    attributes = {"dilations": dilations, "strides": strides, "pads": pads}
    return Variant("Col2Im", 18, [x, _i64(*image), _i64(*kernel)], attributes)


def _size(d: Draw) -> Variant:
    return Variant("Size", d.opset("Size"), [d.array(d.shape(), d.choose(*_ANY))])


GENERATORS: dict[str, Callable[[Draw], Variant]] = {
    "CenterCropPad": _center_crop_pad,
    "Col2Im": _col2im,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "EyeLike": _eye_like,
    "Flatten": _flatten,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}
