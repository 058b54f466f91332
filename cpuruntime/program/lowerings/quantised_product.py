"""Matrix products of 8-bit tensors by integer tiles: by constant weights, or of two activations."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Node, Type, Value
from cpuruntime.ops.quantised_panels import pack_pairs, pack_quads
from cpuruntime.ops.quantised_product import COLUMN_TILE, quantised_product
from cpuruntime.ops.tiles.integer_shapes import AMX, BOTH, CHANNELS, GATHER, ROW_BYTES, TILE_BYTES, bytes_of, kinds
from cpuruntime.program.convolution.panels import tile_starts
from cpuruntime.program.plan.candidate import Query
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.integer_weights import (
    Excess,
    PackedWeights,
    extra_steps,
    extra_work,
    less_zeros,
    whole_tiles,
)
from cpuruntime.program.plan.lowering import lowering
from cpuruntime.program.plan.requantise import channel_parameters, limits, unsigned
from cpuruntime.program.plan.storage import Address
from cpuruntime.program.tuning.integer_tiles import IntegerGrid, IntegerTiling, rank_integer_tilings

LARGEST = 255 * 255
"""The product of two bytes less their zero points is at most so large."""


def _check(node: Node) -> str | None:
    a, b = node.require(0).static_shape, node.require(1).static_shape
    if len(a) < 2 or len(b) < 2 or (len(b) > 2 and (node.require(1).constant is not None or a[:-2] != b[:-2])):
        return f"QuantisedMatMul has a kernel for stacks of the same shape, not for {list(a)} @ {list(b)}"
    if node.require(1).constant is None and b[-2] * LARGEST >= 2**31:
        return f"QuantisedMatMul has a kernel for sums that fit int32, not for {b[-2]} products of any bytes"
    if any(value is not None and value.constant is None for value in (node.input(2), node.input(3))):
        return "QuantisedMatMul has a kernel for a constant multiplier and bias"
    scale, zero = node.input(4), node.input(5)
    if (scale is not None and not _is_single(scale) and len(b) > 2) or (zero is not None and not _is_single(zero)):
        return "QuantisedMatMul has a kernel for one scale a row and one zero point"
    if 0 in (*node.outputs[0].static_shape, *a):
        return "QuantisedMatMul has no kernel for empty tensors"
    return None


def _is_single(value: Value) -> bool:
    return bool(prod(value.static_shape) == 1)


@lowering("QuantisedMatMul", domain="cpuruntime", check=_check)
def lower_quantised_product(emitter: Emitter, node: Node) -> None:
    """The product of bytes to bytes or float32."""
    a, b, result = node.require(0), node.require(1), node.outputs[0]
    inner, columns = b.static_shape[-2:]
    batch = prod(b.static_shape[:-2])
    rows = prod(a.static_shape[:-1]) // batch
    source, target = emitter.plain(a), emitter.new_plain(result)
    flip, zero = unsigned(a, node.attributes["a_zero"])
    size = target.dtype.itemsize
    scale, ones = node.input(4), np.ones(1, np.float32)
    fields: dict[str, Any] = dict(
        source=source.address, source_batch=rows * inner, source_row=inner, target=target.address,
        target_batch=rows * columns * size, target_block=LANES * size, target_pixel=columns * size, groups=1,
        batch=batch, inner=inner, columns=columns, in_height=1, in_width=rows, height=1, width=rows, step_y=1, step_x=1,
        panel_down=1, panel_right=1, kernel_height=1, kernel_width=1, reach_y=1, reach_x=1,
        steps=-(-inner // CHANNELS), limits=limits(emitter, node), flip=flip, zero=zero,
        row_scale=emitter.constant(ones) if scale is None else emitter.plain(scale).address,
        row_scale_step=0 if scale is None or _is_single(scale) else 4,
    )  # fmt: skip
    if node.input(5) is not None:
        fields["zero_at"] = emitter.plain(node.require(5)).address
    if b.constant is None:
        _emit_activations(emitter, node, fields)
    else:
        _emit_constant(emitter, node, fields)


def _emit_constant(emitter: Emitter, node: Node, fields: dict[str, Any]) -> None:
    constant = node.require(1).data
    weights = less_zeros(np.asarray(constant).T, node.attributes["b_zero"])
    dtype = np.int8 if weights.dtype == np.int8 else np.int16
    whole = np.zeros((fields["columns"], fields["steps"] * CHANNELS), dtype)
    whole[:, : fields["inner"]] = weights
    excess = Excess.of(whole) if dtype == np.int8 else None
    extra, pays = {"w16": 0.0}, False
    if excess is not None and "ubs" in kinds():
        pays, extra["ubs"] = extra_work([excess], [whole], whole.shape[1])
    if excess is not None:
        extra = dict.fromkeys((kind for kind in ("vnni", "amx") if kind in kinds()), 0.0) or extra
    fields["channels"] = _channels(emitter, node, whole.sum(1, dtype=np.int32))
    zeros = tuple(node.attributes["b_zero"])

    def emit(emitter: Emitter, tiling: IntegerTiling) -> None:
        starts = tile_starts(-(-fields["columns"] // LANES), tiling.columns)
        own = whole.astype(np.int16) if tiling.kind == "w16" else whole
        if tiling.kind in AMX:
            own = whole_tiles(whole, whole.shape[1])
        # One row waits for weights from memory: it reads as few as possible.
        gathered = tiling.kind == "ubs" and tiling.rows > 1 and pays
        packed = PackedWeights(tiling.kind, own, tiling.columns, starts, excess, gathered * whole.shape[1])
        key = (emitter.weights.identity(constant), "integer product", tiling.kind, tiling.columns, gathered, zeros)
        _emit(
            emitter, node, tiling, fields, gathered=int(gathered),
            weights=emitter.weights.pack(key, packed.nbytes, packed.fill),
            column_tiles=emitter.constant(packed.table()), column_tile_count=len(starts),
            extras=extra_steps(emitter, packed.extras(), (1, 1, whole.shape[1]), (0, 0)),
        )  # fmt: skip

    _emit_fastest(emitter, node, fields, extra, emit)


def _emit_activations(emitter: Emitter, node: Node, fields: dict[str, Any]) -> None:
    """The right side is packed by a step of its own."""
    b, inner, columns, batch = node.require(1), fields["inner"], fields["columns"], fields["batch"]
    zeros, blocks = node.attributes["b_zero"] or [0], -(-columns // LANES)
    flip, zero = unsigned(b, zeros[0])
    right = emitter.plain(b).address
    parameters = _channels(emitter, node, np.zeros(columns, np.int32))

    def emit(emitter: Emitter, tiling: IntegerTiling) -> None:
        starts = tile_starts(blocks, tiling.columns)
        steps = fields["steps"]
        if tiling.kind in AMX:
            steps = -(-inner // TILE_BYTES) * TILE_BYTES // CHANNELS
        own = steps * CHANNELS * tiling.columns * LANES * bytes_of(tiling.kind)
        packed = Address(emitter.scratch(batch * own * len(starts)))
        by_bytes = tiling.kind in BOTH
        size = 4 * blocks * VECTOR_BYTES
        channels = Address(emitter.scratch(batch * size)) if by_bytes else parameters
        emitter.emit(
            pack_quads if by_bytes else pack_pairs, "plain", source=right, source_batch=inner * columns, target=packed,
            target_batch=own * len(starts), batch=batch, inner=inner, steps=steps, columns=columns,
            tile_columns=tiling.columns, flip=flip, zero=zero,
            **(dict(parameters=parameters, channels=channels, channels_batch=size) if by_bytes else {}),
        )  # fmt: skip
        table = np.zeros(len(starts), COLUMN_TILE)
        table["weights"], table["block"] = own * np.arange(len(starts)), starts
        _emit(
            emitter, node, tiling, fields, weights=packed, weights_batch=own * len(starts), channels=channels,
            column_tiles=emitter.constant(table), column_tile_count=len(starts),
            extras=emitter.constant(np.zeros(1, np.int64)), right_zero=zero, channels_batch=size if by_bytes else 0,
        )  # fmt: skip

    by_bytes = [f"{kind}_both" for kind in ("vnni", "amx") if kind in kinds()]
    _emit_fastest(emitter, node, fields, dict.fromkeys(by_bytes or ["w16"], 0.0), emit)


def _channels(emitter: Emitter, node: Node, sums: np.ndarray) -> Address:
    bias = None if node.input(3) is None else node.require(3).data
    multiplier = np.broadcast_to(node.require(2).data.reshape(-1), sums.shape)
    return emitter.constant(channel_parameters(sums, multiplier, bias, -(-len(sums) // LANES)))


def _emit_fastest(emitter: Emitter, node: Node, fields: dict[str, Any], extra: dict[str, float], emit: Any) -> None:
    rows, inner = fields["width"], fields["steps"] * CHANNELS
    grid = IntegerGrid(fields["batch"], 1, rows, -(-fields["columns"] // LANES), inner, rows * inner)
    query = Query(("quantised_product",), grid, round(extra.get("ubs", -1), 1))
    emitter.emit_fastest(query, rank_integer_tilings(grid, extra, emitter.threads), emit)


def _emit(emitter: Emitter, node: Node, tiling: IntegerTiling, fields: dict[str, Any], **packed: Any) -> None:
    pixel = fields["steps"] * CHANNELS * bytes_of(tiling.kind)
    behind = tiling.rows if tiling.kind in AMX else 0
    scratch = (tiling.chunk + tiling.rows) * ROW_BYTES + (tiling.chunk + behind) * pixel + GATHER
    emitter.emit(
        quantised_product(tiling.kind, tiling.rows, tiling.columns, "rows", node.outputs[0].element_type == Type.f32),
        "plain", flops=2 * fields["batch"] * fields["width"] * fields["inner"] * fields["columns"], notes=str(tiling),
        **fields, **packed, panel_width=tiling.chunk, panel_pixel=pixel, chunk=tiling.chunk, parts=tiling.parts,
        **emitter.thread_memory(scratch),
    )  # fmt: skip
