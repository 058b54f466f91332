"""Data movement between plain layouts: strided copies of any rank, gather along an axis, fill.

`plan_copy` turns a shape and two sets of strides into the kernel and the fields that copy fastest. Transpose, Slice
with any steps, Concat, Split, Expand, Tile, the interior of Pad and DepthToSpace are strided copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod

import numpy as np

from cpuruntime.compiler import typed
from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel, factory, inline, kernel, lazy, record

once = lazy("cpuruntime.compiler.once")
shuffle = lazy("cpuruntime.compiler.shuffle")
simd = lazy("cpuruntime.compiler.simd")

MAX_RANK = 8
PIECE_BYTES = 1 << 14  # a longer contiguous run is split into pieces of this many bytes, for threads to share
STRIP = 4  # tiles side by side in a strip of a transpose
FEW = 8  # rows that are not worth a loop of their own

# Dimensions are numbered from the innermost: 0 and 1 are loops, the others (from 2 on) are counted by `outer`. An
# unused dimension has size 1.
COPY = record(
    "source target element rank outer",
    sizes=f"{MAX_RANK}i8", source_strides=f"{MAX_RANK}i8", target_strides=f"{MAX_RANK}i8",
)  # fmt: skip

GATHER = record("source target indices index_bytes fault outer axis count inner_bytes")

FILL = record("target size pattern")

NUMBERS = 8
COUNT = record("target count start step")
WRITE = record("target count", numbers=f"{NUMBERS}i8")


@inline
def copy_bytes(source, target, count):
    """Copies `count` bytes between places that do not overlap."""
    end = source + count
    shift = target - source
    if count >= VECTOR_BYTES:
        while source <= end - VECTOR_BYTES:
            shuffle.store_words(source + shift, shuffle.load_words(source))
            source += VECTOR_BYTES
        if source < end:
            shuffle.store_words(end - VECTOR_BYTES + shift, shuffle.load_words(end - VECTOR_BYTES))
        return
    while source <= end - 8:
        shuffle.copy8(source, source + shift)
        source += 8
    if source <= end - 4:
        shuffle.copy4(source, source + shift)
        source += 4
    while source < end:
        shuffle.copy1(source, source + shift)
        source += 1


@inline
def copy_element(source, target, size):
    """Copies one element of 1, 2, 4 or 8 bytes."""
    if size == 4:
        shuffle.copy4(source, target)
    elif size == 8:
        shuffle.copy8(source, target)
    elif size == 1:
        shuffle.copy1(source, target)
    else:
        shuffle.copy2(source, target)


@inline
def transpose_tile(source, source_stride, target, target_stride, rows, columns, lanes):
    """Transposes `rows` x `columns` floats, at most LANES each; target rows have `lanes`, zeros beyond `rows`."""
    if rows == LANES and columns == LANES:
        shuffle.transpose(source, source_stride, target, target_stride)
    else:
        shuffle.transpose_part(source, source_stride, target, target_stride, rows, columns, lanes)


@inline
def read_index(indices, number, size):
    """Index `number` of an array of int32 or int64, by its `size` in bytes."""
    return once.load_i64(indices + 8 * number) if size == 8 else np.int64(once.load_i32(indices + 4 * number))


@inline
def within(index, extent, fault):
    """The index counted from the start; one out of range is 0, and the int64 at `fault`, if not 0, becomes 1."""
    if index < 0:
        index += extent
    if index < 0 or index >= extent:
        index = 0
        if fault != 0:
            simd.store_i64(fault, 1)
    return index


@inline
def _outer_offsets(a, index):
    """Byte offsets of the `index`-th combination of the outer dimensions in source and target."""
    source, target = a.source, a.target
    for dimension in range(2, a.rank):
        size = a.sizes[dimension]
        position = index % size
        index //= size
        source += position * a.source_strides[dimension]
        target += position * a.target_strides[dimension]
    return source, target


@kernel(COPY)
def copy_runs(a, thread, threads):
    """Strided copy whose dimension 0 is a contiguous run of sizes[0] bytes on both sides."""
    run = a.sizes[0]
    pieces = max(1, (run + PIECE_BYTES - 1) // PIECE_BYTES)
    rows = a.sizes[1]
    items = a.outer * rows * pieces
    index, end = items * thread // threads, items * (thread + 1) // threads
    while index < end:
        source, target = _outer_offsets(a, index // (rows * pieces))
        row, piece = index // pieces % rows, index % pieces
        first = piece * PIECE_BYTES
        last = row + 1 if pieces > 1 else min(rows, row + end - index)
        for r in range(row, last):
            copy_bytes(
                source + r * a.source_strides[1] + first,
                target + r * a.target_strides[1] + first,
                min(PIECE_BYTES, run - first),
            )
        index += last - row


@kernel(COPY)
def copy_elements(a, thread, threads):
    """Strided copy element by element."""
    count, rows = a.sizes[0], a.sizes[1]
    items = a.outer * rows
    source_step, target_step = a.source_strides[0], a.target_strides[0]
    for index in range(items * thread // threads, items * (thread + 1) // threads):
        source, target = _outer_offsets(a, index // rows)
        source += index % rows * a.source_strides[1]
        target += index % rows * a.target_strides[1]
        for i in range(count):
            copy_element(source + i * source_step, target + i * target_step, a.element)


@kernel(COPY)
def copy_transposed(a, thread, threads):
    """Strided copy whose dimension 0 is contiguous in the target and dimension 1 in the source."""
    width, height = a.sizes[0], a.sizes[1]
    source_step, target_step = a.source_strides[0], a.target_strides[1]
    strips = (height + STRIP * LANES - 1) // (STRIP * LANES)
    columns = (width + LANES - 1) // LANES
    items = a.outer * strips * columns
    for index in range(items * thread // threads, items * (thread + 1) // threads):
        source, target = _outer_offsets(a, index // (strips * columns))
        x = index % columns * LANES
        top = index // columns % strips * (STRIP * LANES)
        wide = min(LANES, width - x)
        source += x * source_step
        target += x * a.element
        for y in range(top, min(height, top + STRIP * LANES), LANES):
            high = min(LANES, height - y)
            corner = target + y * target_step
            if a.element != 4:
                for j in range(high):
                    for i in range(wide):
                        place = corner + j * target_step + i * a.element
                        copy_element(source + i * source_step + (y + j) * a.element, place, a.element)
            elif high == LANES and wide == LANES:
                shuffle.transpose(source + y * 4, source_step, corner, target_step)
            else:
                shuffle.transpose_part(source + y * 4, source_step, corner, target_step, wide, high, wide)


@kernel(GATHER)
def gather(a, thread, threads):
    """target[o, i] = source[o, indices[i]] for `outer` x `count` slices of `inner_bytes`, indices of 4 or 8 bytes.

    Indices are taken as `within` takes them. With axis = 0 nothing is read or written.
    """
    items = a.outer * a.count if a.axis > 0 else 0
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        index = within(read_index(a.indices, item % a.count, a.index_bytes), a.axis, a.fault)
        source = a.source + (item // a.count * a.axis + index) * a.inner_bytes
        copy_bytes(source, a.target + item * a.inner_bytes, a.inner_bytes)


@kernel(FILL)
def fill(a, thread, threads):
    """Fills `size` bytes with an 8-byte pattern: an element's bytes repeated as often as they fit."""
    pieces = (a.size + PIECE_BYTES - 1) // PIECE_BYTES
    for piece in range(pieces * thread // threads, pieces * (thread + 1) // threads):
        place = a.target + piece * PIECE_BYTES
        end = min(place + PIECE_BYTES, a.target + a.size)
        while place <= end - 8:
            shuffle.store_pattern(place, a.pattern)
            place += 8
        rest = a.pattern
        while place < end:
            simd.store_u8(place, rest & 255)
            rest >>= 8
            place += 1


@cache
@factory
def write_numbers(dtype: str) -> Kernel:
    """Writes the first `count` whole numbers of the argument block itself as elements of a type."""
    store, as_element = typed.store(dtype), typed.as_element(dtype)

    @kernel(WRITE, name=f"write_numbers_{dtype}")
    def run(a, thread, threads):
        if thread == 0:
            for i in range(a.count):
                store(a.target, i, as_element(a.numbers[i]))

    return run


@cache
@factory
def count_up(dtype: str) -> Kernel:
    """target[i] = start + i * step for `count` whole numbers."""
    store, as_element = typed.store(dtype), typed.as_element(dtype)

    @kernel(COUNT, name=f"count_up_{dtype}")
    def run(a, thread, threads):
        for i in range(a.count * thread // threads, a.count * (thread + 1) // threads):
            store(a.target, i, as_element(a.start + i * a.step))

    return run


def _merged(dimensions: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Dimensions (size, source stride, target stride), innermost first, neighbours joined where both sides allow."""
    result: list[tuple[int, int, int]] = []
    for size, source, target in dimensions:
        if result:
            inner, inner_source, inner_target = result[-1]
            if source == inner * inner_source and target == inner * inner_target:
                result[-1] = (inner * size, inner_source, inner_target)
                continue
        result.append((size, source, target))
    return result


def plan_copy(
    shape: Sequence[int], source_strides: Sequence[int], target_strides: Sequence[int], element: int
) -> tuple[Kernel, dict[str, object]]:
    """The kernel that copies `shape` elements of `element` bytes (1, 2, 4, 8), and its fields but source and target.

    Strides are bytes; source strides may be zero or negative, target strides must not make elements overlap. Source and
    target are the addresses of the first elements; the two must not overlap in memory. ValueError when more than
    MAX_RANK dimensions remain after joining neighbours.
    """
    dimensions = [(n, s, t) for n, s, t in zip(shape, source_strides, target_strides) if n != 1]
    dimensions.sort(key=lambda d: (abs(d[2]), abs(d[1])))
    dimensions = _merged(dimensions)
    if dimensions and dimensions[0][1:] == (element, element):
        run = (dimensions[0][0] * element, 1, 1)
        # Rows are cheapest to step through: the first dimension of some size, or of one not known, becomes the inner
        # loop.
        rest = sorted(dimensions[1:], key=lambda d: isinstance(d[0], int) and d[0] < FEW)
        return copy_runs, _copy_fields([run, *rest], element)
    contiguous = next((d for d in dimensions[1:] if d[1] == element), None)
    if contiguous and contiguous[0] >= LANES // 4 and dimensions[0][2] == element:
        rest = [d for d in dimensions[1:] if d is not contiguous]
        return copy_transposed, _copy_fields([dimensions[0], contiguous, *rest], element)
    return copy_elements, _copy_fields(dimensions, element)


def _copy_fields(dimensions: list[tuple[int, int, int]], element: int) -> dict[str, object]:
    if len(dimensions) > MAX_RANK:
        raise ValueError(f"a copy over {len(dimensions)} separate dimensions; {MAX_RANK} are supported")
    padded = dimensions + [(1, 0, 0)] * (MAX_RANK - len(dimensions))
    sizes, sources, targets = (list(values) for values in zip(*padded))
    return {
        "element": element, "rank": max(2, len(dimensions)), "outer": prod(sizes[2:]),
        "sizes": sizes, "source_strides": sources, "target_strides": targets,
    }  # fmt: skip
