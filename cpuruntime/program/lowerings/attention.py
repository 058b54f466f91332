"""Attention: strides from the views that the pass found, and scratch memory for each thread."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.compiler.isa import bf16_products
from cpuruntime.graph import Node, Size
from cpuruntime.ops.attention import (
    ROWS,
    ZEROS,
    attention,
    attention_single,
    scratch_layout,
    single_layout,
    value_columns,
)
from cpuruntime.ops.bf16_attention import bf16_attention, words_of
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import lowering, only_float32
from cpuruntime.program.plan.storage import Address

BLOCK = 4 * ROWS
"""Queries whose scores are in memory at a time: the fewest that make packed keys and values worth their reading."""
SIZES = ("batch", "heads", "queries", "keys", "depth", "width", "causal", "offset", "scale")


@lowering("Attention", domain="cpuruntime", check=only_float32)
def lower_attention(emitter: Emitter, node: Node) -> None:
    """One step for all heads."""
    a = node.attributes
    fields: dict[str, Any] = {name: a[name] for name in SIZES}
    for name, value in zip(("query", "key", "value", "mask"), node.inputs):
        if value is not None:
            fields |= _strided(name, emitter.plain(value).address, a[name])
    fields |= _strided("target", emitter.new_plain(node.outputs[0]).address, a["target"])
    products = a["batch"] * a["heads"] * a["queries"] * a["keys"] * (a["depth"] + a["width"])
    if a["queries"] == 1:
        kernel, notes, layout = attention_single, "one query", single_layout(a["keys"], a["depth"])
    else:
        fields["zeros"] = emitter.constant(np.zeros(ZEROS, np.float32))
        block = BLOCK if isinstance(a["queries"], Size) else min(BLOCK, -(-a["queries"] // ROWS) * ROWS)
        rounds = a.get("precision") == "bf16" and bool(bf16_products())
        make = bf16_attention if rounds else attention
        kernel, notes = make(value_columns(a["width"])), f"{block} queries at a time"
        words = (words_of(a["depth"]), words_of(a["keys"])) if rounds else None
        layout = scratch_layout(a["keys"], a["depth"], a["width"], block, words) | {"block": block}
    layout |= emitter.thread_memory(layout["scratch_size"])
    emitter.emit(kernel, "plain", flops=2 * products, notes=notes, **fields, **layout, group=1)


def _strided(name: str, address: Address, view: list[int]) -> dict[str, Any]:
    """The fields of an operand; keys and masks have a stride along their last axis too."""
    offset, batch, head, row, column = (4 * number for number in view)
    fields = {name: address + offset, f"{name}_batch": batch, f"{name}_head": head, f"{name}_row": row}
    return fields | ({f"{name}_column": column} if name in ("key", "mask") else {})
