"""What evaluating a node on arrays costs: an estimate from shapes, the same on every machine."""

from __future__ import annotations

from math import prod

from cpuruntime.graph import Node, Type
from cpuruntime.operators.traits import Traits, traits_of

# Nanoseconds, about: of an element by a loop in Python, of a pair of elements, of a step of a recurrent operator.
ELEMENT, PAIR, STEP = 2000, 10, 50_000
# Nanoseconds of a multiply-add in float32 or float64, and in other types.
FAST, SLOW = 1, 5


def evaluation_work(node: Node) -> int:
    """Nanoseconds that evaluating `node` takes, about; what is not static in its outputs counts as its inputs do."""
    row = traits_of(node)
    taken = sum(prod(value.static_shape) for value in node.inputs if value is not None)
    made = sum(prod(value.static_shape) for value in node.outputs if value.name and value.is_static)
    return _elements(row, taken, made) + _products(row, node) + _steps(row, node)


def _elements(row: Traits, taken: int, made: int) -> int:
    if row.cost is not None:
        return row.cost * (taken + made)
    elements = ELEMENT * (taken + made)
    return elements if row.multiply_adds is not None else elements + PAIR * taken * max(made, taken)


def _products(row: Traits, node: Node) -> int:
    if row.multiply_adds is None or not all(value.is_static for value in node.outputs if value.name):
        return 0
    fast = node.outputs[0].element_type in (Type.f32, Type.f64)
    return row.multiply_adds(node) * (FAST if fast else SLOW)


def _steps(row: Traits, node: Node) -> int:
    return 0 if row.weight_reads is None else STEP * row.weight_reads(node)
