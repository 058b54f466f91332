"""Convolution of groups within a vector, on the blocked layout: depthwise, with a multiplier, or of few channels.

Rows above and below the image are skipped; to the left and right the source needs a halo as wide as the padding.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, LINE, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel, factory, kernel, lazy, made, record
from cpuruntime.ops.tiles.finish import make_buffer, make_finish
from cpuruntime.ops.tiles.share import row_at
from cpuruntime.ops.tiles.window import taps_before

simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record(
    "source source_batch source_block source_row target target_batch target_block target_row "
    "residual residual_batch residual_block residual_row weights bias batch blocks in_height height width "
    "kernel_height kernel_width stride_height source_step dilation_height source_run pad_top chunk limits",
    alpha="f4", beta="f4",
)  # fmt: skip


@cache
@factory
def depthwise(rows: int, taps: int, stride: int | None, inputs: int, outputs: int, activation: str = "") -> Kernel:
    """Convolution of groups of `inputs` channels to `outputs` by lane tiles of `rows` pixels (at most the width).

    The kernel's columns are runs of `taps`, see `make_lane_tile`; weights lie [block][height][run][input][taps][LANES].
    `source_step` is the byte distance of the source pixels of successive output pixels, `source_run` that of runs.
    Source points at the pixel of the first output pixel's first kernel column, in image row 0. `chunk` rows of a block
    come before those of the next one. `activation` is as in `convolution`.
    """
    tile = made("cpuruntime.ops.tiles.lane_tile", "make_lane_tile", rows, taps, stride, inputs, outputs)
    parts = outputs // inputs
    groups = "" if outputs == 1 else f"_{inputs}to{outputs}"
    steps = "" if stride is None else f"_s{stride}"

    activated = activation != ""
    buffer, finish = make_buffer(rows, 1, activation), make_finish(rows, 1, activation)
    name = f"depthwise_f32_{LANES}_{rows}_k{taps}{steps}{groups}" + (f"_{activation}" if activated else "")

    @kernel(ARGUMENTS, name=name, tile=(rows, 1))
    def run(a, thread, threads):
        scratch = buffer()
        items = a.batch * a.blocks * a.height
        item, end = items * thread // threads, items * (thread + 1) // threads
        runs = a.kernel_width // taps
        weight_row = runs * inputs * taps * VECTOR_BYTES
        fetch = (a.kernel_height * weight_row // LINE + a.chunk) // a.chunk * LINE
        while item < end:
            y, block, image = row_at(item, a.blocks, a.height, a.chunk)
            begin = y // a.chunk * a.chunk
            source = a.source + image * a.source_batch
            source += block // parts * a.source_block + block % parts * (VECTOR_BYTES // parts)
            target = a.target + image * a.target_batch + block * a.target_block
            residual = a.residual + image * a.residual_batch + block * a.residual_block
            weights = a.weights + block * a.kernel_height * weight_row
            last_row = min(a.height, begin + a.chunk, y + end - item)
            item += last_row - y
            while y < last_row:
                top = y * a.stride_height - a.pad_top
                first = taps_before(0, top, a.dilation_height, a.kernel_height)
                last = taps_before(a.in_height, top, a.dilation_height, a.kernel_height)
                # A part of the next block's weights: they come from far away when the images are small.
                ahead = weights + a.kernel_height * weight_row + fetch * (y - begin)
                for fetched in range(ahead, ahead + fetch, LINE):
                    simd.prefetch(fetched)
                line = source + (top + first * a.dilation_height) * a.source_row
                x = 0
                while x < a.width:
                    left = min(x, a.width - rows)
                    place = target + y * a.target_row + left * VECTOR_BYTES
                    tile(
                        line + left * a.source_step,
                        a.source_step,
                        weights + first * weight_row,
                        (last - first, runs, a.dilation_height * a.source_row, a.source_run, weight_row),
                        (
                            scratch if activated else place, 0, VECTOR_BYTES,
                            residual + y * a.residual_row + left * VECTOR_BYTES if a.residual != 0 else 0,
                            0, VECTOR_BYTES,
                            a.bias + block * VECTOR_BYTES, a.limits, LANES,
                        ),
                    )  # fmt: skip
                    finish(a, scratch, place, VECTOR_BYTES, 0, LANES)
                    x += rows
                y += 1

    return run
