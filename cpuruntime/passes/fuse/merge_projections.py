"""Projections of the same rows to queries, keys and values become one product."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Compressed, Node, Value, joined
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import internal, is_internal

_OPERANDS = (("query", "queries", "depth"), ("key", "keys", "depth"), ("value", "keys", "width"))


@sweep
def run(editor: Editor, attention: Node) -> None:
    """FullyConnecteds with one input, read by nothing but one Attention -> one, that Attention reads by strides."""
    if not is_internal(attention, "Attention"):
        return
    makers = [_projection(editor, value, attention) for value in attention.inputs[:3]]
    groups: dict[Value, list[int]] = {}
    for index, maker in enumerate(makers):
        if maker is not None and _rows_stay_apart(attention, index):
            groups.setdefault(maker.inputs[0], []).append(index)
    for indices in groups.values():
        chosen = [makers[index] for index in indices]
        if len(chosen) > 1:
            _join(editor, attention, indices, [maker for maker in chosen if maker is not None])


def _projection(editor: Editor, value: Value, attention: Node) -> Node | None:
    """The product that makes `value` for the attention alone."""
    maker = value.producer
    if not is_internal(maker, "FullyConnected") or editor.sole_user(value) is not attention:
        return None
    _, weights, bias, residual = maker.inputs
    if residual is not None or maker.attributes["activation"] or weights.constant is None:
        return None
    return maker if bias is None or bias.constant is not None else None


def _rows_stay_apart(attention: Node, index: int) -> bool:
    """Whether every step of the operand is so many rows and so many columns, and never passes the end of a row."""
    name, rows, columns = _OPERANDS[index]
    a, width = attention.attributes, attention.inputs[index].static_shape[-1]
    offset, *strides = a[name]
    extents = (a["batch"], a["heads"], a[rows], a[columns])
    return offset % width + sum((n - 1) * (s % width) for n, s in zip(extents, strides)) < width


def _join(editor: Editor, attention: Node, indices: list[int], makers: list[Node]) -> None:
    x = makers[0].inputs[0]
    widths = [maker.outputs[0].static_shape[-1] for maker in makers]
    total = sum(widths)
    name = makers[0].name
    matrices = [maker.inputs[1].constant for maker in makers]
    weights = editor.constant(f"{name}/joined", Compressed.joined(matrices) or joined(matrices, 1))
    bias = editor.constant(f"{name}/joined_bias", np.concatenate([_bias(maker) for maker in makers]))
    made = editor.value(f"{name}/joined", x.element_type, (*makers[0].outputs[0].static_shape[:-1], total))
    attributes = makers[0].attributes
    product = internal("FullyConnected", makers[0], [x, weights, bias, None], [made], attributes, makers)
    start = 0
    for index, width in zip(indices, widths):
        operand = _OPERANDS[index][0]
        numbers = [number // width * total + number % width for number in attention.attributes[operand]]
        numbers[0] += start
        attention.attributes[operand] = numbers
        editor.set_input(attention, index, made)
        start += width
    editor.replace(makers[0], product)
    for maker in makers[1:]:
        editor.remove(maker)


def _bias(maker: Node) -> np.ndarray:
    bias, columns = maker.inputs[2], maker.inputs[1].static_shape[1]
    return np.zeros(columns, np.float32) if bias is None else np.broadcast_to(bias.constant, (columns,))
