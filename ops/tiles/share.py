"""The order of the rows of blocked images, which threads divide between them."""

from __future__ import annotations

from cpuruntime.compiler.kernel import inline


@inline
def row_at(item, blocks, height, chunk):
    """The row, block and image of a row of work: `chunk` rows of a block come before those rows of the next block.

    So with all rows in one chunk threads take blocks, and with a chunk for each of them the same rows of all blocks.
    """
    image, rest = item // (blocks * height), item % (blocks * height)
    first, rows = 0, height
    if chunk < height:
        first = rest // (blocks * chunk) * chunk
        rows = min(chunk, height - first)
        rest -= blocks * first
    return first + rest % rows, rest // rows, image
