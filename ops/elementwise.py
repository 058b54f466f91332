"""Unary, binary and ternary elementwise kernels on the loop nest of `loops`, broadcasting by strides.

float32 arithmetic runs on vectors; other element types, comparisons and casts run in scalar loops that the compiler
turns into vector code. The output may be an input's memory when the strides are the same. NaN passes through every
function, Relu, Clip, Max and Min included, and makes every comparison false.
"""

from __future__ import annotations

from functools import cache
from math import inf

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, lazy
from cpuruntime.compiler.typed import SIZES, convert, load, store, stored_as
from cpuruntime.ops.functions.activations import ACTIVATIONS
from cpuruntime.ops.functions.scalar_functions import BINARY as SCALAR_BINARY
from cpuruntime.ops.functions.scalar_functions import BOOLEAN_RESULT, SERIAL
from cpuruntime.ops.functions.scalar_functions import UNARY as SCALAR_UNARY
from cpuruntime.ops.functions.vector_math import power
from cpuruntime.ops.tiles.loops import nest_kernel

simd = lazy("cpuruntime.compiler.simd")


VECTOR_BINARY: dict[str, Inline] = {
    "Add": inline(lambda x, y: x + y),
    "Div": inline(lambda x, y: x / y),
    "Max": inline(lambda x, y: simd.select(x == x, simd.maximum(x, y), x)),
    "Min": inline(lambda x, y: simd.select(x == x, simd.minimum(x, y), x)),
    "Mul": inline(lambda x, y: x * y),
    "PRelu": inline(lambda x, slope: simd.select(x < 0.0, x * slope, x)),
    "Pow": power,
    "Sub": inline(lambda x, y: x - y),
}

# What there are kernels for, by operator and element type of the first input.
UNARY = {(op, "float32") for op in ACTIVATIONS} | SCALAR_UNARY.keys()
BINARY = {(op, "float32") for op in VECTOR_BINARY} | SCALAR_BINARY.keys()


@cache
@factory
def unary_kernel(op: str, dtype: str = "float32") -> Kernel:
    """target = op(first); (op, dtype) is one of `UNARY`.

    float32: `alpha` and `beta` are the parameters that `ACTIVATIONS` lists. The result has the type of the input, or is
    bool for the operators in `BOOLEAN_RESULT`.
    """
    if dtype == "float32" and op in ACTIVATIONS:
        span = _vector_unary(ACTIVATIONS[op].function)
    else:
        span = _scalar_unary(SCALAR_UNARY[op, dtype], dtype, "bool" if op in BOOLEAN_RESULT else dtype)
    return nest_kernel(f"{op}_{dtype}", span)


@cache
@factory
def binary_kernel(op: str, dtype: str = "float32") -> Kernel:
    """target = op(first, second); (op, dtype) is one of `BINARY`.

    The result has the type of the inputs, or is bool for the operators in `BOOLEAN_RESULT`. With float32 arithmetic it
    is limited to `low`..`high` when `clamp` is not zero (a fused Relu or Clip), and one input may have stride `REPEAT`.
    """
    if dtype == "float32" and op in VECTOR_BINARY:
        span = _vector_binary(VECTOR_BINARY[op])
    else:
        vectors = op not in SERIAL or (op, dtype) == ("Div", "float64")
        span = _scalar_binary(SCALAR_BINARY[op, dtype], dtype, "bool" if op in BOOLEAN_RESULT else dtype, vectors)
    return nest_kernel(f"{op}_{dtype}", span)


@cache
@factory
def cast_kernel(source: str, target: str) -> Kernel:
    """target = first as another type: floats to integers truncate and saturate (NaN is 0), integers wrap.

    Types are those of `typed.SIZES`: bool, integers, float16, bfloat16, float32 and float64 (the half types by way of
    float32). To bool is "not zero".
    """
    return nest_kernel(f"Cast_{source}_{target}", _scalar_unary(convert(source, target), source, target))


@cache
@factory
def where_kernel(size: int) -> Kernel:
    """target = second where first (bool) is set, else third, for elements of `size` bytes."""
    return nest_kernel(f"Where_{size}", _where(f"uint{8 * size}", size))


def _vector_unary(function: Inline) -> Inline:
    @inline
    def span(a, target, first, second, third, count):
        alpha, beta = simd.broadcast(a.alpha), simd.broadcast(a.beta)
        done, step = 0, 1
        if a.target5 == 4 and a.first5 == 4:
            done, step = count - count % LANES, LANES
            for i in range(0, done, LANES):
                simd.store(target + 4 * i, function(simd.load(first + 4 * i), alpha, beta))
        for i in range(done, count, step):
            lanes = min(step, count - i)
            x = simd.load_first(first + i * a.first5, lanes)
            simd.store_first(target + i * a.target5, function(x, alpha, beta), lanes)

    return span


@inline
def same_everywhere(address, stride):
    """The vector of an operand that does not move: one value, or with `REPEAT` one vector."""
    return simd.broadcast(simd.load_f32(address)) if stride == 0 else simd.load(address)


@inline
def some(address, stride, index, lanes):
    """The `lanes` values of an operand from `index` on: one value or vector that repeats, or what lies there."""
    if stride == 0:
        return simd.broadcast(simd.load_f32(address))
    return simd.load_first(address + index * max(stride, 0), lanes)


@inline
def limits(a):
    """The smallest and the largest result: `low` and `high`, or infinities when `clamp` is zero."""
    low, high = a.low if a.clamp != 0 else -inf, a.high if a.clamp != 0 else inf
    return simd.broadcast(low), simd.broadcast(high)


@inline
def limited(x, low, high):
    return simd.minimum(high, simd.maximum(low, x))


def _vector_binary(function: Inline) -> Inline:
    @inline
    def span(a, target, first, second, third, count):
        low, high = limits(a)
        moves, still = a.first5 == 4, a.first5 <= 0
        also_moves, also_still = a.second5 == 4, a.second5 <= 0
        done, step = 0, 1
        if a.target5 == 4 and (moves or still) and (also_moves or also_still) and (moves or also_moves):
            done, step = count - count % LANES, LANES
        if done != 0 and still:
            x = same_everywhere(first, a.first5)
            for i in range(0, done, LANES):
                simd.store(target + 4 * i, limited(function(x, simd.load(second + 4 * i)), low, high))
        elif done != 0 and also_still:
            y = same_everywhere(second, a.second5)
            for i in range(0, done, LANES):
                simd.store(target + 4 * i, limited(function(simd.load(first + 4 * i), y), low, high))
        else:
            for i in range(0, done, LANES):
                result = function(simd.load(first + 4 * i), simd.load(second + 4 * i))
                simd.store(target + 4 * i, limited(result, low, high))
        for i in range(done, count, step):
            lanes = min(step, count - i)
            x, y = some(first, a.first5, i, lanes), some(second, a.second5, i, lanes)
            simd.store_first(target + i * a.target5, limited(function(x, y), low, high), lanes)

    return span


def _scalar_unary(function: Inline, source: str, result: str) -> Inline:
    read, write = load(stored_as(source)), store(stored_as(result))
    source_size, result_size = SIZES[source], SIZES[result]

    @inline
    def span(a, target, first, second, third, count):
        if a.first5 == source_size and a.target5 == result_size:
            for i in range(count):
                write(target, i, function(read(first, i)))
        else:
            for i in range(count):
                write(target + i * a.target5, 0, function(read(first + i * a.first5, 0)))

    return span


def _scalar_binary(function: Inline, source: str, result: str, vectors: bool) -> Inline:
    """A loop for any strides; with `vectors` also loops that the compiler turns into vector code."""
    read, write = load(source), store(result)
    source_size, result_size = SIZES[source], SIZES[result]

    @inline
    def span(a, target, first, second, third, count):
        moves, also_moves = a.first5 == source_size, a.second5 == source_size
        if vectors and a.target5 == result_size and moves and also_moves:
            for i in range(count):
                write(target, i, function(read(first, i), read(second, i)))
        elif vectors and a.target5 == result_size and moves and a.second5 == 0:
            y = read(second, 0)
            for i in range(count):
                write(target, i, function(read(first, i), y))
        elif vectors and a.target5 == result_size and also_moves and a.first5 == 0:
            x = read(first, 0)
            for i in range(count):
                write(target, i, function(x, read(second, i)))
        else:
            for i in range(count):
                x, y = read(first + i * a.first5, 0), read(second + i * a.second5, 0)
                write(target + i * a.target5, 0, function(x, y))

    return span


def _where(dtype: str, size: int) -> Inline:
    test, read, write = load("bool"), load(dtype), store(dtype)

    @inline
    def span(a, target, first, second, third, count):
        fast = a.first5 == 1 and a.target5 == size
        if fast and a.second5 == size and a.third5 == size:
            for i in range(count):
                x, y = read(second, i), read(third, i)
                write(target, i, x if test(first, i) != 0 else y)
        elif fast and a.second5 == size and a.third5 == 0:
            y = read(third, 0)
            for i in range(count):
                x = read(second, i)
                write(target, i, x if test(first, i) != 0 else y)
        elif fast and a.second5 == 0 and a.third5 == size:
            x = read(second, 0)
            for i in range(count):
                y = read(third, i)
                write(target, i, x if test(first, i) != 0 else y)
        else:
            for i in range(count):
                x, y = read(second + i * a.second5, 0), read(third + i * a.third5, 0)
                write(target + i * a.target5, 0, x if test(first + i * a.first5, 0) != 0 else y)

    return span
