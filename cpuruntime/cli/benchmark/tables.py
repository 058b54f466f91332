"""Which inputs of a model index tables, so that random ones stay inside them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import cpuruntime as ov

_MASK = 2
"""Values of an input that is computed with before it indexes a table: 0 and 1, as of a mask."""
# Operators whose second input indexes the first.
_INDEXING = ("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND")
_SAME_VALUES = {
    "Cast", "Concat", "Expand", "Flatten", "Identity", "Pad", "Reshape", "ReverseSequence", "Slice", "Split", "Squeeze",
    "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip


def table_rows(model: ov.Model) -> dict[str, int]:
    """Of each input of whole numbers that indexes tables: the rows of the smallest one.

    Where an input is computed with on the way to a table, as a mask whose sums are positions, it is 2.
    """
    readers: dict[str, list[tuple[Any, int]]] = defaultdict(list)
    for node in model.graph.nodes:
        for index, value in enumerate(node.inputs):
            if value is not None:
                readers[value.name].append((node, index))
    found = {port.any_name: _rows(port.any_name, readers) for port in model.inputs if _is_whole(port.element_type)}
    return {name: rows for name, rows in found.items() if rows is not None}


def _rows(name: str, readers: dict[str, list[tuple[Any, int]]]) -> int | None:
    """The rows of the smallest table that a value indexes; None when it indexes none."""
    rows: list[int] = []
    seen = {(name, True)}
    left = [(name, True)]
    while left:
        value, is_same = left.pop()
        for node, index in readers[value]:
            if index == 1 and node.op_type in _INDEXING:
                rows.append(_table_size(node) if is_same else _MASK)
                continue
            after = is_same and node.op_type in _SAME_VALUES
            outputs = [(out.name, after) for out in node.outputs if _is_whole(out.element_type)]
            left += [step for step in outputs if step not in seen]
            seen.update(outputs)
    return max(1, min(rows)) if rows else None


def _table_size(node: Any) -> int:
    """How many rows the table of an operator surely has; 1 when that is not known."""
    shape = node.inputs[0].shape
    if shape is None:
        return 1
    if node.op_type in ("GatherND", "ScatterND"):
        batch, indices = node.attributes.get("batch_dims", 0), node.inputs[1].shape
        last = indices[-1] if indices else None
        sizes = shape[batch:] if last is None else shape[batch : batch + last]
    else:
        axis = node.attributes.get("axis", 0)
        sizes = shape[axis : axis + 1 or None]
    return min((size or 1 for size in sizes), default=1)


def _is_whole(kind: ov.Type) -> bool:
    return kind.type_name[0] in "iu"
