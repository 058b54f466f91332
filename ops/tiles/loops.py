"""The loop nest of elementwise kernels: up to six dimensions, every operand with byte strides of its own.

`nest` turns a shape and the operands' strides into the fields of an argument block, with as few dimensions as they
allow; so a kernel runs on plain tensors, broadcast ones and blocked ones with a halo alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, inline, kernel, record

DIMENSIONS = 6
OPERANDS = ("target", "first", "second", "third")
# Stride of the innermost dimension of a float32 operand that repeats one vector: its dimension spans whole pixels.
REPEAT = -1
# Rows are cut into chunks of this many elements for threads; a multiple of any vector, so a cut never shows in results.
CHUNK = 4096

# Dimension 5 is the innermost. `first`, `second`, `third` are the inputs in order; a kernel ignores those it has not.
NEST = record(
    *(f"{name}{d}" for name in ("size", *OPERANDS) for d in range(DIMENSIONS)), *OPERANDS, "clamp",
    alpha="f4", beta="f4", low="f4", high="f4",
)  # fmt: skip


def contiguous(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Byte strides of a row-major array."""
    strides, step = [], itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def broadcast(shape: Sequence[int], strides: Sequence[int], result: Sequence[int]) -> tuple[int, ...]:
    """Strides that walk an operand of `shape` over the dimensions of `result`, after NumPy's broadcasting rules.

    Raises ValueError when the shapes do not fit.
    """
    missing = len(result) - len(shape)
    if missing < 0 or any(s not in (1, r) for s, r in zip(shape, result[missing:])):
        raise ValueError(f"shape {list(shape)} does not broadcast to {list(result)}")
    return (0,) * missing + tuple(0 if s == 1 else stride for s, stride in zip(shape, strides))


def collapse(
    shape: Sequence[int], *operands: Sequence[int], repeat: bool = False
) -> tuple[list[int], list[list[int]]]:
    """The same walk with fewer dimensions: those of size 1 dropped, adjacent ones merged where every operand allows it.

    `operands` are byte strides, the target's first. With `repeat` (for float32 arithmetic) a last dimension of one
    vector that some inputs repeat along the dimension before is merged too, as their stride `REPEAT`.
    """
    kept = [d for d, size in enumerate(shape) if size != 1]
    sizes = [shape[d] for d in kept]
    strides = [[operand[d] for d in kept] for operand in operands]
    if repeat and _repeats(sizes, strides):
        for operand in strides:
            operand[-2:] = [REPEAT if operand[-2:] == [0, 4] else operand[-1]]
        sizes[-2:] = [sizes[-2] * LANES]
    for d in range(len(sizes) - 2, -1, -1):
        if all(_merges(operand[d], operand[d + 1], sizes[d + 1]) for operand in strides):
            sizes[d : d + 2] = [sizes[d] * sizes[d + 1]]
            for operand in strides:
                del operand[d]
    return sizes, strides


def _merges(outer: int, inner: int, size: int) -> bool:
    return outer == (0 if inner == REPEAT else inner * size)


def _repeats(sizes: list[int], strides: list[list[int]]) -> bool:
    if len(sizes) < 2 or sizes[-1] != LANES:
        return False
    pairs = [tuple(operand[-2:]) for operand in strides]
    whole, again, still = (VECTOR_BYTES, 4), (0, 4), (0, 0)
    fits = again in pairs and pairs[0] == whole and whole in pairs[1:]
    return fits and all(pair in (whole, again, still) for pair in pairs)


def nest(shape: Sequence[int], repeat: bool = False, **strides: Sequence[int]) -> dict[str, int]:
    """The size and stride fields of a `NEST` record for operands given as target=, first=, second=, third=.

    Raises ValueError when more than six dimensions remain after collapsing.
    """
    sizes, walks = collapse(shape, *strides.values(), repeat=repeat)
    absent = DIMENSIONS - len(sizes)
    if absent < 0:
        raise ValueError(f"an elementwise loop has at most {DIMENSIONS} dimensions; {list(shape)} needs {len(sizes)}")
    fields = {f"size{d}": size for d, size in enumerate([1] * absent + sizes)}
    for name, walk in zip(strides, walks):
        fields |= {f"{name}{d}": stride for d, stride in enumerate([0] * absent + walk)}
    return fields


@inline
def share(a, thread, threads):
    """The first item of work of a thread, and the one after its last; an item is a chunk of a row."""
    items = a.size0 * a.size1 * a.size2 * a.size3 * a.size4 * ((a.size5 + CHUNK - 1) // CHUNK)
    return items * thread // threads, items * (thread + 1) // threads


@inline
def piece(a, item, end):
    """The next work: number of rows, elements of each, where they lie, and the first item after it.

    Where: the group of rows, counted over the dimensions 0 to 3; the row in it; the first element of each row.
    """
    chunks = (a.size5 + CHUNK - 1) // CHUNK
    row, chunk = item // chunks, item % chunks
    group, y = row // a.size4, row % a.size4
    rows, pieces = 1, min(chunks - chunk, end - item)
    if chunks == 1:
        rows = min(a.size4 - y, end - item)
    begin = chunk * CHUNK
    count = min(a.size5, (chunk + pieces) * CHUNK) - begin
    return rows, count, group, y, begin, item + rows * pieces


@inline
def place(a, group, y, begin, base, stride0, stride1, stride2, stride3, stride4, stride5):
    """The address of an operand's element that `piece` says work begins at."""
    rest, d3 = group // a.size3, group % a.size3
    rest, d2 = rest // a.size2, rest % a.size2
    outer = rest // a.size1 * stride0 + rest % a.size1 * stride1 + d2 * stride2 + d3 * stride3
    return base + outer + y * stride4 + begin * max(stride5, 0)


@inline
def _addresses(a, group, y, begin):
    target = place(a, group, y, begin, a.target, a.target0, a.target1, a.target2, a.target3, a.target4, a.target5)
    first = place(a, group, y, begin, a.first, a.first0, a.first1, a.first2, a.first3, a.first4, a.first5)
    second = place(a, group, y, begin, a.second, a.second0, a.second1, a.second2, a.second3, a.second4, a.second5)
    third = place(a, group, y, begin, a.third, a.third0, a.third1, a.third2, a.third3, a.third4, a.third5)
    return target, first, second, third


def nest_kernel(name: str, span: Inline) -> Kernel:
    """The kernel that calls `span(arguments, target, first, second, third, count)` for every piece of a row.

    `span` works on `count` elements from the given addresses on, by the strides of dimension 5.
    """

    @kernel(NEST, name=name, family="elementwise")
    def run(a, thread, threads):
        item, end = share(a, thread, threads)
        while item < end:
            rows, count, group, y, begin, item = piece(a, item, end)
            target, first, second, third = _addresses(a, group, y, begin)
            for _ in range(rows):
                span(a, target, first, second, third, count)
                target += a.target4
                first += a.first4
                second += a.second4
                third += a.third4

    return run
