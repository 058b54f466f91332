"""Depthwise convolution of bytes on the blocked layout, exact to the bit: each channel has a kernel of its own."""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES, byte_products
from cpuruntime.compiler.kernel import Kernel, factory, kernel, made
from cpuruntime.ops.quantised_panels import clear_line, pairs_of_rows, zero_point
from cpuruntime.ops.quantised_product import ARGUMENTS


@cache
@factory
def quantised_depthwise(rows: int, taps: int, stride: int, floats: bool) -> Kernel:
    """The kernel of lane tiles of `rows` pixels (at most the width) that slide over all `taps` kernel columns.

    Arguments are those of `quantised_product`: `groups` blocks, `kernel_height` pairs of kernel rows, `reach_y` panel
    rows from one to the next, `chunk` output rows that share a panel, see `pairs_of_rows`; `panel_down` of its rows lie
    between successive outputs. Weights lie [block][pair][taps][LANES][2].
    """
    tile = made("cpuruntime.ops.tiles.integer_lane_tile", "make_integer_lane_tile", rows, taps, stride, floats)
    size = 4 if floats else 1
    products = byte_products()
    features = products and f"{products},+fast-dpwssd"  # else LLVM makes two instructions of each
    name = f"quantised_depthwise{products}_{LANES}_{rows}_k{taps}_s{stride}" + ("_f32" if floats else "")

    @kernel(ARGUMENTS, name=name, tile=(rows, 1), features=features)
    def run(a, thread, threads):
        panel = a.scratch + thread * a.scratch_size
        chunks = (a.height + a.chunk - 1) // a.chunk
        items = a.batch * a.groups * chunks
        zero = zero_point(a)
        line_bytes, reach = a.panel_width * VECTOR_BYTES, (a.kernel_height - 1) * a.reach_y + 1
        empty = panel + ((a.chunk - 1) * a.panel_down + reach) * line_bytes
        clear_line(a, empty, zero)
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            block, chunk, image = item % a.groups, item // a.groups % chunks, item // a.groups // chunks
            begin = chunk * a.chunk
            end = min(a.height, begin + a.chunk)
            source = a.source + image * a.source_batch + block * a.source_block
            weights = a.weights + block * a.kernel_height * taps * VECTOR_BYTES
            lines = (end - 1 - begin) * a.panel_down + reach
            pairs_of_rows(a, panel, source, zero, begin * a.panel_down * a.step_y, lines, empty)
            for y in range(begin, end):
                line = panel + (y - begin) * a.panel_down * line_bytes
                target = a.target + image * a.target_batch + block * a.target_block + y * a.target_row
                residual = a.residual + image * a.residual_batch + block * a.residual_block + y * a.residual_row
                for x in range(0, a.width, rows):
                    left = min(x, a.width - rows)
                    tile(
                        line + left * stride * VECTOR_BYTES, weights, a.kernel_height, a.reach_y * line_bytes,
                        (
                            target + left * LANES * size, residual + left * LANES if a.residual != 0 else 0,
                            a.channels + block * 4 * VECTOR_BYTES, a.limits,
                        ),
                    )  # fmt: skip

    return run
