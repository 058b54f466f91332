"""How threads divide images: by rows or by channels.

A value is read fastest by the core that wrote it. What another core has read has to be taken back from it, line by
line, before it can be written again: on Zen 4 7 ns a line, and 28 ns where the cores share no cache. So a step is
divided like the one before it. By rows, a window reads a few rows of other threads in each block, and threads wait for
lines that they share. By channels, the next product of all channels reads from all threads.
"""

from __future__ import annotations

from cpuruntime.compiler.isa import LANES, LINE
from cpuruntime.graph import Extent, Size, Value
from cpuruntime.program.plan.storage import image_shape

EDGE_LINES = 80
"""Lines of a block that take as long as the waits at the edge between two threads' rows: measured on Zen 4."""
WEIGHTS = 2
"""How many bytes of weights, which arrive while products are computed, take as long as one byte of another core's."""
DENSE = ("Conv", "QuantisedConvolution")


def by_rows(value: Value, threads: int) -> bool:
    """Whether threads divide the rows of an image between them.

    Of one that a product of all channels wrote, or of a concatenation with such a part.
    """
    _, _, height, width = image_shape(value.static_shape)
    producer = value.producer
    if threads == 1 or producer is None or isinstance(height, Size) or isinstance(width, Size):
        return False
    parts = producer.inputs if producer.op_type == "Concat" else [value]
    size = height * width * LANES * value.element_type.size
    return any(map(_is_dense, parts)) and height >= 2 * threads and size > EDGE_LINES * LINE


def _is_dense(value: Value | None) -> bool:
    producer = None if value is None else value.producer
    return producer is not None and producer.op_type in DENSE and producer.attributes["group"] == 1


def rows_together(value: Value, height: Extent, threads: int, most: Extent = 0) -> Extent:
    """Of `height` rows of a block, made from those of `value`, how many are worked on before the next block.

    At most `most` unless that is 0.
    """
    divided = by_rows(value, threads)
    if not divided and not most:
        return height
    chunks = -(-height // most) if most else 1
    return -(-height // (-(-chunks // threads) * threads if divided else chunks))


def products_by_rows(weights: Extent, activations: Extent, threads: int) -> bool:
    """Whether threads divide the pixels of a product; each then reads all weights. Sizes are in vectors."""
    if threads == 1 or isinstance(weights, Size) or isinstance(activations, Size):
        return False
    return weights <= WEIGHTS * activations
