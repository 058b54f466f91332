"""The table of lowerings: which operators have kernels, under which conditions, and how their steps are emitted.

`@lowering("MaxPool", layout=Layout.BLOCKED, check=...)` declares a function that emits the steps of one node. A node
whose `check` names a reason runs through the reference evaluator instead.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from importlib import import_module
from math import prod
from typing import Any

from cpuruntime.errors import MESSAGE, ModelError, printable
from cpuruntime.graph import Node, Type, Value
from cpuruntime.program.plan.candidate import Candidate, Query
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.layout import LayoutPlan
from cpuruntime.records import record

Emit = Callable[[Emitter, Node], None]
Check = Callable[[Node], "str | None"]


class Layout(enum.Enum):
    """How an operator wants its tensors: blocked, as its inputs are, or plain."""

    BLOCKED = "blocked"
    FOLLOW = "follow"
    PLAIN = "plain"


@record
class Methods:
    """The methods by which a node can be computed, cheapest first; their results differ in the last bits.

    `emit` emits the node's step by one of them on memory of its own, to be measured; None where the estimate decides.
    """

    query: Query
    candidates: Sequence[Candidate[Any]]
    emit: Callable[[Emitter, Any], None] | None = None


@record
class Lowering:
    """How an operator becomes kernel calls.

    Attributes:
        methods: those of a node; with True only those as exact as direct computation.
        halo: pixels that the first input needs left and right of each row by the chosen method (None without methods).
        join: lets inputs be written straight into a blocked result, by entries in the plan's slices.
        follows: whether a node of layout FOLLOW can work on blocked tensors.
        operands: how many of the first inputs have to be blocked for that, by default all.
    """

    emit: Emit
    layout: Layout = Layout.PLAIN
    check: Check = lambda node: None
    methods: Callable[[Node, bool], Methods] | None = None
    halo: Callable[[Node, Any], tuple[int, int]] | None = None
    join: Callable[[Node, LayoutPlan], None] | None = None
    follows: Callable[[Node], bool] = lambda node: True
    operands: int | None = None


TABLE: dict[tuple[str, str], Lowering] = {}
"""The lowerings of the modules imported so far, by domain and operator."""

MODULES: dict[tuple[str, str], str] = {}
"""The module that declares the lowering of an operator, by domain and operator: imported when a node needs it."""


def lowering(*op_types: str, domain: str = "", **how: Any) -> Callable[[Emit], Emit]:
    """Declares a function as the lowering of `op_types` in `domain`; `how` are attributes of its `Lowering`."""

    def declare(emit: Emit) -> Emit:
        for op_type in op_types:
            assert (domain, op_type) not in TABLE
            TABLE[domain, op_type] = Lowering(emit, **how)
        return emit

    return declare


def _emit_nothing(emitter: Emitter, node: Node) -> None:
    """Results without elements need no step."""
    for value in node.outputs:
        if value.name:
            emitter.new_plain(value)


_EMPTY = Lowering(_emit_nothing)


def find_lowering(node: Node) -> Lowering | str:
    """The lowering of a node, or the reason why it has none; one whose results have no elements needs no kernel."""
    results = [value for value in node.outputs if value.name]
    known = all(value.is_static for value in results)
    if known and all(0 in value.static_shape and is_movable(value) for value in results):
        return _EMPTY
    key = node.domain, node.op_type
    if key not in TABLE and key in MODULES:
        import_module(MODULES[key])
    entry = TABLE.get(key)
    if entry is None:
        return f"no kernel for {node.op_type}"
    if not known:
        return "the shape of the result is not known"
    reason = entry.check(node)  # may show strings of the model
    return printable(reason, MESSAGE) if reason else entry


def dtype_name(value: Value) -> str:
    """The name of the value's NumPy dtype, by which kernels are chosen."""
    return value.element_type.to_dtype().name


def is_movable(value: Value) -> bool:
    """Whether kernels that only move elements can move those of the value."""
    return value.element_type != Type.string and value.element_type.size in (1, 2, 4, 8)


def axis_of(node: Node, default: int, rank: int) -> int:
    """The attribute `axis` of a node, from 0 to `rank` - 1; ModelError where there is no such axis."""
    axis: int = node.attributes.get("axis", default)
    if not -rank <= axis < rank:
        raise ModelError(f"{node.where}: axis {axis} of a tensor of {rank} dimensions.")
    return axis % rank


def pair(node: Node, name: str, single: int = 1) -> tuple[int, int]:
    """An attribute of one number per spatial axis, as (down, across); `single` stands for the height of a signal."""
    numbers = node.attributes[name]
    return (single, numbers[0]) if len(node.require(0).static_shape) == 3 else (numbers[0], numbers[1])


def along(shape: Sequence[int], axis: int) -> dict[str, int]:
    """The argument fields of kernels along an axis: elements before, along and behind it."""
    return dict(outer=prod(shape[:axis]), length=shape[axis], inner=prod(shape[axis + 1 :]))


def only_images(node: Node) -> str | None:
    """A check: every tensor is float32, and the first has one or two spatial dimensions."""
    rank = len(node.require(0).static_shape)
    if rank not in (3, 4):
        return f"{node.op_type} has kernels for 1 and 2 spatial dimensions, not for {rank - 2}"
    return only_float32(node)


def only_float32(node: Node) -> str | None:
    """A check: every tensor of the node is float32."""
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.name and value.element_type != Type.f32:
            return f"{node.op_type} has a kernel for f32, not for {value.element_type.get_type_name()}"
    return None
