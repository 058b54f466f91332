"""Operators that compute with float16 or bfloat16 compute with float32, between conversions."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.operators.traits import TRAITS
from cpuruntime.passes.editor import Editor

_HALVES = (Type.f16, Type.bf16)
_MOVING = {"Cast", "CastLike", "Identity", "Where"}
_COMPUTING = {op for op, row in TRAITS[""].items() if row.elementwise} - _MOVING
_COMPUTING |= {
    *("ArgMax", "ArgMin", "CumSum", "DequantizeLinear", "Einsum", "Gemm", "Hardmax", "LogSoftmax", "MatMul", "Softmax"),
    *("QuantizeLinear", "Resize", "RoiAlign", "RotaryEmbedding", "SwiGLU", "TopK", "Attention", "Det", "GridSample"),
    *("AveragePool", "Conv", "ConvTranspose", "GRU", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LSTM"),
    *("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LRN", "LayerNormalization", "LpPool"),
    *("LpNormalization", "MaxPool", "MeanVarianceNormalization", "RMSNormalization", "RNN", "ReduceL1", "ReduceL2"),
    *("ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"),
    *("ReduceSumSquare", "Col2Im", "CumProd", "DFT", "DeformConv", "MaxRoiPool", "STFT"),
}


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
    inputs, outputs = list(node.inputs), list(node.outputs)
    for index, value in enumerate(inputs):
        if value is None or not _is_half(value):
            continue
        if value not in wide and value.constant is not None:
            wide[value] = editor.constant(f"{value.name}/f32", np.asarray(value.constant, np.float32))
        elif value not in wide:
            wide[value] = editor.value(f"{value.name}/f32", Type.f32, value.shape)
            before.append(_cast(node, value, wide[value]))
        inputs[index] = wide[value]
    for index, value in enumerate(outputs):
        if value.name and _is_half(value):
            wide[value] = outputs[index] = editor.value(f"{value.name}/f32", Type.f32, value.shape)
            after.append(_cast(node, wide[value], value))
    computed = Node(node.op_type, node.name, inputs, outputs, node.attributes, "", node.version, node.origins)
    editor.replace(node, *before, computed, *after)


def _cast(node: Node, source: Value, target: Value) -> Node:
    to = {"to": target.element_type.to_onnx()}
    return Node("Cast", f"{target.name}/cast", [source], [target], to, "", 13, node.origins)
