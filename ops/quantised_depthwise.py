"""Depthwise convolution of bytes on the blocked layout, exact to the bit: each channel has a kernel of its own."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel, factory, kernel, made
from cpuruntime.ops.quantised_panels import from_blocks, zero_point
from cpuruntime.ops.quantised_product import ARGUMENTS


@cache
@factory
def quantised_depthwise(rows: int, taps: int, stride: int, floats: bool) -> Kernel:
    """The kernel of lane tiles of `rows` pixels (at most the width) that slide over all `taps` kernel columns.

    Arguments are those of `quantised_product`: `groups` blocks, `kernel_height` pairs of kernel rows, `walk_row` panel
    bytes from one to the next, `chunk` output rows that share a panel. Weights lie [block][pair][taps][LANES][2].
    """
    tile = made("cpuruntime.ops.tiles.integer_lane_tile", "make_integer_lane_tile", rows, taps, stride, floats)
    stage = from_blocks("ubs")
    size = 4 if floats else 1
    name = f"quantised_depthwise_{LANES}_{rows}_k{taps}_s{stride}" + ("_f32" if floats else "")

    @kernel(ARGUMENTS, name=name, tile=(rows, 1))
    def run(a, thread, threads):
        panel = a.scratch + thread * a.scratch_size
        chunks = (a.height + a.chunk - 1) // a.chunk
        items = a.batch * a.groups * chunks
        zero = zero_point(a)
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            chunk, block, image = item % chunks, item // chunks % a.groups, item // chunks // a.groups
            begin = chunk * a.chunk
            end = min(a.height, begin + a.chunk)
            source = a.source + image * a.source_batch + block * a.source_block
            down = (end - 1 - begin) * a.panel_down + a.reach_y
            stage(a, panel, source, zero, begin * a.panel_down, down, 0, a.panel_width)
            weights = a.weights + block * a.kernel_height * taps * VECTOR_BYTES
            for y in range(begin, end):
                line = panel + (y - begin) * a.panel_down * a.panel_width * LANES
                target = a.target + image * a.target_batch + block * a.target_block + y * a.target_row
                residual = a.residual + image * a.residual_batch + block * a.residual_block + y * a.residual_row
                for x in range(0, a.width, rows):
                    left = min(x, a.width - rows)
                    tile(
                        line + left * stride * LANES, weights, a.kernel_height, a.walk_row,
                        (
                            target + left * LANES * size, residual + left * LANES if a.residual != 0 else 0,
                            a.channels + block * 4 * VECTOR_BYTES, zero, a.limits,
                        ),
                    )  # fmt: skip

    return run
