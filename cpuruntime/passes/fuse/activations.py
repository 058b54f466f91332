"""Recognises activation functions that are spelled in simpler operators."""

from __future__ import annotations

from math import isclose

from cpuruntime.graph import Node, Value
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.fuse.products import Product
from cpuruntime.passes.operators import DOMAIN, all_f32, internal, is_onnx, merge_origins, scalar
from cpuruntime.passes.simplify.clamps import clip_bounds
from cpuruntime.records import record


@sweep
def run(editor: Editor, node: Node) -> None:
    """HardSigmoid, HardSwish, Mish and Silu from products; LeakyRelu from PRelu with one slope; Silu from Swish."""
    if not all_f32(*node.inputs):
        return
    if is_onnx(node, "Mul", "Div"):
        _product(editor, node)
    elif is_onnx(node, "PRelu"):
        _leaky(editor, node)
    elif is_onnx(node, "Swish") and node.attributes.get("alpha", 1.0) == 1.0:
        editor.replace(node, internal("Silu", node, node.inputs, node.outputs))


@record
class _Gate:
    """A value that is `number` times the function `kind` of `source`, spelled by `nodes`."""

    kind: str
    source: Value
    nodes: list[Node]
    number: float = 1.0


# Operator, domain and version of a gate times its own argument.
_GATED = {"Sigmoid": ("Silu", DOMAIN, 1), "HardSigmoid": ("HardSwish", "", 14), "Mish": ("Mish", "", 18)}


def _product(editor: Editor, node: Node) -> None:
    product = Product(editor, node)
    output = node.outputs[0]
    same = all(factor.shape == output.shape for factor in product.factors)
    if not output.is_static or len(product.factors) > 2 or not same:
        return
    for factor, other in zip(product.factors, product.factors[::-1]):
        gate = _gate(editor, factor)
        if gate is None or not isclose(product.number * gate.number, 1, rel_tol=1e-5):
            continue
        if other is gate.source:
            _replace(editor, product, gate, *_GATED[gate.kind])
            return
        if len(product.factors) == 1 and gate.number != 1:
            _replace(editor, product, gate, "HardSigmoid", "", 6, alpha=1 / 6, beta=0.5)
            return


def _gate(editor: Editor, value: Value) -> _Gate | None:
    node = value.producer
    if node is None or editor.sole_user(value) is None:
        return None
    source = node.inputs[0]
    if is_onnx(node, "Sigmoid"):
        return _Gate("Sigmoid", source, [node])
    if is_onnx(node, "HardSigmoid"):
        slope, offset = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
        is_usual = isclose(slope, 1 / 6, rel_tol=1e-5) and offset == 0.5
        return _Gate("HardSigmoid", source, [node]) if is_usual else None
    if editor.sole_user(source) is not node:
        return None
    inner = source.producer
    if is_onnx(node, "Tanh") and is_onnx(inner, "Softplus"):
        return _Gate("Mish", inner.inputs[0], [inner, node])
    if is_onnx(node, "Clip") and clip_bounds(node) == [0, 6] and is_onnx(inner, "Add"):
        for index in (0, 1):
            if scalar(inner.inputs[1 - index]) == 3 and inner.inputs[index].shape == value.shape:
                return _Gate("HardSigmoid", inner.inputs[index], [inner, node], 6.0)
    return None


def _replace(
    editor: Editor, product: Product, gate: _Gate, op_type: str, domain: str, version: int, **attributes: float
) -> None:
    root = product.nodes[0]
    origins = merge_origins(*gate.nodes, *reversed(product.nodes))
    node = Node(op_type, root.name, [gate.source], root.outputs, attributes, domain, version, origins)
    for inner in (*gate.nodes, *product.nodes[1:]):
        editor.remove(inner)
    editor.replace(root, node)


def _leaky(editor: Editor, node: Node) -> None:
    source, slope = node.inputs[0], scalar(node.inputs[1])
    if slope is not None and source.shape is not None and source.shape == node.outputs[0].shape:
        leaky = Node("LeakyRelu", node.name, [source], node.outputs, {"alpha": slope}, "", 16, node.origins)
        editor.replace(node, leaky)
