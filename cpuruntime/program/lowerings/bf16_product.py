"""Matrix products with constant right sides of bf16 numbers, by instructions that multiply these."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.compiler.isa import VECTOR_BYTES
from cpuruntime.graph import Compressed, Extent, typical
from cpuruntime.program.convolution.bf16_product import Matrix, emit_bf16_product
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.storage import Address


def emit_bf16_matrix(
    emitter: Emitter, weights: Compressed, rows: Extent, source: Address, activation: str, fields: dict[str, Any],
    notes: str,
) -> None:  # fmt: skip
    """target[rows, N] = source[rows, K] @ weights[K, N], with the epilogue in `fields`, which have the target."""
    inner, columns = weights.shape
    right = Matrix(inner, columns, (emitter.weights.identity(weights), "bf16"), lambda: np.asarray(weights.numbers))
    places = {"target_row": "target_pixel", "residual_row": "residual_pixel"}
    fields = {places.get(name, name): value for name, value in fields.items()} | dict(
        source=source, source_step=inner * 4, target_block=VECTOR_BYTES, residual_block=VECTOR_BYTES, batch=1, height=1,
        width=rows, columns=columns,
    )  # fmt: skip
    emit_bf16_product(emitter, right, "rows", fields, activation, 2 * typical(rows) * inner * columns, notes)
