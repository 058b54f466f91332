"""Recognises Gelu, exact or approximated by tanh or sigmoid, in its spellings by simpler operators."""

from __future__ import annotations

from math import isclose, pi, sqrt
from typing import Any, NamedTuple

from cpuruntime.graph import Node, Value
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.fuse.products import Product
from cpuruntime.passes.operators import all_f32, is_onnx, merge_origins, scalar

CUBIC = 0.044715


class _Gate(NamedTuple):
    """A value that is `number` times what Gelu or Swish multiplies `source` by."""

    source: Value
    op_type: str
    version: int
    attributes: dict[str, Any]
    number: float = 1.0


@sweep
def run(editor: Editor, node: Node) -> None:
    """x (1 + erf(x / sqrt(2))) / 2, x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 -> Gelu; x sigmoid(a x) -> Swish.

    Factors may stand in any order, and what is inside may be used elsewhere too.
    """
    if not is_onnx(node, "Mul", "Div") or not all_f32(*node.inputs):
        return
    product, output = Product(editor, node), node.outputs[0]
    if len(product.factors) != 2 or not output.is_static or product.number == 0:
        return
    for factor, other in zip(product.factors, product.factors[::-1]):
        gate = _gate(editor, factor)
        if gate is None or gate.source is not other or other.shape != output.shape:
            continue
        if isclose(product.number * gate.number, 1, rel_tol=1e-4):
            origins = merge_origins(*reversed(product.nodes))
            new = Node(gate.op_type, node.name, [other], [output], gate.attributes, "", gate.version, origins)
            editor.replace(node, new)
            return


def _gate(editor: Editor, value: Value) -> _Gate | None:
    node = value.producer
    if is_onnx(node, "Sigmoid"):
        argument = _argument(editor, node)
        if argument is not None and len(argument.factors) == 1 and argument.number not in (0, 1):
            return _Gate(argument.factors[0], "Swish", 24, {"alpha": argument.number})
        return None
    if not is_onnx(node, "Add"):
        return None
    for summand, number in _with_number(node):
        # 1 + f(x), or 0.5 + 0.5 f(x)
        inner = _factor_and_number(editor, summand)
        if inner is None or not isclose(inner[1], number, rel_tol=1e-5):
            continue
        function = inner[0].producer
        source, approximate = None, "none"
        if is_onnx(function, "Erf"):
            source = _erf_argument(editor, function)
        elif is_onnx(function, "Tanh"):
            source, approximate = _tanh_argument(editor, function), "tanh"
        if source is not None:
            # The product's number times 2 `number` must be 1.
            return _Gate(source, "Gelu", 20, {"approximate": approximate}, 2 * number)
    return None


def _with_number(node: Node) -> list[tuple[Value, float]]:
    """The operands of an Add or Mul whose other operand is a number, with that number."""
    pairs = zip(node.inputs, map(scalar, node.inputs[::-1]))
    return [(value, number) for value, number in pairs if number is not None]


def _argument(editor: Editor, node: Node) -> Product | None:
    """The argument of a function as a product; None when it is none."""
    inner = node.inputs[0].producer
    return Product(editor, inner) if is_onnx(inner, "Mul", "Div") else None


def _factor_and_number(editor: Editor, value: Value) -> tuple[Value, float] | None:
    """A value as a number times another value."""
    if not is_onnx(value.producer, "Mul", "Div"):
        return value, 1.0
    product = Product(editor, value.producer)
    return (product.factors[0], product.number) if len(product.factors) == 1 else None


def _erf_argument(editor: Editor, node: Node) -> Value | None:
    """x of erf(x / sqrt(2))."""
    argument = _argument(editor, node)
    if argument is None or len(argument.factors) != 1 or not isclose(argument.number, sqrt(0.5), rel_tol=1e-4):
        return None
    return argument.factors[0]


def _tanh_argument(editor: Editor, node: Node) -> Value | None:
    """x of tanh(sqrt(2 / pi) (x + 0.044715 x^3)), the sum possibly written as x (1 + 0.044715 x^2)."""
    argument = _argument(editor, node)
    if argument is None or not isclose(argument.number, sqrt(2 / pi), rel_tol=1e-4):
        return None
    if len(argument.factors) == 1 and is_onnx(argument.factors[0].producer, "Add"):
        summands = argument.factors[0].producer.inputs
        for x, cube in zip(summands, summands[::-1]):
            if _is_power(editor, cube, x, 3, CUBIC):
                return x
    if len(argument.factors) == 2:
        for x, total in zip(argument.factors, argument.factors[::-1]):
            if is_onnx(total.producer, "Add"):
                for square, number in _with_number(total.producer):
                    if number == 1 and _is_power(editor, square, x, 2, CUBIC):
                        return x
    return None


def _is_power(editor: Editor, value: Value, x: Value, exponent: int, factor: float) -> bool:
    """Whether `value` is `factor` times `x` to the power of `exponent`."""
    node = value.producer
    product = Product(editor, node) if is_onnx(node, "Mul", "Div") else None
    if product is None or not isclose(product.number, factor, rel_tol=1e-4):
        return False
    degree = 0
    for base in product.factors:
        inner = base.producer
        if base is x:
            degree += 1
        elif is_onnx(inner, "Pow") and inner.inputs[0] is x and scalar(inner.inputs[1]) in (2, 3):
            degree += int(scalar(inner.inputs[1]) or 0)
        elif is_onnx(inner, "Mul") and inner.inputs[0] is x and inner.inputs[1] is x:
            degree += 2
        else:
            return False
    return degree == exponent
