"""Layer normalisation and its variant by the root mean square: ONNX's operators and their spellings by simpler ones."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from cpuruntime.graph import Graph, Node, Value
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import all_f32, internal, is_internal, is_onnx, scalar


def run(graph: Graph) -> bool:
    """LayerNormalization, RMSNormalization, (x - mean) / sqrt(mean square + epsilon) and the same without the mean ->
    LayerNorm, RmsNorm; then the constant factor and summand that follow go into them."""
    editor = Editor(graph)
    for node in editor.nodes():
        if is_onnx(node, "LayerNormalization", "RMSNormalization"):
            _operator(editor, node)
        elif is_onnx(node, "Div", "Mul") and all_f32(*node.inputs):
            _quotient(editor, node)
    changed = editor.finish()
    return _take_parameters(graph) or changed


@sweep
def _take_parameters(editor: Editor, node: Node) -> None:
    if is_internal(node, "LayerNorm", "RmsNorm"):
        _take_parameter(editor, node, "Mul", 1)
        _take_parameter(editor, node, "Add", 2)


def _operator(editor: Editor, node: Node) -> None:
    x = node.inputs[0]
    if not x.is_static or not all_f32(*node.inputs) or any(output.name for output in node.outputs[1:]):
        return
    axis = node.attributes.get("axis", -1) % len(x.static_shape)
    parameters = [node.inputs[1], node.input(2)]
    if any(value is not None and not _fits(value, x.static_shape[axis:]) for value in parameters):
        return
    attributes = {"axis": axis, "epsilon": node.attributes.get("epsilon", 1e-5)}
    op_type = "LayerNorm" if node.op_type == "LayerNormalization" else "RmsNorm"
    editor.replace(node, internal(op_type, node, [x, *parameters], node.outputs[:1], attributes))


def _fits(value: Value, extents: tuple[int, ...]) -> bool:
    """Whether `value` has an element for each of `extents`, and does not vary along other axes."""
    if not value.is_static or len(value.static_shape) < len(extents) or prod(value.static_shape) != prod(extents):
        return False
    return value.static_shape[len(value.static_shape) - len(extents) :] == extents


class _Root(NamedTuple):
    """sqrt(mean(square(of)) + epsilon) over the axes from `axis` on, or one divided by that."""

    of: Value
    axis: int
    epsilon: float
    nodes: list[Node]


def _quotient(editor: Editor, node: Node) -> None:
    left, right = node.inputs
    for numerator, other in ((left, right), (right, left))[: 2 if node.op_type == "Mul" else 1]:
        root = _denominator(other) if node.op_type == "Div" else _reciprocal(other)
        if root is None or not numerator.is_static or numerator.shape != node.outputs[0].shape:
            continue
        x, centered = _without_mean(numerator, root.axis), _without_mean(root.of, root.axis)
        is_layer = x is not None and x is centered
        if is_layer or numerator is root.of:
            op_type, inputs = ("LayerNorm", [x, None, None]) if is_layer else ("RmsNorm", [numerator, None, None])
            attributes = {"axis": root.axis, "epsilon": root.epsilon}
            editor.replace(node, internal(op_type, node, inputs, node.outputs, attributes, (*root.nodes, node)))
            return


def _reciprocal(value: Value) -> _Root | None:
    """1 / sqrt(...) in its spellings."""
    node = value.producer
    if is_onnx(node, "Reciprocal"):
        root = _denominator(node.inputs[0])
    elif is_onnx(node, "Div") and scalar(node.inputs[0]) == 1:
        root = _denominator(node.inputs[1])
    elif is_onnx(node, "Pow") and scalar(node.inputs[1]) == -0.5:
        root = _mean_square(node.inputs[0])
    else:
        return None
    if root is not None:
        root.nodes.append(node)
    return root


def _denominator(value: Value) -> _Root | None:
    node = value.producer
    if is_onnx(node, "Sqrt") or (is_onnx(node, "Pow") and scalar(node.inputs[1]) == 0.5):
        root = _mean_square(node.inputs[0])
        if root is not None:
            root.nodes.append(node)
        return root
    return None


def _mean_square(value: Value) -> _Root | None:
    """mean(of * of) + epsilon."""
    add = value.producer
    if not is_onnx(add, "Add"):
        return None
    for mean, other in zip(add.inputs, add.inputs[::-1]):
        epsilon, axis = scalar(other), _mean_axis(mean)
        if epsilon is None or axis is None:
            continue
        square = mean.producer.inputs[0].producer
        is_power = is_onnx(square, "Pow") and scalar(square.inputs[1]) == 2
        if is_power or (is_onnx(square, "Mul") and square.inputs[0] is square.inputs[1]):
            return _Root(square.inputs[0], axis, epsilon, [square, mean.producer, add])
    return None


def _mean_axis(value: Value) -> int | None:
    """The first of the trailing axes whose mean `value` is, extents kept; None when it is no such mean."""
    node = value.producer
    if not is_onnx(node, "ReduceMean") or not node.attributes.get("keepdims", 1):
        return None
    x, axes = node.inputs[0], node.input(1)
    if not x.is_static or axes is None or axes.constant is None or not axes.constant.size:
        return None
    rank = len(x.static_shape)
    reduced = sorted(int(axis) % rank for axis in axes.constant.reshape(-1))
    return reduced[0] if reduced == list(range(reduced[0], rank)) else None


def _without_mean(value: Value, axis: int) -> Value | None:
    """x when `value` is x minus its mean over the axes from `axis` on."""
    node = value.producer
    if not is_onnx(node, "Sub") or _mean_axis(node.inputs[1]) != axis:
        return None
    return node.inputs[0] if node.inputs[1].producer.inputs[0] is node.inputs[0] else None


def _take_parameter(editor: Editor, norm: Node, op_type: str, index: int) -> None:
    """Moves the constant factor or summand of the only reader of `norm` into `norm`."""
    x, user = norm.inputs[0], editor.sole_user(norm.outputs[0])
    if not is_onnx(user, op_type) or norm.inputs[index] is not None or (index == 1 and norm.inputs[2] is not None):
        return
    other = user.inputs[1] if user.inputs[0] is norm.outputs[0] else user.inputs[0]
    extents = x.static_shape[norm.attributes["axis"] :]
    if other.constant is None or user.outputs[0].shape != x.shape or not _fits(other, extents):
        return
    editor.set_input(norm, index, other)
    editor.take_output(norm, user)
