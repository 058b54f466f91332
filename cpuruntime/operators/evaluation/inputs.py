"""What all families share: types, attributes with their defaults, optional inputs, wide arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnx

from cpuruntime.errors import ModelError, UnsupportedError
from cpuruntime.graph import Node
from cpuruntime.operators.schema import find_operator

Arrays = Sequence[Any]
"""One array for each input: None where it is absent and for an empty optional, a list for a sequence."""

Rule = Callable[[Node, Arrays], Any]
"""Computes an operator: one result, or a tuple of all of them."""


@lru_cache(maxsize=4096)
def _defaults(op_type: str, domain: str, version: int) -> dict[str, Any]:
    operator = find_operator(op_type, domain, version)
    if operator is None:
        raise UnsupportedError(f"{op_type} (opset {version}): ONNX has no such operator.")
    found = {}
    for name, attribute in operator.schema.attributes.items():
        if attribute.default_value.name:
            default = onnx.helper.get_attribute_value(attribute.default_value)
            texts = [part.decode() if isinstance(part, bytes) else part for part in default] if (
                isinstance(default, list)) else default  # fmt: skip
            found[name] = default.decode() if isinstance(default, bytes) else texts
    return found


def attribute(node: Node, name: str) -> Any:
    """The node's attribute, else the default that its version of the operator has, else None."""
    if name in node.attributes:
        return node.attributes[name]
    return _defaults(node.op_type, node.domain, node.version).get(name)


def optional(arrays: Arrays, index: int) -> Any:
    """The input at `index`; None when it is absent."""
    return arrays[index] if index < len(arrays) else None


def integers(array: np.ndarray) -> list[int]:
    """The elements of a small tensor of integers."""
    return [int(number) for number in np.asarray(array).reshape(-1)]


def given_axes(node: Node, arrays: Arrays, index: int = 1) -> list[int] | None:
    """`axes` from the input at `index` or from the attribute; None when neither is there."""
    given = optional(arrays, index)
    return attribute(node, "axes") if given is None else integers(given)


def normal_axis(node: Node, axis: int, rank: int) -> int:
    """The axis counted from the front; ModelError when it is out of range."""
    if not -rank <= axis < rank:
        raise ModelError(f"{node.where}: axis {axis} must be between {-rank} and {rank - 1}.")
    return axis % rank


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of this type have fractions: NumPy's floating-point types and the narrow ones."""
    return dtype.kind == "f" or (dtype.kind == "V" and "float" in dtype.name)


def wide(array: np.ndarray) -> np.ndarray:
    """The array, as float32 where its floating-point type is narrower."""
    narrow = is_float(array.dtype) and array.dtype.itemsize < 4
    return array.astype(np.float32) if narrow else array


def widest(array: np.ndarray) -> np.ndarray:
    """The array as float64 where it is of a floating-point type: sums of many terms lose nothing."""
    return array.astype(np.float64) if is_float(array.dtype) else array


def many(node: Node) -> int:
    """How many outputs the node has."""
    return len(node.outputs)
