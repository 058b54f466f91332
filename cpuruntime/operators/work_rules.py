"""Multiply-adds of operators: rules that the rows of `traits` name, for nodes whose shapes are static."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from cpuruntime.graph import Node

Rule = Callable[[Node], int]


def _shape(node: Node, position: int) -> tuple[int, ...]:
    value = node.input(position)
    return () if value is None else value.static_shape


def convolution(weights: int = 1) -> Rule:
    """Each output element reads the kernel and the channels of its group: the weights, an input, are [out, in / group,
    ...]."""
    return lambda node: prod(node.outputs[0].static_shape) * prod(_shape(node, weights)[1:])


def transposed_convolution(node: Node) -> int:
    """Each input element is multiplied with the kernels of its channel: the weights are [in, out / group, ...]."""
    return prod(_shape(node, 0)) * prod(_shape(node, 1)[1:])


def internal_transposed_convolution(node: Node) -> int:
    """The operator that passes make: the weights are [out, in / group, ...]."""
    outputs, _, *kernel = _shape(node, 1)
    return prod(_shape(node, 0)) * outputs // node.attributes["group"] * prod(kernel)


def product(node: Node) -> int:
    """Each output element is the sum over a row of the first matrix."""
    return prod(node.outputs[0].static_shape) * (_shape(node, 0)[-1:] or (1,))[0]


def general_product(node: Node) -> int:
    """Gemm, whose first matrix may be transposed."""
    rows = _shape(node, 0)
    return prod(node.outputs[0].static_shape) * rows[0 if node.attributes.get("transA", 0) else -1]


def fully_connected(node: Node) -> int:
    """Each output element is the sum over a column of the weights [in, out]."""
    return prod(node.outputs[0].static_shape) * _shape(node, 1)[0]


def attention(node: Node) -> int:
    """Scores, and their product with the values; the attributes are those of the node that the passes make."""
    a = node.attributes
    products: int = a["batch"] * a["heads"] * a["queries"] * a["keys"] * (a["depth"] + a["width"])
    return products


def recurrent(node: Node) -> int:
    """Every step multiplies its row with both matrices; the input is [steps, batch, width] in either order."""
    return prod(_shape(node, 0)[:2]) * (prod(_shape(node, 1)) + prod(_shape(node, 2)))


def steps(node: Node) -> int:
    """The steps of a recurrent operator."""
    return _shape(node, 0)[1 if node.attributes.get("layout", 0) else 0]


def einsum(node: Node) -> int:
    """The product of the extents of all letters and of the axes that dots stand for, which are counted from the last
    one."""
    terms = node.attributes["equation"].replace(" ", "").partition("->")[0]
    extents: dict[str | int, int] = {}
    for position, term in enumerate(terms.split(",")):
        shape = _shape(node, position)
        before, dots, after = term.partition("...")
        hidden = range(len(before) + len(after) - len(shape), 0) if dots else ()
        for letter, extent in zip([*before, *hidden, *after], shape):
            extents[letter] = max(extents.get(letter, 1), extent)
    return prod(extents.values())
