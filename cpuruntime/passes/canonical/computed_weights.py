"""Convolutions whose weights are computed while the model runs become matrix products."""

from __future__ import annotations

from math import prod

from cpuruntime.graph import Node, Type, Value
from cpuruntime.passes.canonical import window
from cpuruntime.passes.canonical.compositions import Writer
from cpuruntime.passes.canonical.transposed_convolution import padded_window
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import is_onnx

_TYPES = (Type.f32, Type.f64, Type.i32)
MOST_TAPS = 512  # kernel elements, each of which takes a copy of the input


@sweep
def run(editor: Editor, node: Node) -> None:
    """Conv and ConvTranspose of static shapes with computed weights or bias, of other types than f32, or transposed
    over three axes: the pixels under each element of the kernel, copied side by side, times the weights."""
    if not is_onnx(node, "Conv", "ConvTranspose"):
        return
    x, weights, bias = node.inputs[0], node.inputs[1], node.input(2)
    static = all(value is None or value.is_static for value in (*node.inputs, *node.outputs))
    if not static or x.element_type not in _TYPES or 0 in (*node.outputs[0].static_shape, *x.static_shape):
        return
    constant = weights.constant is not None and (bias is None or bias.constant is not None)
    transposed = node.op_type == "ConvTranspose"
    rank = len(x.static_shape) - 2
    if constant and x.element_type is Type.f32 and not (transposed and rank > 2):
        return
    if rank < 1 or len(weights.static_shape) != rank + 2 or prod(weights.static_shape[2:]) > MOST_TAPS:
        return
    with Writer(editor, node) as write:
        (_transposed if transposed else _convolution)(write, bias)


def _convolution(write: Writer, bias: Value | None) -> None:
    node, (x, weights) = write.node, write.node.inputs[:2]
    group, output = node.attributes.get("group", 1), node.outputs[0].static_shape
    found = window.resolve(node, list(weights.static_shape[2:]))
    channels, inputs = weights.static_shape[:2]
    batch, depth, *extents = x.static_shape
    if found is None or inputs * group != depth or channels % group:
        return
    if output != (batch, channels, *(found.output_extent(axis, extent) for axis, extent in enumerate(extents))):
        return
    x = _padded(write, x, found.pads)
    _product(write, x, weights, bias, found, group)


def _transposed(write: Writer, bias: Value | None) -> None:
    """An ordinary convolution of the input with zeros between its pixels by the mirrored kernel."""
    node, (x, weights) = write.node, write.node.inputs[:2]
    group, output = node.attributes.get("group", 1), node.outputs[0].static_shape
    kernel = weights.static_shape[2:]
    found = padded_window(node, list(kernel))
    inputs, outputs = weights.static_shape[:2]
    batch, depth = x.static_shape[:2]
    if found is None or inputs != depth or inputs % group or output[:2] != (batch, outputs * group):
        return
    for axis, stride in enumerate(found.strides):
        x = _spread(write, x, axis + 2, stride)
    reach = [dilation * (size - 1) for dilation, size in zip(found.dilations, kernel)]
    before = [size - pad for size, pad in zip(reach, found.pads)]
    after = [o + size - e - b for o, size, e, b in zip(output[2:], reach, x.static_shape[2:], before)]
    x = _padded(write, x, [*before, *after])
    rank, shape = len(kernel), (group, inputs // group, outputs, *kernel)
    weights = write.internal("Reshape", weights, shape=shape)
    swapped = (group, outputs, inputs // group, *kernel)
    weights = write("Transpose", weights, shape=swapped, perm=[0, 2, 1, *range(3, 3 + rank)])
    axes = list(range(3, 3 + rank))
    ends = write.constant([-(1 << 62)] * rank)
    weights = write(
        "Slice", weights, write.constant([-1] * rank), ends, write.constant(axes), write.constant([-1] * rank),
        shape=swapped,
    )  # fmt: skip
    weights = write.internal("Reshape", weights, shape=(group * outputs, inputs // group, *kernel))
    plain = window.Window(list(kernel), [1] * rank, found.dilations, [0] * (2 * rank))
    _product(write, x, weights, bias, plain, group)


def _padded(write: Writer, x: Value, pads: list[int]) -> Value:
    """Zeros around the spatial axes, or less of them where a number is negative."""
    if not any(pads):
        return x
    rank = len(pads) // 2
    shape = (*x.static_shape[:2], *(n + b + a for n, b, a in zip(x.static_shape[2:], pads[:rank], pads[rank:])))
    return write("Pad", x, write.constant([0, 0, *pads[:rank], 0, 0, *pads[rank:]]), shape=shape, mode="constant")


def _spread(write: Writer, x: Value, axis: int, stride: int) -> Value:
    """`stride` - 1 zeros between neighbours along an axis."""
    if stride == 1:
        return x
    front, extent, back = x.static_shape[:axis], x.static_shape[axis], x.static_shape[axis + 1 :]
    x = write.internal("Reshape", x, shape=(*front, extent, 1, *back))
    rank = len(x.static_shape)
    pads = [0] * (2 * rank)
    pads[rank + axis + 1] = stride - 1
    x = write("Pad", x, write.constant(pads), shape=(*front, extent, stride, *back), mode="constant")
    x = write.internal("Reshape", x, shape=(*front, extent * stride, *back))
    length = (extent - 1) * stride + 1
    ends, axes = write.constant([length]), write.constant([axis])
    return write("Slice", x, write.constant([0]), ends, axes, write.constant([1]), shape=(*front, length, *back))


def _product(
    write: Writer, x: Value, weights: Value, bias: Value | None, found: window.Window, group: int
) -> None:  # fmt: skip
    """The convolution of an input that has its padding."""
    batch, channels, *extents = x.static_shape
    outputs, inputs, *kernel = weights.static_shape
    spatial = [(e - d * (k - 1) - 1) // s + 1 for e, d, k, s in zip(extents, found.dilations, kernel, found.strides)]
    axes, steps = write.constant(range(2, 2 + len(kernel))), write.constant(found.strides)
    taps, pixels = prod(kernel), prod(spatial)
    columns = []
    for number in range(taps):
        starts, rest = [], number
        for size, dilation in zip(reversed(kernel), reversed(found.dilations)):
            starts.insert(0, rest % size * dilation)
            rest //= size
        ends = [start + (extent - 1) * step + 1 for start, extent, step in zip(starts, spatial, found.strides)]
        part = write(
            "Slice", x, write.constant(starts), write.constant(ends), axes, steps, shape=(batch, channels, *spatial)
        )
        columns.append(write.internal("Reshape", part, shape=(batch, channels, 1, pixels)))
    together = columns[0]
    if taps > 1:
        together = write("Concat", *columns, shape=(batch, channels, taps, pixels), axis=2)
    right = write.internal("Reshape", together, shape=(batch, group, inputs * taps, pixels))
    left = write.internal("Reshape", weights, shape=(1, group, outputs // group, inputs * taps))
    result = write("MatMul", left, right, shape=(batch, group, outputs // group, pixels))
    if bias is not None:
        added = write.internal("Reshape", bias, shape=(1, group, outputs // group, 1))
        result = write("Add", result, added, shape=result.static_shape)
    write.internal("Reshape", result, shape=(batch, outputs, *spatial))
