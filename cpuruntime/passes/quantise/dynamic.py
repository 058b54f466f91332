"""Products of bytes of which the scale and the zero point are computed -> QuantisedMatMul with a result in float32."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from cpuruntime.graph import Node, Type, Value
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import internal, is_onnx, no_activation
from cpuruntime.passes.quantise.scales import BYTES, MOST
from cpuruntime.passes.quantise.sums import constant_row


@sweep
def run(editor: Editor, node: Node) -> None:
    """MatMulInteger with constant weights, Cast to float32, Mul by a scale, Add of a row: as dynamically quantised
    models have it."""
    values = (*node.inputs, *node.outputs)
    if not is_onnx(node, "MatMulInteger") or not all(value is None or value.is_static for value in values):
        return
    a, b, a_zero, b_zero, output = node.require(0), node.require(1), node.input(2), node.input(3), node.outputs[0]
    cast = editor.sole_user(output)
    if a.constant is not None or b.constant is None or cast is None or not is_onnx(cast, "Cast"):
        return
    zeros = _zeros(b_zero, b.static_shape[-1])
    if zeros is None or cast.outputs[0].element_type is not Type.f32 or not _fits(a, b, a_zero, zeros):
        return
    scale, nodes = _scale(editor, cast, b.static_shape[1]), [node, cast]
    nodes += scale.nodes
    user = editor.sole_user(nodes[-1].outputs[0])
    bias = None
    if is_onnx(user, "Add") and user.outputs[0].shape == output.shape:
        bias = constant_row(user.inputs[user.inputs[0] is nodes[-1].outputs[0]], b.static_shape[1])
        nodes += [user] if bias is not None else []
    attributes = {"a_zero": 0, "b_zero": [int(zero) for zero in zeros] if zeros.any() else [], **no_activation()}
    if a_zero is not None and a_zero.constant is not None:
        attributes["a_zero"], a_zero = int(a_zero.constant.reshape(())), None
    inputs = [
        a,
        editor.constant(f"{node.name}/weights", np.ascontiguousarray(np.asarray(b.data))),
        editor.constant(f"{node.name}/multiplier", scale.multiplier),
        None if bias is None else editor.constant(f"{node.name}/bias", bias),
        scale.of_rows,
        a_zero,
    ]
    for each in nodes[:-1]:
        editor.remove(each)
    made = internal("QuantisedMatMul", node, inputs, nodes[-1].outputs, attributes, merged=nodes)
    editor.replace(nodes[-1], made)


class _Scale(NamedTuple):
    """What the sums are multiplied with: a constant, scalar or a row, and a computed scalar; by which nodes."""

    multiplier: np.ndarray
    of_rows: Value | None
    nodes: list[Node]


def _scale(editor: Editor, cast: Node, columns: int) -> _Scale:
    user = editor.sole_user(cast.outputs[0])
    plain = _Scale(np.ones((), np.float32), None, [])
    if user is None or not is_onnx(user, "Mul") or user.outputs[0].shape != cast.outputs[0].shape:
        return plain
    factor = user.require(1 if user.inputs[0] is cast.outputs[0] else 0)
    row = constant_row(factor, columns)
    if row is not None:
        return _Scale(row, None, [user])
    maker = factor.producer
    if maker is not None and is_onnx(maker, "Mul"):
        for one, other in (maker.inputs, maker.inputs[::-1]):
            row = constant_row(other, columns)
            if row is not None and one is not None and one.constant is None and prod(one.static_shape) == 1:
                return _Scale(row, one, [user])
    return _Scale(plain.multiplier, factor, [user]) if prod(factor.static_shape) == 1 else plain


def _zeros(value: Value | None, columns: int) -> np.ndarray | None:
    """The zero points of weights, one or one for each column; None where they are computed."""
    if value is None:
        return np.zeros(1, np.int64)
    if value.constant is None or value.constant.size not in (1, columns):
        return None
    return np.asarray(value.constant.reshape(-1), np.int64)


def _fits(a: Value, b: Value, a_zero: Value | None, zeros: np.ndarray) -> bool:
    """Whether the shapes and types are those of rows of bytes and a matrix, of which no sum leaves 32 bits."""
    if not {a.element_type, b.element_type} <= {*BYTES} or len(a.static_shape) < 2 or b.data.ndim != 2:
        return False
    if a.static_shape[-1] != b.static_shape[0] or 0 in (*a.static_shape, *b.static_shape):
        return False
    if a_zero is not None and prod(a_zero.static_shape) != 1:
        return False
    weights = np.asarray(b.data).astype(np.int64) - zeros
    return int(np.abs(weights).sum(0).max()) * 255 <= MOST
