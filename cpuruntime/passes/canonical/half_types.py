"""Operators that compute with float16 or bfloat16 compute with float32, between conversions."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.operators.traits import TRAITS
from cpuruntime.passes.editor import Editor

_HALVES = (Type.f16, Type.bf16)
_MOVING = {"Cast", "CastLike", "Identity", "Where"}
_COMPUTING = {op for op, row in TRAITS[""].items() if row.elementwise} - _MOVING
_COMPUTING |= set(
    """ArgMax ArgMin Attention AveragePool BatchNormalization Conv ConvTranspose CumSum DequantizeLinear Det Einsum GRU
    Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample GroupNormalization Hardmax InstanceNormalization LRN
    LSTM LayerNormalization LogSoftmax LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization QuantizeLinear
    RMSNormalization RNN ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Resize RoiAlign RotaryEmbedding Softmax SwiGLU TopK""".split()
)


def run(graph: Graph) -> bool:
    """float16 and bfloat16 inputs and outputs of operators that compute are converted from and to float32. Between two
    of them the conversions cancel: their results are rounded to half types where others read them."""
    editor = Editor(graph)
    wide: dict[Value, Value] = {}
    for node in editor.nodes():
        values = [*node.inputs, *node.outputs]
        if node.domain == "" and node.op_type in _COMPUTING and any(map(_is_half, values)):
            _widen(editor, node, wide)
    return editor.finish()


def _is_half(value: Value | None) -> bool:
    return value is not None and value.element_type in _HALVES


def _widen(editor: Editor, node: Node, wide: dict[Value, Value]) -> None:
    before: list[Node] = []
    after: list[Node] = []
    for index, value in enumerate(node.inputs):
        if value is None or not _is_half(value):
            continue
        if value not in wide:
            if value.constant is not None:
                wide[value] = editor.constant(f"{value.name}/f32", np.asarray(value.constant, np.float32))
            else:
                wide[value] = editor.value(f"{value.name}/f32", Type.f32, value.shape)
                before.append(_cast(node, value, wide[value]))
        editor.set_input(node, index, wide[value])
    for index, value in enumerate(node.outputs):
        if value.name and _is_half(value):
            wide[value] = node.outputs[index] = editor.value(f"{value.name}/f32", Type.f32, value.shape)
            wide[value].producer = node
            after.append(_cast(node, wide[value], value))
    editor.replace(node, *before, node, *after)


def _cast(node: Node, source: Value, target: Value) -> Node:
    return Node("Cast", f"{target.name}/cast", [source], [target], {"to": target.element_type.to_onnx()}, "", 13, node.origins)
