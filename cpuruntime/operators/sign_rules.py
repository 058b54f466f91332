"""Which operators give no negative number: rules that the rows of `traits` name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpuruntime.graph import Node

Rule = Callable[[Node, Sequence[bool]], bool]
"""Whether no element of the outputs is negative, given for which inputs that is so."""


def never(node: Node, given: Sequence[bool]) -> bool:
    """No result is negative, whatever the inputs are."""
    return True


def as_first(node: Node, given: Sequence[bool]) -> bool:
    """Results are elements of the first input or means of them."""
    return given[0]


def as_all(node: Node, given: Sequence[bool]) -> bool:
    """Results are elements of the inputs."""
    return all(given)


def clipped(node: Node, given: Sequence[bool]) -> bool:
    """There is a lower bound, and the bounds are constants that are not negative."""
    bounds = [value.constant for value in node.inputs[1:] if value is not None]
    return node.input(1) is not None and all(bound is not None and bool((bound >= 0).all()) for bound in bounds)


def max_pooled(node: Node, given: Sequence[bool]) -> bool:
    """No window lies in the padding alone, where the result is the lowest number."""
    kernel, pads = node.attributes["kernel_shape"], node.attributes.get("pads", [])
    touches = max(node.attributes.get("dilations", [1])) == 1 and all(p < k for p, k in zip(pads, kernel + kernel))
    return given[0] and touches
