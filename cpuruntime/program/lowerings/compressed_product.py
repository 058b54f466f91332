"""Matrix products with compressed weights: kernels for few rows and for many read the same packed panels."""

from __future__ import annotations

from typing import Any

from cpuruntime.compiler.isa import LANES, bf16_products
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Compressed, Extent, Size, typical
from cpuruntime.ops.compressed_product import WIDENED, few_rows, many_rows, quantise_rows
from cpuruntime.ops.tiles.compressed_shapes import BITS, FACTS, is_integer, per_word
from cpuruntime.ops.tiles.tile_shapes import tile_shapes
from cpuruntime.program.lowerings.bf16_product import emit_bf16_matrix
from cpuruntime.program.plan.compressed_weights import PackedPanels
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.step import KernelChoice
from cpuruntime.program.plan.storage import Address
from cpuruntime.program.tuning.tiles import fit_rows

FEW, FEW_OF_HALVES = 32, 4
"""Rows from which on weights are widened for register tiles: integer ones, and 16-bit floating point numbers.

Measured on Zen 3, where products of integers in pairs are as fast as float32's.
"""


def emit_compressed(
    emitter: Emitter, weights: Compressed, rows: Extent, source: Address, activation: str, fields: dict[str, Any]
) -> None:
    """target[rows, N] = source[rows, K] @ weights, with the epilogue in `fields`, which have the target."""
    if weights.kind == "bf16" and bf16_products() and (isinstance(rows, Size) or rows > 1):
        emit_bf16_matrix(emitter, weights, rows, source, activation, fields, _notes(weights))
        return
    (inner, columns), kind = weights.shape, weights.kind
    packed, has_zeros = PackedPanels(weights), bool(getattr(weights.zeros, "ndim", 0))
    groups = packed.inner // weights.group if weights.group else inner
    words = weights.group // per_word(kind) if weights.group else 1
    fields |= dict(
        source=source, source_row=inner * 4, rows=rows, inner=inner, columns=columns, groups=groups, words=words,
        weights=packed.address(emitter), rows_at=source, rows_step=inner * 4,
    )  # fmt: skip
    if is_integer(kind):
        fields["scales"] = packed.scales(emitter)
        fields |= {"zeros": packed.zeros(emitter)} if has_zeros else {"zero": int(weights.zeros)}
    limit = _limit(weights)
    if is_integer(kind) and (isinstance(rows, Size) or rows < limit):
        _quantise_rows(emitter, weights, packed.inner, groups, limit, fields)
    scratch = packed.inner * WIDENED * LANES * 4
    fields |= emitter.thread_memory(scratch)
    emitter.emit(
        _kernel(kind, has_zeros, activation, rows, limit), "plain", flops=2 * typical(rows) * inner * columns,
        notes=_notes(weights), **fields,
    )  # fmt: skip


def _limit(weights: Compressed) -> int:
    """Rows from which on weights are widened."""
    if not is_integer(weights.kind):
        return FEW_OF_HALVES
    return FEW if weights.quantises_rows else 0


def _quantise_rows(
    emitter: Emitter, weights: Compressed, inner: int, groups: int, limit: int, fields: dict[str, Any]
) -> None:
    """The step that makes 16-bit numbers of less than `limit` rows; of more nothing would be read."""
    rows, step = fields["rows"], inner * 2
    most = limit if isinstance(rows, Size) else rows
    target, facts = (Address(emitter.scratch(most * size)) for size in (step, groups * FACTS))
    emitter.emit(
        quantise_rows, "plain", source=fields["source"], source_row=fields["source_row"], target=target,
        target_row=step, facts=facts, facts_row=groups * FACTS, rows=rows, inner=fields["inner"], groups=groups,
        group=weights.group, limit=limit,
    )  # fmt: skip
    fields |= {"rows_at": target, "rows_step": step, "facts": facts, "facts_row": groups * FACTS}


def _kernel(kind: str, has_zeros: bool, activation: str, rows: Extent, limit: int) -> Kernel | KernelChoice:
    """The kernel for few rows, for many, or both where rows are not known."""
    options = [tall for tall, columns in tile_shapes() if columns == WIDENED]
    if not isinstance(rows, Size):
        if rows < limit:
            return few_rows(kind, has_zeros, activation)
        return many_rows(kind, has_zeros, max(option for option in options if option <= rows), activation)
    if not limit:
        return fit_rows(rows, max(options), options, lambda tall: many_rows(kind, has_zeros, tall, activation))
    tall = max(option for option in options if option <= limit)
    many = many_rows(kind, has_zeros, tall, activation)
    return fit_rows(
        rows, limit, (1,), lambda least: many if least == limit else few_rows(kind, has_zeros, activation)
    )


def _notes(weights: Compressed) -> str:
    inner, columns = weights.shape
    nbytes = inner * columns * BITS[weights.kind] / 8 + weights.scales.nbytes
    nbytes += weights.zeros.nbytes if isinstance(weights.zeros, type(weights.scales)) else 0
    group = f" in groups of {weights.group}" if weights.group else ""
    lost = "" if weights.error is None else f", relative error {weights.error:.1e}"
    note = weights.note and f", {weights.note}"
    rows = ", few rows in 16 bits" if weights.group and weights.quantises_rows else ""
    size = f"{nbytes / 2**20:.2f} MiB for {inner * columns * 4 / 2**20:.2f}"
    return f"weights {weights.kind}{group}, {size}{lost}{rows}{note}"
