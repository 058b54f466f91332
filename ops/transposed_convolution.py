"""Transposed convolution on the blocked layout, as one ordinary convolution for each phase of the output.

With stride s, output pixels that are s apart see the same kernel elements; those with one remainder are a phase, and a
phase is a convolution of stride 1 by every s-th kernel element, mirrored. All phases and column tiles are rows of one
table, so that a single step shares them among threads. Otherwise the work is cut as in `convolution`: chunks of pixel
tiles, rows of the image beyond its borders skipped, zeros left and right of it.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel, factory, kernel, lazy, made, record
from cpuruntime.ops.tiles.window import taps_before

simd = lazy("cpuruntime.compiler.simd")

UNROLL = 4

# A column tile of a phase: byte offset of its first input block and pixel in the source, number of input blocks, byte
# offset of its weights, its first output block; the place of the phase's first pixel in the target; the source row of
# its first kernel row there; kernel elements; output rows and pixels in a row, at least as many as the tile's.
PHASE_TILE = record("source blocks weights block phase_y phase_x top kernel_height kernel_width height width")
(_SOURCE, _BLOCKS, _WEIGHTS, _BLOCK, _PHASE_Y, _PHASE_X, _TOP, _KERNEL_HEIGHT, _KERNEL_WIDTH, _HEIGHT, _WIDTH) = (
    8 * i for i in range(11)
)
_TILE_BYTES = PHASE_TILE.itemsize

ARGUMENTS = record(
    "source source_batch source_block source_row target target_batch target_block target_row "
    "residual residual_batch residual_block residual_row weights bias tiles tile_count batch in_height height width "
    "stride_height stride_width dilation_height source_column chunk limits"
)


@cache
@factory
def transposed_convolution(rows: int, columns: int) -> Kernel:
    """The kernel of a `rows` x `columns` tile.

    Weights lie [phase tile][block][kernel height][kernel width][LANES][columns][LANES]. `height` and `width` are the
    largest of all phases, strides those of the phases' pixels in the target, `dilation_height` and `source_column`
    (bytes) the distances of kernel elements in the source. `chunk` pixel tiles of a phase are worked on at once.
    """
    tile = made("cpuruntime.ops.tiles.register_tile", "make_tile", rows, columns, UNROLL, VECTOR_BYTES, False)

    @kernel(ARGUMENTS, name=f"transposed_convolution_f32_{LANES}_{rows}x{columns}", tile=(rows, columns))
    def run(a, thread, threads):
        tiles_x = (a.width + rows - 1) // rows
        tiles = a.height * tiles_x
        chunks = (tiles + a.chunk - 1) // a.chunk
        items = a.batch * chunks * a.tile_count
        step = a.stride_width * VECTOR_BYTES
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            entry = a.tiles + item % a.tile_count * _TILE_BYTES
            image, chunk = item // a.tile_count // chunks, item // a.tile_count % chunks
            blocks, block = simd.load_i64(entry + _BLOCKS), simd.load_i64(entry + _BLOCK)
            phase_y, phase_x = simd.load_i64(entry + _PHASE_Y), simd.load_i64(entry + _PHASE_X)
            kernel_height, kernel_width = simd.load_i64(entry + _KERNEL_HEIGHT), simd.load_i64(entry + _KERNEL_WIDTH)
            height, width = simd.load_i64(entry + _HEIGHT), simd.load_i64(entry + _WIDTH)
            source = a.source + image * a.source_batch + simd.load_i64(entry + _SOURCE)
            target = a.target + image * a.target_batch + block * a.target_block
            target += phase_y * a.target_row + phase_x * VECTOR_BYTES
            residual = a.residual + image * a.residual_batch + block * a.residual_block
            residual += phase_y * a.residual_row + phase_x * VECTOR_BYTES
            weights = a.weights + simd.load_i64(entry + _WEIGHTS)
            weight_row = kernel_width * LANES * columns * VECTOR_BYTES
            for t in range(chunk * a.chunk, min(tiles, chunk * a.chunk + a.chunk)):
                y, x = t // tiles_x, t % tiles_x * rows
                if y >= height or x >= width:
                    continue
                left = min(x, width - rows)
                top = y + simd.load_i64(entry + _TOP)
                first = taps_before(0, top, a.dilation_height, kernel_height)
                last = taps_before(a.in_height, top, a.dilation_height, kernel_height)
                at = residual + y * a.stride_height * a.residual_row + left * step
                tile(
                    source + (top + first * a.dilation_height) * a.source_row + left * VECTOR_BYTES,
                    0,
                    weights + first * weight_row,
                    0,
                    (
                        blocks, last - first, kernel_width, LANES // UNROLL,
                        a.source_block, a.dilation_height * a.source_row, a.source_column,
                        kernel_height * weight_row, weight_row, 0, 0,
                    ),
                    (
                        target + y * a.stride_height * a.target_row + left * step, a.target_block, step,
                        at if a.residual != 0 else 0, a.residual_block, step,
                        a.bias + block * VECTOR_BYTES, a.limits, LANES,
                    ),
                )  # fmt: skip

    return run
