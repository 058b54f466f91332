"""LabelEncoder and OneHotEncoder of numbers: what stands for each is looked up in a table."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.typed import FLOATS, INTEGERS
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import attribute
from cpuruntime.operators.evaluation.tabular import pairs_of
from cpuruntime.ops.lookup import lookup
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import dtype_name, is_movable, lowering

DOMAIN = "ai.onnx.ml"
MOST_CATEGORIES = 1 << 11


def _check(node: Node) -> str | None:
    x, y = node.require(0), node.outputs[0]
    if not (is_movable(x) and is_movable(y)) or dtype_name(x) not in (*FLOATS, *INTEGERS) or node.version == 1:
        return f"{node.op_type} has a kernel for numbers, not for {x} and {y}"
    return None


@lowering("LabelEncoder", domain=DOMAIN, check=_check)
def lower_label_encoder(emitter: Emitter, node: Node) -> None:
    """Values of any type by keys of the input's type."""
    keys, values, default, dtype = pairs_of(node)
    dtype = np.dtype(node.require(0).element_type.to_dtype())
    of_values = node.outputs[0].element_type.to_dtype()
    table, others = np.array(values, of_values), np.array([default], of_values)
    given = np.array(keys, dtype)
    finite = given == given
    for_nan = table[~finite][:1] if node.version >= 4 and not finite.all() else others
    keys_sorted, first = np.unique(given[finite], return_index=True)
    _emit(emitter, node, keys_sorted, table[finite][first], others, for_nan)


def _check_one_hot(node: Node) -> str | None:
    x, categories = node.require(0), attribute(node, "cats_int64s")
    if dtype_name(x) != "int64" or not categories:
        return f"OneHotEncoder has a kernel for integers, not for {x}"
    if len(categories) > MOST_CATEGORIES or len(set(categories)) < len(categories):
        return f"OneHotEncoder has a kernel for up to {MOST_CATEGORIES} different categories"
    return None


@lowering("OneHotEncoder", domain=DOMAIN, check=_check_one_hot)
def lower_one_hot_encoder(emitter: Emitter, node: Node) -> None:
    """The rows of a unit matrix by category; another number is a row of zeros, or with `zeros` 0 an error."""
    categories = np.array(attribute(node, "cats_int64s"), np.int64)
    order = np.argsort(categories)
    unit, none = np.eye(len(categories), dtype=np.float32)[order], np.zeros((1, len(categories)), np.float32)
    fields = {}
    if not attribute(node, "zeros"):
        fields["fault"] = emitter.fault(f"{node.where}: an element is none of the categories.")
    _emit(emitter, node, categories[order], unit, none, none, **fields)


def _emit(
    emitter: Emitter, node: Node, keys: np.ndarray, values: np.ndarray, others: np.ndarray, nan: np.ndarray,
    **fields: Any,
) -> None:  # fmt: skip
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    emitter.emit(
        lookup(source.dtype.name), "plain", source=source.address, target=target.address, keys=emitter.constant(keys),
        values=emitter.constant(values), others=emitter.constant(others), nan=emitter.constant(nan),
        count=prod(source.shape), keys_count=len(keys), value_bytes=values[:1].nbytes, **fields,
    )  # fmt: skip
