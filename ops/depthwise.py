"""Depthwise convolution on the blocked layout: every channel has a kernel of its own.

Rows above and below the image are skipped; to the left and right the source needs a halo as wide as the padding.
"""

from __future__ import annotations

from functools import cache

from .isa import LANES, VECTOR_BYTES
from .jit import Kernel, kernel, made, record
from .window import taps_before

ARGUMENTS = record(
    source="i8", source_batch="i8", source_block="i8", source_row="i8",
    target="i8", target_batch="i8", target_block="i8", target_row="i8",
    residual="i8", residual_batch="i8", residual_block="i8", residual_row="i8",
    weights="i8", bias="i8",
    batch="i8", blocks="i8", in_height="i8", height="i8", width="i8",
    kernel_height="i8", kernel_width="i8", stride_height="i8", source_step="i8",
    dilation_height="i8", source_column="i8", pad_top="i8",
    limits="i8",
)  # fmt: skip


@cache
def depthwise(rows: int) -> Kernel:
    """Depthwise convolution by tiles of `rows` pixels (at most the width); weights lie [block][height][width][LANES].

    Source points at the pixel of the first output pixel's first kernel column, in image row 0.
    """
    tile = made("register_tile", "make_depthwise_tile", rows)

    @kernel(ARGUMENTS, name=f"depthwise_f32_{LANES}_{rows}")
    def run(a, thread, threads):
        items = a.batch * a.blocks * a.height
        weight_row = a.kernel_width * VECTOR_BYTES
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            y, block, image = item % a.height, item // a.height % a.blocks, item // a.height // a.blocks
            source = a.source + image * a.source_batch + block * a.source_block
            target = a.target + image * a.target_batch + block * a.target_block + y * a.target_row
            residual = a.residual + image * a.residual_batch + block * a.residual_block + y * a.residual_row
            top = y * a.stride_height - a.pad_top
            first = taps_before(0, top, a.dilation_height, a.kernel_height)
            last = taps_before(a.in_height, top, a.dilation_height, a.kernel_height)
            for x in range(0, a.width, rows):
                left = min(x, a.width - rows)
                tile(
                    source + (top + first * a.dilation_height) * a.source_row + left * a.source_step,
                    a.source_step,
                    a.weights + (block * a.kernel_height + first) * weight_row,
                    (
                        1, last - first, a.kernel_width, 1,
                        0, a.dilation_height * a.source_row, a.source_column,
                        0, weight_row, 0, 0,
                    ),
                    (
                        target + left * VECTOR_BYTES, a.target_block, VECTOR_BYTES,
                        residual + left * VECTOR_BYTES if a.residual != 0 else 0, a.residual_block, VECTOR_BYTES,
                        a.bias + block * VECTOR_BYTES, a.limits, LANES,
                    ),
                )  # fmt: skip

    return run
