"""Shapes of results where some extents are `Size`s: rules that mirror ONNX's own shape inference, one an operator.

ONNX's inference takes plain numbers only. A node whose operator has no rule here is inferred by it, which guards all
the extents that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Extent, Node, Size
from cpuruntime.operators.traits import traits_of

Shape = tuple[Any, ...]
Known = Sequence[np.ndarray | None]
Rule = Callable[[Node, Known], "list[Shape] | None"]
"""The shapes of a node's outputs, from those of its inputs, which are known, and from what is known of their elements.

An extent is None where it depends on data; the whole where ONNX's inference has to say it.
"""

# A bound of a Slice at least as far off as this one stands for the end of the axis.
_FAR = 2**31 - 1


def result_shapes(node: Node, known: Known) -> list[Shape] | None:
    """The shapes of the outputs by the rule of the node's operator; None where there is none or it does not say."""
    rule = _RULES.get(node.op_type)
    if rule is None:
        row = traits_of(node)
        rule = broadcast_inputs if row.elementwise else _same if row.shape_of_first else None
    return None if rule is None else rule(node, known)


def broadcast(*shapes: Sequence[Extent]) -> Shape:
    """The shape to which shapes broadcast by NumPy's rules; ValueError where they do not fit."""
    result: list[Extent] = []
    for index in range(1, max(map(len, shapes), default=0) + 1):
        extent: Extent = 1
        for shape in shapes:
            if len(shape) < index or shape[-index] == 1:
                continue
            if extent != 1 and extent != shape[-index]:
                raise ValueError(f"shapes {', '.join(str(list(map(str, shape))) for shape in shapes)} do not broadcast")
            extent = shape[-index]
        result.append(extent)
    return tuple(reversed(result))


def _shape(node: Node, index: int = 0) -> Shape:
    return node.require(index).static_shape


def _numbers(known: Known, index: int) -> list[Any] | None:
    array = known[index] if index < len(known) else None
    return None if array is None else array.reshape(-1).tolist()


def _axis(node: Node, rank: int, default: int = 0) -> int:
    return int(node.attributes.get("axis", default)) % max(rank, 1)


def _axes(node: Node, known: Known, rank: int, index: int = 1) -> list[int] | None:
    """The axes given by the attribute or by an input, from 0; an empty list without either, None where unknown."""
    axes = node.attributes.get("axes")
    if axes is None and node.input(index) is not None:
        axes = _numbers(known, index)
        if axes is None:
            return None
    axes = [int(axis) for axis in axes or ()]
    _check(node, all(-rank <= axis < rank for axis in axes), f"axes {axes} of a tensor of {rank} dimensions")
    return [axis % rank for axis in axes]


def _check(node: Node, is_right: bool, message: str) -> None:
    if not is_right:
        raise ModelError(f"{node.where}: {message}.")


def broadcast_inputs(node: Node, known: Known) -> list[Shape]:
    """Elementwise operators."""
    shapes = [value.static_shape for value in node.inputs if value is not None]
    try:
        return [broadcast(*shapes)] * len(node.outputs)
    except ValueError as error:
        raise ModelError(f"{node.where}: {error}.") from None


def _same(node: Node, known: Known) -> list[Shape]:
    return [_shape(node)] * len(node.outputs)


def _first_only(node: Node, known: Known) -> list[Shape] | None:
    return [_shape(node)] if len(node.outputs) == 1 else None


def _matmul(node: Node, known: Known) -> list[Shape]:
    a, b = _shape(node, 0), _shape(node, 1)
    left, right = a if len(a) > 1 else (1, *a), b if len(b) > 1 else (*b, 1)
    _check(node, left[-1] == right[-2], f"{left[-1]} columns times {right[-2]} rows")
    try:
        batches = broadcast(left[:-2], right[:-2])
    except ValueError as error:
        raise ModelError(f"{node.where}: {error}.") from None
    return [(*batches, *left[-2:-1][: len(a) - 1], *right[-1:][: len(b) - 1])]


def _gemm(node: Node, known: Known) -> list[Shape] | None:
    a, b = _shape(node, 0), _shape(node, 1)
    if len(a) != 2 or len(b) != 2:
        return None
    a = a[::-1] if node.attributes.get("transA", 0) else a
    b = b[::-1] if node.attributes.get("transB", 0) else b
    _check(node, a[1] == b[0], f"{a[1]} columns times {b[0]} rows")
    return [(a[0], b[1])]


def _transpose(node: Node, known: Known) -> list[Shape] | None:
    shape = _shape(node)
    perm = node.attributes.get("perm") or range(len(shape))[::-1]
    return [tuple(shape[axis] for axis in perm)] if sorted(perm) == list(range(len(shape))) else None


def _reshape(node: Node, known: Known) -> list[Shape] | None:
    shape, target = _shape(node), _numbers(known, 1)
    if target is None or None in target:
        return None
    if not node.attributes.get("allowzero", 0):
        _check(node, len(shape) >= len(target) or 0 not in target[len(shape) :], f"target {target}: no axis to copy")
        target = [shape[index] if extent == 0 else extent for index, extent in enumerate(target)]
    open_axes = [index for index, extent in enumerate(target) if extent == -1]
    if len(open_axes) == 1:
        rest = prod(extent for extent in target if extent != -1)
        if rest == 0:
            return None
        size = prod(shape)
        _check(node, size % rest == 0, f"{size} elements cannot take the shape {_text(target)}")
        target[open_axes[0]] = size // rest
    _check(node, prod(target) == prod(shape), f"{_text(shape)} cannot take the shape {_text(target)}: the sizes differ")
    return [tuple(target)]


def _text(shape: Sequence[Extent]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _flatten(node: Node, known: Known) -> list[Shape]:
    shape = _shape(node)
    axis = int(node.attributes.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    return [(prod(shape[:axis]), prod(shape[axis:]))]


def _squeeze(node: Node, known: Known) -> list[Shape] | None:
    shape = _shape(node)
    axes = _axes(node, known, len(shape))
    if axes is None:
        return None
    axes = axes or [axis for axis, extent in enumerate(shape) if extent == 1]
    for axis in axes:
        _check(node, shape[axis] == 1, f"axis {axis} of {_text(shape)} is not 1")
    return [tuple(extent for axis, extent in enumerate(shape) if axis not in axes)]


def _unsqueeze(node: Node, known: Known) -> list[Shape] | None:
    shape = list(_shape(node))
    count = node.attributes.get("axes") or _numbers(known, 1)
    if count is None:
        return None
    axes = _axes(node, known, len(shape) + len(count))
    for axis in sorted(axes or ()):
        shape.insert(axis, 1)
    return [tuple(shape)]


def _concat(node: Node, known: Known) -> list[Shape]:
    shapes = [value.static_shape for value in node.inputs if value is not None]
    axis = _axis(node, len(shapes[0]))
    for shape in shapes[1:]:
        fits = len(shape) == len(shapes[0]) and all(
            a == b for index, (a, b) in enumerate(zip(shape, shapes[0])) if index != axis
        )
        _check(node, fits, f"{_text(shape)} and {_text(shapes[0])} differ beside axis {axis}")
    first = list(shapes[0])
    first[axis] = sum(shape[axis] for shape in shapes)
    return [tuple(first)]


def _split(node: Node, known: Known) -> list[Shape] | None:
    shape, axis = _shape(node), _axis(node, len(_shape(node)))
    parts = node.attributes.get("split")
    if parts is None:
        parts = _numbers(known, 1) if node.input(1) is not None else None
        if parts is None and node.input(1) is not None:
            return None
    if parts is None:
        count = len(node.outputs)
        each = -(-shape[axis] // count)
        parts = [each] * (count - 1) + [shape[axis] - each * (count - 1)]
    _check(node, len(parts) == len(node.outputs) and sum(parts) == shape[axis], f"parts {parts} of {shape[axis]}")
    return [(*shape[:axis], part, *shape[axis + 1 :]) for part in parts]


def _slice(node: Node, known: Known) -> list[Shape] | None:
    shape = list(_shape(node))
    attributes = node.attributes
    starts, ends = attributes.get("starts") or _numbers(known, 1), attributes.get("ends") or _numbers(known, 2)
    axes = _numbers(known, 3) if node.input(3) is not None else attributes.get("axes")
    steps = _numbers(known, 4) if node.input(4) is not None else None
    absent = (node.input(3) is not None and axes is None) or (node.input(4) is not None and steps is None)
    if starts is None or ends is None or absent or None in (*starts, *ends):
        return None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis, step = int(axis) % max(len(shape), 1), int(step)
        _check(node, step != 0, "a step is 0")
        shape[axis] = len_of_slice(shape[axis], start, end, step)
    return [tuple(shape)]


def bound_of_slice(extent: Extent, bound: Extent, step: int, is_start: bool) -> Extent:
    """A start or end of a Slice as a position: 0 to `extent`, for a negative step up to `extent` - 1 and from -1 on.

    A start is never before the first element: kernels read from there.
    """
    lowest, highest = (0, extent) if step > 0 else (0 if is_start else -1, extent - 1)
    if isinstance(bound, Size) or -_FAR < bound < _FAR:
        bound = bound + extent if bound < 0 else bound
        bound = lowest if bound < lowest else bound
    else:
        bound = highest if bound > 0 else lowest
    return highest if bound > highest else bound


def len_of_slice(extent: Extent, start: Extent, end: Extent, step: int) -> Extent:
    """How many elements a Slice takes of an axis."""
    first, last = bound_of_slice(extent, start, step, True), bound_of_slice(extent, end, step, False)
    count = -(-(last - first) // step) if step > 0 else -(-(first - last) // -step)
    return count if count > 0 else 0


def _gather(node: Node, known: Known) -> list[Shape]:
    shape, axis = _shape(node), _axis(node, len(_shape(node)))
    return [(*shape[:axis], *_shape(node, 1), *shape[axis + 1 :])]


def _as_input(index: int) -> Rule:
    return lambda node, known: [_shape(node, index)]


def _gather_nd(node: Node, known: Known) -> list[Shape]:
    data, indices = _shape(node, 0), _shape(node, 1)
    lead = int(node.attributes.get("batch_dims", 0))
    return [(*indices[:-1], *data[lead + int(indices[-1]) :])]


def _expand(node: Node, known: Known) -> list[Shape] | None:
    target = _numbers(known, 1)
    if target is None or None in target:
        return None
    try:
        return [broadcast(_shape(node), target)]
    except ValueError as error:
        raise ModelError(f"{node.where}: {error}.") from None


def _tile(node: Node, known: Known) -> list[Shape] | None:
    repeats = _numbers(known, 1)
    if repeats is None or None in repeats:
        return None
    return [tuple(extent * count for extent, count in zip(_shape(node), repeats, strict=True))]


def _pad(node: Node, known: Known) -> list[Shape] | None:
    shape = list(_shape(node))
    pads = node.attributes.get("pads") or _numbers(known, 1)
    if pads is None or None in pads:
        return None
    axes = list(range(len(shape)))
    if node.input(3) is not None:
        given = _numbers(known, 3)
        if given is None:
            return None
        axes = [int(axis) % len(shape) for axis in given]
    for index, axis in enumerate(axes):
        shape[axis] = shape[axis] + pads[index] + pads[index + len(axes)]
    return [tuple(shape)]


def _reduce(node: Node, known: Known) -> list[Shape] | None:
    shape = _shape(node)
    axes = _axes(node, known, len(shape))
    if axes is None:
        return None
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return [shape]
    reduced = set(axes or range(len(shape)))
    if node.attributes.get("keepdims", 1):
        return [tuple(1 if axis in reduced else extent for axis, extent in enumerate(shape))]
    return [tuple(extent for axis, extent in enumerate(shape) if axis not in reduced)]


def _arg(node: Node, known: Known) -> list[Shape]:
    shape, axis = _shape(node), _axis(node, len(_shape(node)))
    return [(*shape[:axis], *((1,) if node.attributes.get("keepdims", 1) else ()), *shape[axis + 1 :])]


def _extents(node: Node, known: Known) -> list[Shape]:
    rank = len(_shape(node))
    return [(len(range(rank)[node.attributes.get("start", 0) : node.attributes.get("end")]),)]


def _constant_of_shape(node: Node, known: Known) -> list[Shape] | None:
    target = _numbers(known, 0)
    return None if target is None or None in target else [tuple(target)]


def _range(node: Node, known: Known) -> list[Shape] | None:
    bounds = [_numbers(known, index) for index in range(3)]
    if any(bound is None for bound in bounds):
        return None
    start, end, step = (bound[0] for bound in bounds if bound)
    if any(isinstance(number, float) for number in (start, end, step)) or isinstance(step, Size) or step == 0:
        return None
    count = -(-(end - start) // step) if step > 0 else -(-(start - end) // -step)
    return [(count if count > 0 else 0,)]


def _top_k(node: Node, known: Known) -> list[Shape] | None:
    shape, count = _shape(node), _numbers(known, 1)
    axis = _axis(node, len(shape), -1)
    count = count if node.input(1) is not None else [node.attributes.get("k")]
    if count is None or None in count:
        return None
    return [(*shape[:axis], count[0], *shape[axis + 1 :])] * 2


def _window(node: Node, shape: Shape, kernel: Sequence[int], channels: Extent) -> list[Shape] | None:
    """Convolutions and pools."""
    attributes, rank = node.attributes, len(kernel)
    strides = attributes.get("strides") or [1] * rank
    dilations = attributes.get("dilations") or [1] * rank
    pads = attributes.get("pads") or [0] * (2 * rank)
    auto, ceil = attributes.get("auto_pad", "NOTSET"), attributes.get("ceil_mode", 0)
    result: list[Extent] = [shape[0], channels]
    for index, extent in enumerate(shape[2:]):
        reach, stride = dilations[index] * (kernel[index] - 1) + 1, strides[index]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            result.append(-(-extent // stride))
            continue
        before, after = (0, 0) if auto == "VALID" else (pads[index], pads[index + rank])
        room = extent + before + after - reach
        _check(node, room >= 0, f"a window of {reach} does not fit an axis of {extent}")
        count = (-(-room // stride) if ceil else room // stride) + 1
        if ceil and (count - 1) * stride >= extent + before:
            count = count - 1
        result.append(count)
    return [tuple(result)]


def _convolution(node: Node, known: Known) -> list[Shape] | None:
    weights = _shape(node, 1)
    kernel = node.attributes.get("kernel_shape") or [int(extent) for extent in weights[2:]]
    return _window(node, _shape(node), kernel, weights[0])


def _transposed_convolution(node: Node, known: Known) -> list[Shape] | None:
    shape, weights, attributes = _shape(node), _shape(node, 1), node.attributes
    rank = len(shape) - 2
    kernel = attributes.get("kernel_shape") or [int(extent) for extent in weights[2:]]
    strides, dilations = (attributes.get(name) or [1] * rank for name in ("strides", "dilations"))
    extra, pads = attributes.get("output_padding") or [0] * rank, attributes.get("pads") or [0] * (2 * rank)
    auto = attributes.get("auto_pad", "NOTSET")
    if attributes.get("output_shape") or auto.startswith("SAME"):
        return None
    pads = [0] * (2 * rank) if auto == "VALID" else pads
    spatial = [
        strides[i] * (extent - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - pads[i] - pads[i + rank]
        for i, extent in enumerate(shape[2:])
    ]
    return [(shape[0], weights[1] * attributes.get("group", 1), *spatial)]


def _one_hot(node: Node, known: Known) -> list[Shape] | None:
    shape, depth = _shape(node), _numbers(known, 1)
    if not depth or depth[0] is None or isinstance(depth[0], float):
        return None
    axis = int(node.attributes.get("axis", -1)) % (len(shape) + 1)
    return [(*shape[:axis], depth[0], *shape[axis:])]


def _grid_sample(node: Node, known: Known) -> list[Shape]:
    return [(*_shape(node)[:2], *_shape(node, 1)[1:-1])]


def _roi_align(node: Node, known: Known) -> list[Shape]:
    height, width = (node.attributes.get(f"output_{name}", 1) for name in ("height", "width"))
    return [(_shape(node, 1)[0], _shape(node)[1], height, width)]


def _non_zero(node: Node, known: Known) -> list[Shape]:
    return [(max(len(_shape(node)), 1), None)]


def _non_max_suppression(node: Node, known: Known) -> list[Shape]:
    return [(None, 3)]


def _pool(node: Node, known: Known) -> list[Shape] | None:
    shape = _shape(node)
    found = _window(node, shape, node.attributes["kernel_shape"], shape[1])
    return None if found is None else found * len(node.outputs)


def _global_pool(node: Node, known: Known) -> list[Shape]:
    shape = _shape(node)
    return [(*shape[:2], *[1] * (len(shape) - 2))]


def _recurrent(node: Node, known: Known) -> list[Shape]:
    x, hidden = _shape(node), int(_shape(node, 2)[-1])
    directions = int(_shape(node, 1)[0])
    batch_first = node.attributes.get("layout", 0)
    steps, batch = (x[1], x[0]) if batch_first else (x[0], x[1])
    last: Shape = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
    whole: Shape = (batch, steps, directions, hidden) if batch_first else (steps, directions, batch, hidden)
    return [whole, last, last][: len(node.outputs)]


def _resize(node: Node, known: Known) -> list[Shape] | None:
    shape = _shape(node)
    sizes = _numbers(known, 3) if node.input(3) is not None else None
    policy = node.attributes.get("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch" or node.attributes.get("axes") is not None:
        return None
    if sizes:
        return None if None in sizes or len(sizes) != len(shape) else [tuple(sizes)]
    at = 1 if node.op_type == "Upsample" or node.version < 11 else 2
    scales = node.attributes.get("scales") or (_numbers(known, at) if node.input(at) is not None else None)
    if not scales or node.input(3) is not None:
        return None
    result = []
    for extent, scale in zip(shape, scales, strict=True):
        if float(scale).is_integer():
            result.append(extent * int(scale))
        elif scale > 0 and (1 / scale).is_integer():
            result.append(extent // int(1 / scale))
        else:
            result.append(int(int(extent) * float(np.float32(scale))))
    return [tuple(result)]


def _depth_to_space(node: Node, known: Known) -> list[Shape]:
    n, c, h, w = _shape(node)
    block = node.attributes["blocksize"]
    return [(n, c // block**2, h * block, w * block)]


def _space_to_depth(node: Node, known: Known) -> list[Shape]:
    n, c, h, w = _shape(node)
    block = node.attributes["blocksize"]
    return [(n, c * block**2, h // block, w // block)]


def _all(op_types: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(op_types.split(), rule)


_RULES: dict[str, Rule] = {
    **_all("BatchNormalization CumSum GroupNormalization Hardmax InstanceNormalization", _first_only),
    **_all("LayerNormalization LogSoftmax LpNormalization LRN RMSNormalization Softmax Trilu", _first_only),
    **_all("DequantizeLinear QuantizeLinear ReverseSequence Scatter ScatterElements ScatterND", _same),
    **_all("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd", _reduce),
    **_all("ReduceSum ReduceSumSquare", _reduce),
    **_all("ArgMax ArgMin", _arg),
    **_all("CastLike Clip PRelu", _same),
    **_all("GRU LSTM RNN", _recurrent),
    **_all("AveragePool LpPool MaxPool", _pool),
    **_all("GlobalAveragePool GlobalLpPool GlobalMaxPool", _global_pool),
    **_all("Resize Upsample", _resize),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _as_input(1),
    "GatherND": _gather_nd,
    "Gemm": _gemm,
    "GridSample": _grid_sample,
    "MatMul": _matmul,
    "NonMaxSuppression": _non_max_suppression,
    "NonZero": _non_zero,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "RoiAlign": _roi_align,
    "Shape": _extents,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
