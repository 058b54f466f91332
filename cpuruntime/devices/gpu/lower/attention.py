"""Attention: in one kernel, or as two products with a softmax between."""

from __future__ import annotations

from typing import Any

from cpuruntime.devices.gpu.kernels.attention import SIDE, Attention
from cpuruntime.devices.gpu.kernels.rows import Softmax
from cpuruntime.devices.gpu.lower.emitter import Emitter, Place
from cpuruntime.devices.gpu.lower.product import copied, emit_product, tile_for
from cpuruntime.devices.gpu.lower.walks import Walk
from cpuruntime.graph import Node


def lower_attention(emitter: Emitter, node: Node) -> None:
    """One kernel, or two products with a softmax between."""
    query, key, value = (emitter.place(node.require(index)) for index in range(3))
    of, mask = node.attributes, node.input(3)
    masked = None if mask is None else emitter.place(mask)
    is_local = emitter.tuning.is_local
    target_type = emitter.element_type(node.outputs[0])
    kernel = Attention(
        query.element_type, key.element_type, value.element_type, target_type, of["depth"], of["width"], is_local,
        masked.element_type if masked else "", bool(of["causal"]),
    )  # fmt: skip
    ways = ("one kernel", "products") if kernel.is_possible and (is_local or _is_in_rows(of)) else ("products",)
    if emitter.choose("attention", ways) == "products":
        _products(emitter, node)
        return
    places = [place for place in (query, key, value, emitter.new(node.outputs[0]), masked) if place]
    begins = [place.begin for place in (query, key, value)]
    operands = [
        number for operand, begin in zip(("query", "key", "value", "target"), (*begins, 0))
        for number in (of[operand][0] + begin, *of[operand][1:])
    ]  # fmt: skip
    masking = [of["mask"][0] + masked.begin, *of["mask"][1:]] if masked else [0] * 5
    sizes = [of["queries"], of["keys"], of["heads"], *operands, *masking, of["offset"]]
    blocks = -(-of["queries"] // SIDE) if is_local else of["queries"]
    group = (SIDE, SIDE, 1) if is_local else (1, 1, 1)
    arguments = [*(place.buffer for place in places), *map(int, sizes), float(of["scale"])]
    emitter.launch(kernel.source, arguments, (blocks, 1, of["batch"] * of["heads"]), group)


def _is_in_rows(of: dict[str, Any]) -> bool:
    """Whether the elements of a row of each operand are neighbours."""
    return all(of[operand][4] == 1 for operand in ("query", "key", "value", "target"))


def _products(emitter: Emitter, node: Node) -> None:
    """Scores of queries and transposed keys, softmax with the mask, and the product with the values."""
    of = node.attributes
    batch, heads, queries, keys = of["batch"], of["heads"], of["queries"], of["keys"]
    depth, width = of["depth"], of["width"]
    query, key, value = (emitter.place(node.require(index)) for index in range(3))
    scores = emitter.scratch(batch * heads * queries * keys, "f32")
    tile = tile_for(emitter, "scores", queries, keys, depth)
    begin, outer, inner, row, column = of["key"]
    b_step, b_column = column, row
    if not tile.depth:
        key = copied(emitter, Walk(key, key.begin + begin, (outer, inner, column, row)), (batch, heads, depth, keys))
        begin, outer, inner, b_step, b_column = 0, heads * depth * keys, depth * keys, keys, 1
    q_begin, q_outer, q_inner, q_row, q_column = of["query"]
    sizes = {
        "M": queries, "N": keys, "K": depth, "a_row": q_row, "a_step": q_column, "b_step": b_step, "b_column": b_column,
        "c_row": keys, "inner": heads, "a_outer": q_outer, "a_inner": q_inner, "b_outer": outer, "b_inner": inner,
        "c_outer": heads * queries * keys, "c_inner": queries * keys, "a_begin": q_begin, "b_begin": begin,
    }  # fmt: skip
    emit_product(emitter, tile, query, key, scores, sizes, batch * heads)
    _attention_softmax(emitter, node, scores)
    tile = tile_for(emitter, "attention", queries, width, keys)
    begin, outer, inner, row, column = of["value"]
    if not tile.depth and emitter.is_outside(node.require(2)):
        walk = Walk(value, value.begin + begin, (outer, inner, row, column))
        value = copied(emitter, walk, (batch, heads, keys, width))
        begin, outer, inner, row, column = 0, heads * keys * width, keys * width, width, 1
    t_begin, t_outer, t_inner, t_row, _ = of["target"]
    sizes = {
        "M": queries, "N": width, "K": keys, "a_row": keys, "a_step": 1, "b_step": row, "b_column": column,
        "c_row": t_row, "inner": heads, "a_outer": heads * queries * keys, "a_inner": queries * keys, "b_outer": outer,
        "b_inner": inner, "c_outer": t_outer, "c_inner": t_inner, "b_begin": begin, "c_begin": t_begin,
    }  # fmt: skip
    emit_product(emitter, tile, scores, value, emitter.new(node.outputs[0]), sizes, batch * heads)


def _attention_softmax(emitter: Emitter, node: Node, scores: Place) -> None:
    of, mask = node.attributes, node.input(3)
    place = None if mask is None else emitter.place(mask)
    kernel = Softmax(
        "f32", "f32", emitter.tuning.row_group, place.element_type if place else "", bool(of["causal"])
    )  # fmt: skip
    begin, outer, middle, last, step = of["mask"] if place else (0, 0, 0, 0, 0)
    buffers = [scores.buffer, scores.buffer, *([place.buffer] if place else [])]
    sizes = [of["keys"], 1, of["heads"], of["queries"], begin, outer, middle, last, step, of["offset"]]
    rows = of["batch"] * of["heads"] * of["queries"]
    emitter.rows(kernel.source, [*buffers, *map(int, sizes), float(of["scale"])], rows)


def check_attention(node: Node) -> str | None:
    """Why an Attention has no kernel."""
    return None if node.attributes["value"][4] == 1 or node.attributes["width"] == 1 else "values must lie in rows"


