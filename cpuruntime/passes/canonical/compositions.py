"""Operators that are compositions of simpler ones are written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, prod
from typing import Any, Self

import numpy as np

from cpuruntime.graph import Node, Type, Value
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import all_f32, internal, runs

VERSION = 18  # of the operators written
SMALLEST = 1.2e-38  # keeps rows of zeros, divided by their norm, zero
# Coordinates of a grid of points that are a constant, at most.
LARGEST_GRID = 1 << 22


@sweep
def run(editor: Editor, node: Node) -> None:
    """AffineGrid, CastLike, EyeLike, GlobalLpPool, Hardmax, IsInf, LpNormalization, MeanVarianceNormalization; Pow with
    an exponent of another type; Clip and Gemm of other types than f32, Clip by computed bounds, OneHot of other types
    than integers; ConvInteger and MatMulInteger; reductions over scattered axes; normalisation by computed parameters
    and of volumes."""
    write = _WRITTEN.get(node.op_type) if node.domain == "" else None
    if write is not None and node.inputs[0] is not None and node.inputs[0].is_static and node.outputs[0].is_static:
        with Writer(editor, node) as writer:
            write(writer)


class Writer:
    """Replaces one node, at the end of `with`, by those that calls have written; the last makes its output, unless
    `results` are given, in the order of its outputs."""

    def __init__(self, editor: Editor, node: Node) -> None:
        self.editor, self.node = editor, node
        self.results: Sequence[Value] = ()
        self._nodes: list[Node] = []

    def constant(self, data: Any, dtype: Any = np.int64) -> Value:
        """A new constant."""
        return self.editor.constant(f"{self.node.name}/constant", np.array(data, dtype))

    def __call__(
        self, op_type: str, *inputs: Value, shape: tuple[int, ...], type_: Type | None = None, **attributes: Any
    ) -> Value:
        """The result of a new node, of the type of its first input unless `type_` is given."""
        return self._write(Node(op_type, "", inputs, (), attributes, "", VERSION), type_, shape)

    def internal(
        self, op_type: str, *inputs: Value | None, shape: tuple[int, ...], attributes: dict[str, Any] | None = None
    ) -> Value:
        """The result of a new node of the passes' domain."""
        return self._write(internal(op_type, self.node, inputs, (), attributes), None, shape)

    def _write(self, node: Node, element_type: Type | None, shape: tuple[int, ...]) -> Value:
        kind = element_type or node.inputs[0].element_type
        output = self.editor.value(f"{self.node.name}/{node.op_type}", kind, shape)
        node.outputs, output.producer = [output], node
        node.name = f"{self.node.name}/{len(self._nodes)}" if self._nodes else self.node.name
        node.origins = list(self.node.origins)
        self._nodes.append(node)
        return output

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._nodes and kind is None:
            self._finish()

    def _finish(self) -> None:
        made = dict(zip(self.results or self._nodes[-1].outputs, self.node.outputs))
        for node in self._nodes:
            node.inputs = [made.get(value, value) for value in node.inputs]  # type: ignore[arg-type]
            node.outputs = [made.get(value, value) for value in node.outputs]
        self.editor.replace(self.node, *self._nodes)
        for output in self.node.outputs:
            output.producer = next((node for node in self._nodes if output in node.outputs), None)


def _reduced(shape: tuple[int, ...], axes: list[int]) -> tuple[int, ...]:
    return tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))


def _is_infinite(write: Writer) -> None:
    node = write.node
    x = node.inputs[0]
    shape = x.static_shape
    negative, positive = (node.attributes.get(f"detect_{sign}", 1) for sign in ("negative", "positive"))
    if not (negative or positive):
        write("Cast", write.constant(np.zeros(shape, np.uint8), np.uint8), shape=shape, type_=Type.boolean, to=9)
        return
    if negative and positive:
        x = write("Abs", x, shape=shape)
    infinity = write.constant(inf if positive else -inf, x.element_type.to_dtype())
    write("Equal", x, infinity, shape=shape, type_=Type.boolean)


def _affine_grid(write: Writer) -> None:
    """Coordinates of pixels between -1 and 1, and a 1 for the offset, times the transposed matrices."""
    node, theta = write.node, write.node.inputs[0]
    shape = node.outputs[0].static_shape
    if not all_f32(theta) or prod(shape[1:]) > LARGEST_GRID:
        return
    axes = []
    for extent in map(int, shape[1:-1]):
        ends = 1 - 1 / max(extent, 1) if not node.attributes.get("align_corners", 0) else float(extent > 1)
        axes.append(np.linspace(-ends, ends, extent))
    grid = np.meshgrid(*axes, indexing="ij")
    batch, rank = shape[0], shape[-1]
    homogeneous = np.stack([*reversed(grid), np.ones_like(grid[0])], -1)
    points = write.constant(homogeneous.reshape(-1, rank + 1), np.float32)
    turned = write("Transpose", theta, shape=(batch, rank + 1, rank), perm=[0, 2, 1])
    result = write("MatMul", points, turned, shape=(batch, prod(shape[1:-1]), rank))
    write.internal("Reshape", result, shape=shape)


def _lp_normalisation(write: Writer) -> None:
    node, x = write.node, write.node.inputs[0]
    shape = x.static_shape
    if not shape or not all_f32(x):
        return
    axis = node.attributes.get("axis", -1) % len(shape)
    reduce = "ReduceL1" if node.attributes.get("p", 2) == 1 else "ReduceL2"
    norm = write(reduce, x, write.constant([axis]), shape=_reduced(shape, [axis]), keepdims=1)
    norm = write("Max", norm, write.constant(SMALLEST, np.float32), shape=norm.static_shape)
    write("Div", x, norm, shape=shape)


def _mean_variance_normalisation(write: Writer) -> None:
    node, x = write.node, write.node.inputs[0]
    shape = x.static_shape
    axes = [axis % max(len(shape), 1) for axis in node.attributes.get("axes", [0, 2, 3])]
    if not all_f32(x) or max(axes) >= len(shape):
        return
    small, where = _reduced(shape, axes), write.constant(axes)
    moved = write("Sub", x, write("ReduceMean", x, where, shape=small, keepdims=1), shape=shape)
    square = write("Mul", moved, moved, shape=shape)
    deviation = write("Sqrt", write("ReduceMean", square, where, shape=small, keepdims=1), shape=small)
    write("Div", moved, write("Add", deviation, write.constant(1e-9, np.float32), shape=small), shape=shape)


def _hardmax(write: Writer) -> None:
    node, x = write.node, write.node.inputs[0]
    shape = x.static_shape
    axis = node.attributes.get("axis", -1 if node.version >= 13 else 1) % max(len(shape), 1)
    if not shape or 0 in shape or not all_f32(x) or (node.version < 13 and prod(shape[axis + 1 :]) != 1):
        return
    places = write("ArgMax", x, shape=shape[:axis] + shape[axis + 1 :], type_=Type.i64, axis=axis, keepdims=0)
    values = write.constant([0, 1], np.float32)
    write("OneHot", places, write.constant(shape[axis]), values, shape=shape, type_=Type.f32, axis=axis)


def _power(write: Writer) -> None:
    """A base of f32 with an exponent of that type; others of two types by a common one."""
    base, exponent = write.node.inputs
    shape, kind = write.node.outputs[0].static_shape, base.element_type
    if kind == exponent.element_type or not exponent.is_static:
        return
    common = kind if kind.is_real() else Type.f64 if exponent.element_type.is_real() else Type.i64
    result = write("Pow", _as_type(write, base, common), _as_type(write, exponent, common), shape=shape)
    if kind != common:
        write("Cast", result, shape=shape, type_=kind, to=kind.to_onnx())


def _as_type(write: Writer, value: Value, kind: Type) -> Value:
    if value.element_type == kind:
        return value
    if value.constant is not None:
        return write.constant(value.constant, kind.to_dtype())
    return write("Cast", value, shape=value.static_shape, type_=kind, to=kind.to_onnx())


def _clip(write: Writer) -> None:
    node, x = write.node, write.node.inputs[0]
    bounds = [(op, node.input(index)) for op, index in (("Max", 1), ("Min", 2)) if node.input(index) is not None]
    constant = all(bound is not None and bound.constant is not None for _, bound in bounds)
    if all_f32(x) and constant:
        return
    for op, bound in bounds:
        x = write(op, x, bound, shape=node.outputs[0].static_shape)
    if not bounds:
        write("Identity", x, shape=x.static_shape)


def _reduction(write: Writer) -> None:
    """Reduces more than two groups of neighbouring axes one group at a time, the last first; means of other types than
    f32 are sums by a count."""
    node, x = write.node, write.node.inputs[0]
    shape, given = x.static_shape, node.input(1)
    if given is None:
        axes = [] if node.attributes.get("noop_with_empty_axes", 0) else list(range(len(shape)))
    elif given.numbers is None:
        return
    else:
        axes = sorted({int(axis) % max(len(shape), 1) for axis in given.numbers})
    if node.op_type == "ReduceMean" and not all_f32(x) and axes:
        result = node.outputs[0].static_shape
        total = write("ReduceSum", x, write.constant(axes), shape=result, keepdims=node.attributes.get("keepdims", 1))
        count = prod(shape[axis] for axis in axes)
        write("Div", total, write.constant(count, x.element_type.to_dtype()), shape=result)
        return
    groups = runs(axes)
    if len(groups) <= 2:
        return
    for group in reversed(groups):
        shape = _reduced(shape, group)
        x = write(node.op_type, x, write.constant(group), shape=shape, keepdims=1)
    if not node.attributes.get("keepdims", 1):
        write("Squeeze", x, write.constant(axes), shape=node.outputs[0].static_shape)


def _normalised_volume(write: Writer) -> None:
    """Depth, height and width as the two axes of an image."""
    node, x = write.node, write.node.inputs[0]
    shape = x.static_shape
    if len(shape) != 5:
        return
    image = (*shape[:3], shape[3] * shape[4])
    result = write.internal("Reshape", x, shape=image)
    result = write(node.op_type, result, *node.inputs[1:], shape=image, **node.attributes)
    result.producer.version = node.version
    write.internal("Reshape", result, shape=shape)


def _batch_normalisation(write: Writer) -> None:
    """Computed parameters: (x - mean) * (scale / deviation) + shift."""
    node, x = write.node, write.node.inputs[0]
    if _are_constant(node.inputs[1:5]) or node.attributes.get("training_mode", 1) or not all_f32(*node.inputs):
        return
    scale, shift, mean, variance = (_for_channels(write, value, x) for value in node.inputs[1:5])
    small, shape = scale.static_shape, x.static_shape
    epsilon = write.constant(node.attributes.get("epsilon", 1e-5), np.float32)
    deviation = write("Sqrt", write("Add", variance, epsilon, shape=small), shape=small)
    moved = write("Sub", x, mean, shape=shape)
    scaled = write("Mul", moved, write("Div", scale, deviation, shape=small), shape=shape)
    write("Add", scaled, shift, shape=shape)


def _scaled_normalisation(write: Writer) -> None:
    """Instance and group normalisation by computed parameters: without them, then a product and a sum."""
    node, x = write.node, write.node.inputs[0]
    shape = x.static_shape
    if len(shape) == 5:
        _normalised_volume(write)
    if len(shape) not in (3, 4) or _are_constant(node.inputs[1:3]) or not all_f32(*node.inputs):
        return
    count = node.inputs[1].static_shape
    plain = [write.constant(np.full(count, number), np.float32) for number in (1, 0)]
    result = write(node.op_type, x, *plain, shape=shape, **node.attributes)
    result.producer.version = node.version
    scale, shift = (_for_channels(write, value, x) for value in node.inputs[1:3])
    write("Add", write("Mul", result, scale, shape=shape), shift, shape=shape)


def _are_constant(values: Sequence[Value | None]) -> bool:
    return all(value is None or value.constant is not None for value in values)


def _for_channels(write: Writer, value: Value, x: Value) -> Value:
    """Numbers of channels or of groups of channels, so that they broadcast to an image."""
    channels, rank = x.static_shape[1], len(x.static_shape)
    (count,) = value.static_shape
    if count != channels:
        value = write.internal("Reshape", value, shape=(count, 1))
        each = (count, channels // count)
        value = write("Expand", value, write.constant(each), shape=each)
    return write.internal("Reshape", value, shape=(channels, *[1] * (rank - 2)))


def _global_lp_pool(write: Writer) -> None:
    node, x = write.node, write.node.inputs[0]
    power = node.attributes.get("p", 2)
    axes = list(range(2, len(x.static_shape)))
    if not all_f32(x) or power not in (1, 2) or not axes:
        return
    shape = node.outputs[0].static_shape
    write("ReduceL1" if power == 1 else "ReduceL2", x, write.constant(axes), shape=shape, keepdims=1)


def _one_hot(write: Writer) -> None:
    """Indices of other types become int64."""
    node, (indices, depth, values) = write.node, write.node.inputs
    if indices.element_type in (Type.i32, Type.i64):
        return
    indices = _as_type(write, indices, Type.i64)
    output = node.outputs[0]
    write("OneHot", indices, depth, values, shape=output.static_shape, type_=output.element_type, **node.attributes)


def _eye_like(write: Writer) -> None:
    output = write.node.outputs[0]
    if len(output.static_shape) == 2 and output.element_type is not Type.dynamic:
        eye = np.eye(*output.static_shape, k=write.node.attributes.get("k", 0))
        write("Identity", write.constant(eye, output.element_type.to_dtype()), shape=output.static_shape)


def _general_product(write: Writer) -> None:
    """Other types than f32."""
    node, (a, b) = write.node, write.node.inputs[:2]
    kind, result = a.element_type, node.outputs[0].static_shape
    if kind is Type.f32 or len(a.static_shape) != 2 or len(b.static_shape) != 2:
        return
    a, b = (
        write("Transpose", x, shape=x.static_shape[::-1], perm=[1, 0]) if node.attributes.get(name, 0) else x
        for x, name in ((a, "transA"), (b, "transB"))
    )
    y = write("MatMul", a, b, shape=result)
    alpha, beta = (node.attributes.get(name, 1.0) for name in ("alpha", "beta"))
    if alpha != 1:
        y = write("Mul", y, write.constant(alpha, kind.to_dtype()), shape=result)
    addend = node.input(2)
    if addend is not None:
        if beta != 1:
            addend = write("Mul", addend, write.constant(beta, kind.to_dtype()), shape=addend.static_shape)
        write("Add", y, addend, shape=result)


def _whole_numbers(write: Writer) -> None:
    """Products and convolutions of bytes less their zero points are exact as those of int32."""
    node, product = write.node, write.node.op_type == "MatMulInteger"
    operands = []
    for index, value in enumerate(node.inputs[:2]):
        rank, zero = len(value.static_shape), node.input(index + 2)
        number = _as_type(write, value, Type.i32)
        if zero is not None:
            if not zero.is_static:
                return
            shift, axis = _as_type(write, zero, Type.i32), (rank - 2 if product else 0)
            count = prod(zero.static_shape)
            if count > 1 and len(zero.static_shape) == 1 and (index == 0 or not product):
                along = tuple(count if dimension == axis else 1 for dimension in range(rank))
                shift = write.internal("Reshape", shift, shape=along)
            number = write("Sub", number, shift, shape=value.static_shape)
        operands.append(number)
    shape = node.outputs[0].static_shape
    if product:
        write("MatMul", *operands, shape=shape)
    else:
        write("Conv", *operands, shape=shape, **node.attributes)


def _cast_like(write: Writer) -> None:
    x, like = write.node.inputs
    rules = {name: data for name, data in write.node.attributes.items() if name in ("saturate", "round_mode")}
    write("Cast", x, shape=x.static_shape, type_=like.element_type, to=like.element_type.to_onnx(), **rules)


# Reductions whose result is that of reducing the results of groups of axes.
_REPEATABLE = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
_WRITTEN: dict[str, Callable[[Writer], None]] = {
    "AffineGrid": _affine_grid,
    "BatchNormalization": _batch_normalisation,
    "CastLike": _cast_like,
    "ConvInteger": _whole_numbers,
    "Clip": _clip,
    "EyeLike": _eye_like,
    "Gemm": _general_product,
    "GlobalLpPool": _global_lp_pool,
    "GroupNormalization": _scaled_normalisation,
    "Hardmax": _hardmax,
    "InstanceNormalization": _scaled_normalisation,
    "IsInf": _is_infinite,
    "LpNormalization": _lp_normalisation,
    "MatMulInteger": _whole_numbers,
    "MeanVarianceNormalization": _mean_variance_normalisation,
    "OneHot": _one_hot,
    "Pow": _power,
    **dict.fromkeys(_REPEATABLE, _reduction),
}
