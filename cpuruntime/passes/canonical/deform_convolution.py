"""DeformConv becomes the elements under each window, as columns, times the weights."""

from __future__ import annotations

from math import prod

from cpuruntime.graph import Node, Value
from cpuruntime.passes.canonical import window
from cpuruntime.passes.canonical.compositions import Writer
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import all_f32, is_onnx


@sweep
def run(editor: Editor, node: Node) -> None:
    """DeformConv of images of f32 whose shapes are static and fit each other."""
    if not is_onnx(node, "DeformConv") or not all_f32(*node.inputs, *node.outputs):
        return
    if all(value is None or value.is_static for value in (*node.inputs, *node.outputs)):
        with Writer(editor, node) as write:
            _columns_and_product(write, *(node.input(index) for index in range(5)))


def _columns_and_product(
    write: Writer, x: Value, weights: Value, offsets: Value, bias: Value | None, mask: Value | None
) -> None:
    node = write.node
    group, shifts = node.attributes.get("group", 1), node.attributes.get("offset_group", 1)
    if len(x.static_shape) != 4 or len(weights.static_shape) != 4:
        return
    (batch, channels, *extents), (outputs, inputs, *kernel) = x.static_shape, weights.static_shape
    found = window.resolve(node, kernel)
    size, result = prod(kernel), node.outputs[0].static_shape
    counts = tuple(found.output_extent(axis, extent) for axis, extent in enumerate(extents)) if found else ()
    fits = inputs * group == channels and outputs % group == 0 and channels % shifts == 0
    fits = fits and offsets.static_shape == (batch, shifts * size * 2, *counts) and result == (batch, outputs, *counts)
    if not fits or (mask is not None and mask.static_shape != (batch, shifts * size, *counts)):
        return
    places, terms = prod(counts), inputs * size
    columns = write.internal(
        "DeformColumns", x, offsets, mask, shape=(batch, group, terms, places),
        attributes=found.attributes() | {"groups": shifts},
    )  # fmt: skip
    rows = write.internal("Reshape", weights, shape=(1, group, outputs // group, terms))
    product = write("MatMul", rows, columns, shape=(batch, group, outputs // group, places))
    y = write.internal("Reshape", product, shape=result)
    if bias is not None:
        write("Add", y, write.internal("Reshape", bias, shape=(outputs, 1, 1)), shape=result)
