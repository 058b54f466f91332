"""Products of bytes with constant bytes -> QuantisedMatMul."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Node
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import internal, is_onnx, no_activation
from cpuruntime.passes.quantise.scales import (
    BYTES,
    LARGEST,
    MOST,
    Bytes,
    Weights,
    Written,
    as_weights,
    is_usable,
    pair,
    read,
    weights,
    written,
)
from cpuruntime.passes.quantise.sums import Sums, constant_bias


@sweep
def run(editor: Editor, node: Node) -> None:
    """MatMul and Gemm between DequantizeLinear and QuantizeLinear, with a bias, Relu and Clip, and those with a result
    in float32; QLinearMatMul."""
    if not node.outputs or not all(value is None or value.is_static for value in (*node.inputs, *node.outputs)):
        return
    if is_onnx(node, "MatMul"):
        _product(editor, node)
    elif is_onnx(node, "Gemm"):
        _general(editor, node)
    elif is_onnx(node, "QLinearMatMul"):
        _whole(editor, node)


def _product(editor: Editor, node: Node) -> None:
    a, b = read(node.inputs[0]), weights(node.inputs[1], -1)
    both = read(node.inputs[1])
    if a is not None and both is not None:
        _of_both(editor, node, a, both)
    elif a is not None and b is not None:
        sums = Sums(node, a, b, None, 1)
        if _fits(sums):
            sums.add(editor)
            _replace(editor, sums)


def _of_both(editor: Editor, node: Node, a: Bytes, b: Bytes) -> None:
    """The product of two values that are computed."""
    largest = [max(zero - limits.min, limits.max - zero) for limits, zero in ((a.limits, a.zero), (b.limits, b.zero))]
    end = written(editor, node.outputs[0])
    multiplier = np.array(a.scale * b.scale / (1 if end is None else end.scale))
    x, y = a.value.static_shape, b.value.static_shape
    stacked = len(x) > 1 and x[:-2] == y[:-2] and x[-1] == y[-2] and 0 not in (*x, *y)
    if not stacked or not is_usable(multiplier) or x[-1] * largest[0] * largest[1] > MOST:
        return
    if end is not None and MOST * multiplier >= LARGEST:
        return
    attributes = {"a_zero": a.zero, "b_zero": [b.zero] if b.zero else []}
    attributes |= no_activation() if end is None else end.attributes()
    inputs = [a.value, b.value, editor.constant(f"{node.name}/multiplier", multiplier.astype(np.float32)), None]
    merged = [node, *(end.nodes if end is not None else [])]
    outputs = node.outputs if end is None else [end.output]
    made = internal("QuantisedMatMul", node, inputs, outputs, attributes, merged=merged)
    for each in merged[:-1]:
        editor.remove(each)
    editor.replace(merged[-1], made)


def _general(editor: Editor, node: Node) -> None:
    swapped, attributes, bias = node.attributes.get("transB", 0), node.attributes, node.input(2)
    a, b = read(node.inputs[0]), weights(node.inputs[1], 0 if swapped else 1)
    if a is None or b is None or attributes.get("transA", 0):
        return
    if swapped:
        b = Weights(b.array.T, b.scales, b.zeros)
    sums = Sums(node, a, b, None, 1, float(attributes.get("alpha", 1.0)))
    if not _fits(sums):
        return
    if bias is not None:
        sums.bias = constant_bias(bias, sums.scale)
        if sums.bias is None or attributes.get("beta", 1.0) != 1:
            return
    _replace(editor, sums)


def _whole(editor: Editor, node: Node) -> None:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = map(node.require, range(8))
    of_a, of_y, output = pair(a_scale, a_zero), pair(y_scale, y_zero), node.outputs[0]
    if of_a is None or of_y is None or any(each.constant is None for each in (b, b_scale, b_zero)) or b.data.ndim != 2:
        return
    found = as_weights(np.asarray(b.data), b_scale.data, b_zero.data, 1)
    if found is None or not {a.element_type, b.element_type, output.element_type} <= {*BYTES}:
        return
    limits = np.iinfo(output.element_type.to_dtype())
    end = Written([], output, *of_y, int(limits.min), int(limits.max))
    sums = Sums(node, Bytes(a, *of_a), found, None, 1)
    if a.constant is None and _fits(sums):
        _replace(editor, sums, end)


def _fits(sums: Sums) -> bool:
    """Whether the shapes are those of rows and a matrix, which nothing has checked where padding was cut off."""
    a, b, y = sums.x.value.static_shape, sums.weights.array, sums.node.outputs[0].static_shape
    return len(a) > 1 and b.ndim == 2 and a[-1] == b.shape[0] and y == (*a[:-1], b.shape[1]) and 0 not in (*a, *y)


def _replace(editor: Editor, sums: Sums, end: Written | None = None) -> None:
    zeros = sums.weights.zeros
    attributes = {"a_zero": sums.x.zero, "b_zero": [int(zero) for zero in zeros] if zeros.any() else []}
    constant = editor.constant(f"{sums.node.name}/weights", np.ascontiguousarray(sums.weights.array))
    sums.replace(editor, "QuantisedMatMul", [sums.x.value, constant], attributes, end)
