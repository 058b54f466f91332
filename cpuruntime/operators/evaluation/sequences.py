"""Sequences (lists), optionals (None when empty) and strings (arrays of objects)."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, integers, normal_axis, optional
from cpuruntime.operators.evaluation.movement import split_sizes


def _position(node: Node, position: np.ndarray, count: int) -> int:
    index = integers(position)[0]
    if not -count <= index < count:
        raise ModelError(f"{node.where}: position {index} must be between {-count} and {count - 1}.")
    return index % count


def _at(node: Node, arrays: Arrays) -> Any:
    return arrays[0][_position(node, arrays[1], len(arrays[0]))]


def _erase(node: Node, arrays: Arrays) -> list[Any]:
    items = list(arrays[0])
    given = optional(arrays, 1)
    del items[len(items) - 1 if given is None else _position(node, given, len(items))]
    return items


def _insert(node: Node, arrays: Arrays) -> list[Any]:
    items, given = list(arrays[0]), optional(arrays, 2)
    count = len(items)
    index = count if given is None else integers(given)[0]
    if not -count <= index <= count:
        raise ModelError(f"{node.where}: position {index} must be between {-count} and {count}.")
    items.insert(index + count if index < 0 else index, arrays[1])
    return items


def _concat(node: Node, arrays: Arrays) -> np.ndarray:
    join = np.stack if attribute(node, "new_axis") else np.concatenate
    return join(arrays[0], attribute(node, "axis"))


def _split(node: Node, arrays: Arrays) -> list[np.ndarray]:
    x, given = arrays[0], optional(arrays, 1)
    axis = normal_axis(node, attribute(node, "axis"), x.ndim)
    extent = x.shape[axis]
    if given is None:
        sizes = [1] * extent
    elif given.ndim:
        sizes = integers(given)
    else:
        size = integers(given)[0]
        sizes = split_sizes(node, extent, -(-extent // size), size)
    if sum(sizes) != extent or min(sizes, default=0) < 0:
        raise ModelError(f"{node.where}: the parts {sizes} do not add up to the extent {extent}.")
    parts = np.split(x, np.cumsum(sizes)[:-1], axis) if sizes else []
    drop = given is None and not attribute(node, "keepdims")
    return [np.squeeze(part, axis) for part in parts] if drop else parts


def _has_element(node: Node, arrays: Arrays) -> np.ndarray:
    return np.array(optional(arrays, 0) is not None)


def _get_element(node: Node, arrays: Arrays) -> Any:
    if arrays[0] is None:
        raise ModelError(f"{node.where}: the optional is empty.")
    return arrays[0]


def _objects(items: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    result = np.empty(len(items), object)
    result[:] = items
    return result.reshape(shape)


def _string_concat(node: Node, arrays: Arrays) -> np.ndarray:
    a, b = np.broadcast_arrays(arrays[0].astype(object), arrays[1].astype(object))
    return _objects([x + y for x, y in zip(a.ravel().tolist(), b.ravel().tolist())], a.shape)


def _string_normalizer(node: Node, arrays: Arrays) -> np.ndarray:
    x, stop = arrays[0], attribute(node, "stopwords") or []
    case = {"LOWER": str.lower, "UPPER": str.upper}.get(attribute(node, "case_change_action"), str)
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] != 1):
        raise ModelError(f"{node.where}: its input of shape {list(x.shape)} must be [C] or [1,C].")
    sensitive = bool(attribute(node, "is_case_sensitive"))
    banned = set(stop) if sensitive else {word.lower() for word in stop}
    kept = [word for word in x.ravel().tolist() if (word if sensitive else word.lower()) not in banned]
    kept = [case(word) for word in kept] or [""]
    return _objects(kept, (len(kept),) if x.ndim == 1 else (1, len(kept)))


def _string_split(node: Node, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Shorter rows are filled up with empty strings."""
    x, delimiter = arrays[0], attribute(node, "delimiter") or None
    most = attribute(node, "maxsplit")
    parts = [text.split(delimiter, -1 if most is None else most) if text else [] for text in x.ravel().tolist()]
    width = max(map(len, parts), default=0)
    filled = [word for row in parts for word in row + [""] * (width - len(row))]
    return _objects(filled, (*x.shape, width)), np.array(list(map(len, parts)), np.int64).reshape(x.shape)


TABLE: dict[str, Rule] = {
    "ConcatFromSequence": _concat,
    "Optional": lambda node, arrays: optional(arrays, 0),
    "OptionalGetElement": _get_element,
    "OptionalHasElement": _has_element,
    "SequenceAt": _at,
    "SequenceConstruct": lambda node, arrays: list(arrays),
    "SequenceEmpty": lambda node, arrays: [],
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SequenceLength": lambda node, arrays: np.array(len(arrays[0]), np.int64),
    "SplitToSequence": _split,
    "StringConcat": _string_concat,
    "StringNormalizer": _string_normalizer,
    "StringSplit": _string_split,
}
