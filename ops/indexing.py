"""Elements and slices by tensors of indices: GatherElements, GatherND, ScatterElements, ScatterND, OneHot.

Indices are int32 or int64; a negative one counts from the end of its axis. One out of range is replaced by 0, and then
the int64 at `fault` becomes 1. Elements are of 1, 2, 4 or 8 bytes. Scattering runs on one thread, since several updates
may have the same index; they are applied in order.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, record
from cpuruntime.compiler.typed import load, store
from cpuruntime.ops.functions.scalar_functions import BINARY as SCALAR_BINARY
from cpuruntime.ops.movement import copy_bytes, copy_element, read_index, within

simd = lazy("cpuruntime.compiler.simd")

AXES = 8
COORDINATES = f"{AXES}i8"
REDUCTIONS = {"add": "Add", "max": "Max", "min": "Min", "mul": "Mul"}

# Of `sizes` the innermost is the last; unused axes in front have size 1.
ELEMENTS = record(
    "source target indices fault element index_bytes extent axis_stride", sizes=COORDINATES, strides=COORDINATES,
)  # fmt: skip
# A tuple has `depth` coordinates along axes of `extents` elements that lie `strides` bytes apart.
TUPLES = record(
    "source target indices fault element index_bytes inner_bytes batches tuples batch_stride depth",
    extents=COORDINATES, strides=COORDINATES,
)  # fmt: skip
ONE_HOT = record("target indices values element index_bytes outer depth inner")


@inline
def _row(a, row):
    """Byte offset of a row of the innermost axis."""
    offset = 0
    for axis in range(AXES - 2, -1, -1):
        offset += row % a.sizes[axis] * a.strides[axis]
        row //= a.sizes[axis]
    return offset


@inline
def _rows(a):
    rows = 1
    for axis in range(AXES - 1):
        rows *= a.sizes[axis]
    return rows


@inline
def _elements(a, row, other, i):
    """Byte offset of element `i` of a row in the packed tensor, and its address in `other`, the one with strides."""
    number = row * a.sizes[AXES - 1] + i
    index = within(read_index(a.indices, number, a.index_bytes), a.extent, a.fault)
    return number * a.element, other + i * a.strides[AXES - 1] + index * a.axis_stride


@kernel(ELEMENTS)
def gather_elements(a, thread, threads):
    """target[i, j, k] = source[i, indices[i, j, k], k]: `sizes` are the target's, `strides` the source's with 0 for the
    axis of the indices, which has `extent` elements `axis_stride` bytes apart."""
    rows = _rows(a)
    for row in range(rows * thread // threads, rows * (thread + 1) // threads):
        start = a.source + _row(a, row)
        for i in range(a.sizes[AXES - 1]):
            offset, source = _elements(a, row, start, i)
            copy_element(source, a.target + offset, a.element)


@cache
@factory
def scatter_elements(reduction: str, dtype: str) -> Kernel:
    """target[i, indices[i, j, k], k] = source[i, j, k], or combined with what is there by one of `REDUCTIONS`.

    `sizes` are those of the indices and of the source (the updates), `strides` the target's with 0 for the axis.
    `dtype` matters to reductions only.
    """
    combine = _combine(reduction, dtype)

    @kernel(ELEMENTS, name=f"scatter_elements_{reduction}_{dtype}")
    def run(a, thread, threads):
        if thread == 0:
            for row in range(_rows(a)):
                start = a.target + _row(a, row)
                for i in range(a.sizes[AXES - 1]):
                    offset, target = _elements(a, row, start, i)
                    combine(a.source + offset, target, 1, a.element)

    return run


@inline
def _tuple(a, number):
    """Byte offset that tuple `number` names."""
    offset = 0
    for axis in range(a.depth):
        index = read_index(a.indices, number * a.depth + axis, a.index_bytes)
        offset += within(index, a.extents[axis], a.fault) * a.strides[axis]
    return offset


@kernel(TUPLES)
def gather_tuples(a, thread, threads):
    """target[b, t] = source[b, *indices[b, t]], slices of `inner_bytes`."""
    items = a.batches * a.tuples
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        source = a.source + item // a.tuples * a.batch_stride + _tuple(a, item)
        copy_bytes(source, a.target + item * a.inner_bytes, a.inner_bytes)


@cache
@factory
def scatter_tuples(reduction: str, dtype: str) -> Kernel:
    """target[*indices[t]] = source[t], slices of `inner_bytes`, or combined by one of `REDUCTIONS`."""
    combine = _combine(reduction, dtype)

    @kernel(TUPLES, name=f"scatter_tuples_{reduction}_{dtype}")
    def run(a, thread, threads):
        if thread == 0:
            for item in range(a.tuples):
                target = a.target + _tuple(a, item)
                combine(a.source + item * a.inner_bytes, target, a.inner_bytes // a.element, a.element)

    return run


def _combine(reduction: str, dtype: str) -> Inline:
    """combine(source, target, count, element size)."""
    if reduction == "none":
        return _replace
    # The functions for float64 serve any float.
    function = SCALAR_BINARY[REDUCTIONS[reduction], "float64" if dtype == "float32" else dtype]
    read, write = load(dtype), store(dtype)

    @inline
    def run(source, target, count, element):
        for i in range(count):
            write(target, i, function(read(target, i), read(source, i)))

    return run


@inline
def _replace(source, target, count, element):
    if count == 1:
        copy_element(source, target, element)
    else:
        copy_bytes(source, target, count * element)


@kernel(ONE_HOT)
def one_hot(a, thread, threads):
    """target[o, d, i] = values[1] where indices[o, i] is d, values[0] elsewhere; it may be beyond the depth."""
    rows = a.outer * a.depth
    for row in range(rows * thread // threads, rows * (thread + 1) // threads):
        outer, d = row // a.depth, row % a.depth
        for i in range(a.inner):
            index = read_index(a.indices, outer * a.inner + i, a.index_bytes)
            if index < 0:
                index += a.depth
            value = a.values + a.element if index == d else a.values
            copy_element(value, a.target + (row * a.inner + i) * a.element, a.element)
