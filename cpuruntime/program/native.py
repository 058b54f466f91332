"""The kernels of plans for many shapes: they compute the numbers of a shape, and fill them in."""

from __future__ import annotations

import numpy as np

from cpuruntime.compiler.kernel import inline, kernel, lazy, record
from cpuruntime.streams.native.runner import ALONE, STEP_BYTES

simd = lazy("cpuruntime.compiler.simd")

FORMULAS = record("operations end terms first alignment")
"""What `evaluate` computes. Registers are given in bytes.

operations  address of int64[...][3]: what is done, and with which two numbers
end         where the operations end
terms       address of int64[...][2]: a coefficient and a register
first       the register that the first operation writes; each of the others writes the next one
alignment   of places
"""

OPERATION_BYTES, TERM_BYTES, ENTRY_BYTES = 24, 16, 32
MULTIPLY, DIVIDE, SUM, PLACE, BELOW, EQUAL, DIFFERENT, POSITIVE, NOT_NEGATIVE = range(9)
"""The operations. With registers a and b: their product; their quotient, for a positive b. With terms a to b - 1: their
sum; the register before, plus the largest of their registers, rounded up. Whether register a is below the number b.
Then conditions for register a.
"""

DONE, BROKEN, OVERFLOWN = 1, 0, -1
"""How an evaluation ended: all done, a condition does not hold, a number is too large."""

LARGEST = 2.0**53
"""Of numbers that float64 holds exactly."""

FILLING = record("entries end steps")
"""What `fill` writes.

entries  address of int64[...][4]: a word and the three that it is the sum of: two others, by their bytes in the words,
         and a number
end      where the entries end
steps    rows of the table of steps, with which the words begin
"""


@inline
def holds(kind, number):
    """Whether a condition holds."""
    if kind == EQUAL:
        return number == 0
    if kind == DIFFERENT:
        return number != 0
    return number > 0 if kind == POSITIVE else number >= 0


@inline
def sum_of(values, terms, first, end):
    """The sum of terms, and that of their magnitudes."""
    total, size = np.int64(0), 0.0
    for index in range(first, end):
        coefficient = simd.load_i64(terms + TERM_BYTES * index)
        number = simd.load_i64(values + simd.load_i64(terms + TERM_BYTES * index + 8))
        total += coefficient * number
        size += abs(np.float64(coefficient) * np.float64(number))
    return total, size


@inline
def largest_of(values, terms, first, end):
    most = np.int64(0)
    for index in range(first, end):
        most = max(most, simd.load_i64(values + simd.load_i64(terms + TERM_BYTES * index + 8)))
    return most


@kernel(FORMULAS)
def evaluate(formulas, values, unused):
    """Computes registers from those of the extents, and writes how that ended to the first one, which is 1."""
    operation, result = formulas.operations, values + formulas.first
    while operation < formulas.end:
        kind = simd.load_i64(operation)
        a, b = simd.load_i64(operation + 8), simd.load_i64(operation + 16)
        number, size = np.int64(0), 0.0
        if kind == SUM:
            number, size = sum_of(values, formulas.terms, a, b)
        elif kind == MULTIPLY:
            x, y = simd.load_i64(values + a), simd.load_i64(values + b)
            number, size = x * y, abs(np.float64(x) * np.float64(y))
        elif kind == DIVIDE:
            divisor = simd.load_i64(values + b)
            if divisor <= 0:
                simd.store_i64(values, BROKEN)
                return
            number = simd.load_i64(values + a) // divisor
        elif kind == PLACE:
            space = largest_of(values, formulas.terms, a, b) + formulas.alignment - 1
            number = simd.load_i64(result - 8) + space // formulas.alignment * formulas.alignment
            size = np.float64(number)
        elif kind == BELOW:
            number = np.int64(simd.load_i64(values + a) < b)
        elif not holds(kind, simd.load_i64(values + a)):
            simd.store_i64(values, BROKEN)
            return
        if size > LARGEST:
            simd.store_i64(values, OVERFLOWN)
            return
        simd.store_i64(result, number)
        operation += OPERATION_BYTES
        result += 8
    simd.store_i64(values, DONE)


@kernel(FILLING)
def fill(filling, words, shared):
    """Writes the words of all entries, then to `shared` the number of steps up to the last one for several threads."""
    entry = filling.entries
    while entry < filling.end:
        number = simd.load_i64(words + simd.load_i64(entry + 8)) + simd.load_i64(words + simd.load_i64(entry + 16))
        simd.store_i64(words + simd.load_i64(entry), number + simd.load_i64(entry + 24))
        entry += ENTRY_BYTES
    steps = filling.steps
    while steps > 0 and simd.load_i64(words + STEP_BYTES * steps - 8) & ALONE:
        steps -= 1
    simd.store_i64(shared, steps)
