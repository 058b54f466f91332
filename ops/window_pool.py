"""Pools on the plain layout over up to three axes: largest elements of any type and their places, norms; and back."""

from __future__ import annotations

from functools import cache

import numpy as np

from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, record
from cpuruntime.compiler.typed import FLOATS, as_element, load, store
from cpuruntime.ops.functions.double_math import power as raised
from cpuruntime.ops.movement import copy_element

once = lazy("cpuruntime.compiler.once")
scalars = lazy("cpuruntime.compiler.scalars")
simd = lazy("cpuruntime.compiler.simd")

# Of depth, height and width.
WINDOW = record(
    "source target indices planes by_columns", extents="3i8", counts="3i8", window="3i8", strides="3i8",
    dilations="3i8", pads="3i8",
)  # fmt: skip
UNPOOL = record("source indices target fault element size planes", extents="4i8", wanted="4i8")


@cache
@factory
def max_pool(dtype: str) -> Kernel:
    """target[n, z, y, x] = the largest element of a window of source[n], the first of equal ones; NaN is the largest.

    `indices`, if not 0, get the number of the element among those of all planes, within a plane by columns if
    `by_columns`. A window beside the elements gives the least number and the index before the plane.
    """
    least = -np.inf if dtype in FLOATS else int(np.iinfo(dtype).min)
    return _windows(f"window_max_pool_{dtype}", dtype, least, _larger, _second, _same)


@cache
@factory
def norm_pool(p: int) -> Kernel:
    """target[n, z, y, x] = the norm of power `p`, at least 1, of a window of source[n], in float32."""

    @inline
    def add(total, value):
        size = abs(value)
        term = size
        for _ in range(p - 1):
            term *= size
        return total + term

    @inline
    def root(total):
        if p == 1:
            return total
        return scalars.square_root(total) if p == 2 else raised(np.float64(total), 1 / p)

    return _windows(f"norm_pool_{p}", "float32", 0, _always, add, root)


@inline
def _larger(best, value, found):
    return found < 0 or value > best or (value != value and best == best)


@inline
def _always(total, value, found):
    return True


@inline
def _second(best, value):
    return value


@inline
def _same(value):
    return value


def _windows(
    name: str, dtype: str, start: float, takes: Inline, combined: Inline, function: Inline
) -> Kernel:  # fmt: skip
    """takes(result so far, element, place of the element taken so far or -1) says whether it is combined with it."""
    read, write, element = load(dtype), store(dtype), as_element(dtype)

    @kernel(WINDOW, name=name)
    def run(a, thread, threads):
        depth, height, width = a.extents[0], a.extents[1], a.extents[2]
        volume, rows = depth * height * width, a.counts[0] * a.counts[1]
        items = a.planes * rows
        for item in range(items * thread // threads, items * (thread + 1) // threads):
            plane, row = item // rows, item % rows
            front = row // a.counts[1] * a.strides[0] - a.pads[0]
            top = row % a.counts[1] * a.strides[1] - a.pads[1]
            for x in range(a.counts[2]):
                left = x * a.strides[2] - a.pads[2]
                result, found = element(start), -1
                for i in range(a.window[0]):
                    d = front + i * a.dilations[0]
                    if d < 0 or d >= depth:
                        continue
                    for j in range(a.window[1]):
                        h = top + j * a.dilations[1]
                        if h < 0 or h >= height:
                            continue
                        for k in range(a.window[2]):
                            w = left + k * a.dilations[2]
                            if w < 0 or w >= width:
                                continue
                            value = read(a.source, plane * volume + (d * height + h) * width + w)
                            if takes(result, value, found):
                                result = combined(result, value)
                                by_columns = d + depth * (h + height * w)
                                found = by_columns if a.by_columns != 0 else (d * height + h) * width + w
                place = item * a.counts[2] + x
                write(a.target, place, function(result))
                if a.indices != 0:
                    simd.store_i64(a.indices + 8 * place, plane * volume + found)

    return run


@kernel(UNPOOL)
def max_unpool(a, thread, threads):
    """target[where indices[i] lies in `planes` volumes of `extents`] = source[i], the last of one place; target has
    the extents `wanted`, both of channel, depth, height and width, and holds zeros before.

    Elements have `element` bytes. A place out of range is left out and sets the int64 at `fault` to 1.
    """
    if thread > 0:
        return
    for i in range(a.size):
        rest = once.load_i64(a.indices + 8 * i)
        if rest < 0:
            simd.store_i64(a.fault, 1)
            continue
        place, step, fits = 0, 1, True
        for axis in range(3, -1, -1):
            at = rest % a.extents[axis]
            rest //= a.extents[axis]
            fits = fits and at < a.wanted[axis]
            place += at * step
            step *= a.wanted[axis]
        if fits and rest < a.planes:
            copy_element(a.source + i * a.element, a.target + (place + rest * step) * a.element, a.element)
        else:
            simd.store_i64(a.fault, 1)
