"""What rules of shapes read of a node: the shapes of its inputs, and the elements that are known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Extent, Node

Shape = tuple[Any, ...]
Known = Sequence[np.ndarray | None]
Rule = Callable[[Node, Known], "list[Shape] | None"]
"""The shapes of a node's outputs, from those of its inputs, which are known, and from what is known of their elements.

An extent is None where it depends on data; the whole where ONNX's inference has to say it.
"""


def shape_of(node: Node, index: int = 0) -> Shape:
    """The shape of an input, which is known."""
    return node.require(index).static_shape


def numbers_of(known: Known, index: int) -> list[Any] | None:
    """The elements of an input; None where they are not known."""
    array = known[index] if index < len(known) else None
    return None if array is None else array.reshape(-1).tolist()


def axis_of(node: Node, rank: int, default: int = 0) -> int:
    """The attribute `axis`, from 0."""
    return int(node.attributes.get("axis", default)) % max(rank, 1)


def axes_of(node: Node, known: Known, rank: int, index: int = 1) -> list[int] | None:
    """The axes given by the attribute or by an input, from 0; an empty list without either, None where unknown."""
    axes = node.attributes.get("axes")
    if axes is None and node.input(index) is not None:
        axes = numbers_of(known, index)
        if axes is None:
            return None
    axes = [int(axis) for axis in axes or ()]
    check(node, all(-rank <= axis < rank for axis in axes), f"axes {axes} of a tensor of {rank} dimensions")
    return [axis % rank for axis in axes]


def check(node: Node, is_right: bool, rule: str) -> None:
    """Raise ModelError unless a rule holds."""
    if not is_right:
        raise ModelError(f"{node.where}: {rule}.")


def text_of(shape: Sequence[Extent]) -> str:
    """A shape as messages give it."""
    return f"[{', '.join(map(str, shape))}]"
