"""Which products of a quantised model saturate on processors without VNNI, in runtimes that add pairs in 16 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.quantize.editor import Editor, attribute, copied
from cpuruntime.quantize.weights import saturating_pairs

_FLOAT = {"Conv": 1, "Gemm": 1, "MatMul": 1}
_INTEGER = {"ConvInteger": 1, "MatMulInteger": 1, "QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}


@dataclass(frozen=True)
class Checked:
    """A layer with constant weights of 8 bits: how many of its pairs can saturate."""

    name: str
    op_type: str
    saturating: int
    pairs: int


def check(model: onnx.ModelProto) -> list[Checked]:
    """Every layer with constant weights of 8 bits. Raises InvalidArgumentError where there is none."""
    editor = Editor(copied(model))
    for node in editor.graph.node:
        value = attribute(node, "value") if node.op_type == "Constant" else None
        if isinstance(value, onnx.TensorProto):
            editor.arrays[node.output[0]] = onnx.numpy_helper.to_array(value)
    found = []
    for node in editor.graph.node:
        weight = _weight(editor, node)
        if weight is not None and weight.dtype in (np.int8, np.uint8):
            is_rows = "Conv" in node.op_type or attribute(node, "transB", 0)
            saturating, pairs = saturating_pairs(weight, 0 if is_rows else weight.ndim - 1)
            found.append(Checked(node.name or node.output[0], node.op_type, saturating, pairs))
    if not found:
        raise InvalidArgumentError(
            f"Model '{printable(model.graph.name)}' has no layer with constant weights of 8 bits to check."
        )
    return found


def lines(found: Sequence[Checked]) -> list[str]:
    """The result as text: the layers that can saturate, worst first, and a sentence."""
    risky = sorted((one for one in found if one.saturating), key=lambda one: -one.saturating / one.pairs)
    text = [f"{one.saturating / one.pairs:8.2%}  {one.saturating} of {one.pairs}  {one.op_type} {printable(one.name)}"
            for one in risky]  # fmt: skip
    whole, some = sum(one.pairs for one in found), sum(one.saturating for one in found)
    where = f"{some} of {whole} pairs of weights, in {len(risky)} of {len(found)} layers"
    text.append(
        f"{where}, can exceed 16 bits: without VNNI, runtimes that add products in pairs of 16 bits give other results "
        "there. This one does not."
    )
    return text


def _weight(editor: Editor, node: onnx.NodeProto) -> np.ndarray | None:
    index = _INTEGER.get(node.op_type)
    if index is not None:
        return editor.constant(node, index)
    if node.op_type not in _FLOAT or len(node.input) < 2:
        return None
    source = editor.producers.get(node.input[1])
    order = None
    if source is not None and source.op_type == "Transpose":
        order, source = attribute(source, "perm"), editor.producers.get(source.input[0])
    if source is None or source.op_type != "DequantizeLinear":
        return None
    weight = editor.arrays.get(source.input[0])
    return weight if weight is None or order is None else weight.transpose(order)
