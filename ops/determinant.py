"""Det: determinants of square matrices, by elimination."""

from __future__ import annotations

import numpy as np

from cpuruntime.compiler.kernel import inline, kernel, lazy, record
from cpuruntime.compiler.typed import load, store

simd = lazy("cpuruntime.compiler.simd")

# `scratch` has a matrix of float64 for each thread.
ARGUMENTS = record("source target scratch batch size")

_read = load("float32")
_load, _store = load("float64"), store("float64")


@kernel(ARGUMENTS)
def determinant(a, thread, threads):
    """target[i] = determinant of source[i], `size` by `size` float32; computed in float64 with the largest pivots."""
    n = a.size
    matrix = a.scratch + thread * n * n * 8
    for item in range(a.batch * thread // threads, a.batch * (thread + 1) // threads):
        for place in range(n * n):
            _store(matrix, place, _read(a.source, item * n * n + place))
        simd.store_f32(a.target + 4 * item, _eliminate(matrix, n))


@inline
def _eliminate(matrix, n):
    """The determinant; the matrix is used up."""
    result = np.float64(1.0)
    for k in range(n):
        pivot = k
        for i in range(k + 1, n):
            if abs(_load(matrix, i * n + k)) > abs(_load(matrix, pivot * n + k)):
                pivot = i
        if pivot != k:
            result = -result
            for j in range(n):
                value = _load(matrix, k * n + j)
                _store(matrix, k * n + j, _load(matrix, pivot * n + j))
                _store(matrix, pivot * n + j, value)
        head = _load(matrix, k * n + k)
        if head == 0.0:
            return np.float64(0.0)
        result *= head
        for i in range(k + 1, n):
            factor = _load(matrix, i * n + k) / head
            for j in range(k + 1, n):
                _store(matrix, i * n + j, _load(matrix, i * n + j) - factor * _load(matrix, k * n + j))
    return result
