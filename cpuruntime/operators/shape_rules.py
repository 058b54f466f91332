"""Shapes of results where some extents are `Size`s: rules that mirror ONNX's own shape inference, one an operator.

ONNX's inference takes plain numbers only. A node whose operator has no rule here is inferred by it, which guards all
the extents that it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from cpuruntime.errors import ModelError
from cpuruntime.graph import Extent, Node, Size, alike
from cpuruntime.operators import movement_shapes, sampling_shapes
from cpuruntime.operators.rule_inputs import Known, Rule, Shape, axes_of, axis_of, check, numbers_of, shape_of
from cpuruntime.operators.traits import traits_of


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
        extents = [shape[-index] for shape in shapes if len(shape) >= index and not alike(shape[-index], 1)]
        extent: Extent = extents[0] if extents else 1
        if not all(alike(other, extent) for other in extents):
            extents = [other for other in extents if other != 1]
            extent = extents[-1] if extents else 1
            if any(other != extent for other in extents):
                raise ValueError(f"shapes {', '.join(str(list(map(str, shape))) for shape in shapes)} do not broadcast")
        result.append(extent)
    return tuple(reversed(result))


def broadcast_inputs(node: Node, known: Known) -> list[Shape]:
    """Elementwise operators."""
    shapes = [value.static_shape for value in node.inputs if value is not None]
    try:
        return [broadcast(*shapes)] * len(node.outputs)
    except ValueError as error:
        raise ModelError(f"{node.where}: {error}.") from None


def _same(node: Node, known: Known) -> list[Shape]:
    return [shape_of(node)] * len(node.outputs)


def _first_only(node: Node, known: Known) -> list[Shape] | None:
    return [shape_of(node)] if len(node.outputs) == 1 else None


def _matmul(node: Node, known: Known) -> list[Shape]:
    a, b = shape_of(node, 0), shape_of(node, 1)
    left, right = a if len(a) > 1 else (1, *a), b if len(b) > 1 else (*b, 1)
    check(node, left[-1] == right[-2], f"{left[-1]} columns times {right[-2]} rows")
    try:
        batches = broadcast(left[:-2], right[:-2])
    except ValueError as error:
        raise ModelError(f"{node.where}: {error}.") from None
    return [(*batches, *left[-2:-1][: len(a) - 1], *right[-1:][: len(b) - 1])]


def _gemm(node: Node, known: Known) -> list[Shape] | None:
    a, b = shape_of(node, 0), shape_of(node, 1)
    if len(a) != 2 or len(b) != 2:
        return None
    a = a[::-1] if node.attributes.get("transA", 0) else a
    b = b[::-1] if node.attributes.get("transB", 0) else b
    check(node, a[1] == b[0], f"{a[1]} columns times {b[0]} rows")
    return [(a[0], b[1])]


def _as_input(index: int) -> Rule:
    return lambda node, known: [shape_of(node, index)]


def _expand(node: Node, known: Known) -> list[Shape] | None:
    target = numbers_of(known, 1)
    if target is None or None in target:
        return None
    try:
        return [broadcast(shape_of(node), target)]
    except ValueError as error:
        raise ModelError(f"{node.where}: {error}.") from None


def _reduce(node: Node, known: Known) -> list[Shape] | None:
    shape = shape_of(node)
    axes = axes_of(node, known, len(shape))
    if axes is None:
        return None
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return [shape]
    reduced = set(axes or range(len(shape)))
    if node.attributes.get("keepdims", 1):
        return [tuple(1 if axis in reduced else extent for axis, extent in enumerate(shape))]
    return [tuple(extent for axis, extent in enumerate(shape) if axis not in reduced)]


def _arg(node: Node, known: Known) -> list[Shape]:
    shape, axis = shape_of(node), axis_of(node, len(shape_of(node)))
    return [(*shape[:axis], *((1,) if node.attributes.get("keepdims", 1) else ()), *shape[axis + 1 :])]


def _extents(node: Node, known: Known) -> list[Shape]:
    rank = len(shape_of(node))
    return [(len(range(rank)[node.attributes.get("start", 0) : node.attributes.get("end")]),)]


def _constant_of_shape(node: Node, known: Known) -> list[Shape] | None:
    target = numbers_of(known, 0)
    return None if target is None or None in target else [tuple(target)]


def _range(node: Node, known: Known) -> list[Shape] | None:
    bounds = [numbers_of(known, index) for index in range(3)]
    if any(bound is None for bound in bounds):
        return None
    start, end, step = (bound[0] for bound in bounds if bound)
    if any(isinstance(number, float) for number in (start, end, step)) or isinstance(step, Size) or step == 0:
        return None
    count = -(-(end - start) // step) if step > 0 else -(-(start - end) // -step)
    return [(count if count > 0 else 0,)]


def _top_k(node: Node, known: Known) -> list[Shape] | None:
    shape, count = shape_of(node), numbers_of(known, 1)
    axis = axis_of(node, len(shape), -1)
    count = count if node.input(1) is not None else [node.attributes.get("k")]
    if count is None or None in count:
        return None
    return [(*shape[:axis], count[0], *shape[axis + 1 :])] * 2


def _one_hot(node: Node, known: Known) -> list[Shape] | None:
    shape, depth = shape_of(node), numbers_of(known, 1)
    if not depth or depth[0] is None or isinstance(depth[0], float):
        return None
    axis = int(node.attributes.get("axis", -1)) % (len(shape) + 1)
    return [(*shape[:axis], depth[0], *shape[axis:])]


def _non_zero(node: Node, known: Known) -> list[Shape]:
    return [(max(len(shape_of(node)), 1), None)]


def _compress(node: Node, known: Known) -> list[Shape]:
    shape, axis = shape_of(node), node.attributes.get("axis")
    return [(None,)] if axis is None else [tuple(None if i == axis % len(shape) else e for i, e in enumerate(shape))]


def _unique(node: Node, known: Known) -> list[Shape]:
    shape, axis = shape_of(node), node.attributes.get("axis")
    whole = (None,) if axis is None else tuple(None if i == axis % len(shape) else e for i, e in enumerate(shape))
    inverse = (prod(shape) if axis is None else shape[axis],)
    return [whole, (None,), inverse, (None,)][: len(node.outputs)]


def _non_max_suppression(node: Node, known: Known) -> list[Shape]:
    return [(None, 3)]


def _recurrent(node: Node, known: Known) -> list[Shape]:
    x, hidden = shape_of(node), int(node.attributes.get("hidden_size") or shape_of(node, 2)[-1])
    directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
    batch_first = node.attributes.get("layout", 0)
    steps, batch = (x[1], x[0]) if batch_first else (x[0], x[1])
    last: Shape = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
    whole: Shape = (batch, steps, directions, hidden) if batch_first else (steps, directions, batch, hidden)
    return [whole, last, last][: len(node.outputs)]


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
    **_all("AveragePool LpPool MaxPool", sampling_shapes.pool),
    **_all("GlobalAveragePool GlobalLpPool GlobalMaxPool", sampling_shapes.global_pool),
    **_all("Resize Upsample", sampling_shapes.resize),
    "Compress": _compress,
    "Concat": movement_shapes.concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": sampling_shapes.convolution,
    "ConvTranspose": sampling_shapes.transposed_convolution,
    "DepthToSpace": movement_shapes.depth_to_space,
    "Expand": _expand,
    "Flatten": movement_shapes.flatten,
    "Gather": movement_shapes.gather,
    "GatherElements": _as_input(1),
    "GatherND": movement_shapes.gather_nd,
    "Gemm": _gemm,
    "GridSample": sampling_shapes.grid_sample,
    "MatMul": _matmul,
    "NonMaxSuppression": _non_max_suppression,
    "NonZero": _non_zero,
    "OneHot": _one_hot,
    "Pad": movement_shapes.pad,
    "Range": _range,
    "Reshape": movement_shapes.reshape,
    "RoiAlign": sampling_shapes.roi_align,
    "Shape": _extents,
    "Slice": movement_shapes.slice_axes,
    "SpaceToDepth": movement_shapes.space_to_depth,
    "Split": movement_shapes.split,
    "Squeeze": movement_shapes.squeeze,
    "Tile": movement_shapes.tile,
    "TopK": _top_k,
    "Transpose": movement_shapes.transpose,
    "Unique": _unique,
    "Unsqueeze": movement_shapes.unsqueeze,
}
