"""The table of lowerings: which operators have kernels, under which conditions, and how their steps are emitted.

A family file declares `@lowering("MaxPool", layout=Layout.BLOCKED, check=...)` on a function that emits the steps of
one node through the planner. A node whose `check` names a reason runs through the reference evaluator instead.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpuruntime.graph import Node, Type

if TYPE_CHECKING:
    from cpuruntime.program.plan.planner import Planner

Emit = Callable[["Planner", Node], None]
Check = Callable[[Node], "str | None"]
Halo = Callable[[Node, "Planner"], "tuple[int, int]"]
Follows = Callable[[Node], bool]


class Layout(enum.Enum):
    """How an operator wants its tensors: blocked, as its inputs are, or plain."""

    BLOCKED = "blocked"
    FOLLOW = "follow"
    PLAIN = "plain"


@dataclass(frozen=True)
class Lowering:
    """One operator's way to kernels.

    `halo` is what its first input needs left and right of each row, by the method that the planner chooses; `follows`
    whether a node of layout FOLLOW can work on blocked tensors, which its first `operands` inputs have to be.
    """

    emit: Emit
    layout: Layout
    check: Check
    halo: Halo | None
    follows: Follows
    operands: int | None = None


TABLE: dict[tuple[str, str], Lowering] = {}
"""The lowerings by domain and operator."""


def _no_check(node: Node) -> str | None:
    return None


def lowering(
    *op_types: str,
    domain: str = "",
    layout: Layout = Layout.PLAIN,
    check: Check = _no_check,
    halo: Halo | None = None,
    follows: Follows = lambda node: True,
    operands: int | None = None,
) -> Callable[[Emit], Emit]:
    """Declares a function as the lowering of `op_types` in `domain`."""

    def declare(emit: Emit) -> Emit:
        for op_type in op_types:
            assert (domain, op_type) not in TABLE
            TABLE[domain, op_type] = Lowering(emit, layout, check, halo, follows, operands)
        return emit

    return declare


def find(node: Node) -> Lowering | str:
    """The lowering of a node, or the reason why it has none."""
    entry = TABLE.get((node.domain, node.op_type))
    if entry is None:
        return f"no kernel for {node.op_type}"
    if not all(value.is_static for value in node.outputs if value.name):
        return "the shape of the result is not known"
    return entry.check(node) or entry


def only_float32(node: Node) -> str | None:
    """A check: every tensor of the node is float32."""
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.name and value.element_type != Type.f32:
            return f"{node.op_type} has a kernel for f32, not for {value.element_type.get_type_name()}"
    return None
