"""What tests of kernels share: memory with guard bytes around every array, blocked tensors, argument blocks.

A test makes its outputs with `guarded` or `blocked`, runs the kernel with `run` and compares `.array`; `run` fails when
the kernel writes outside of the array or when the result depends on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.ops.tiles import loops

GUARD_BYTES = 256
GUARD = 0xA5
UNWRITTEN = 0xFF
ALIGNMENT = 64


class Guarded:
    """An array in the middle of memory that nobody may write; gaps between strided elements count as such memory."""

    def __init__(self, array: np.ndarray, memory: np.ndarray, owned: np.ndarray):
        self.array, self._memory = array, memory
        self._elements = np.negative(owned.view(np.uint8))  # all bits of the array's bytes, none of the others
        self._outside = np.flatnonzero(~owned)
        self._before = memory[self._outside]

    @property
    def address(self) -> int:
        """Address of element 0."""
        return self.array.ctypes.data

    def check(self) -> None:
        """Fails when a byte outside of the array's elements has changed."""
        changed = self._outside[self._memory[self._outside] != self._before]
        if changed.size:
            first = changed[0] + self._memory.ctypes.data - self.address
            raise AssertionError(f"{changed.size} bytes outside were written, the first {first} from the array")

    def erase(self) -> None:
        """Makes every element unwritten again: NaN, -1, 255."""
        self._memory |= self._elements


def guarded(
    shape: tuple[int, ...], dtype: Any = np.float32, strides: tuple[int, ...] | None = None, offset: int = 0
) -> Guarded:
    """An unwritten array (NaN, -1, 255) between guard bytes.

    `strides` are bytes, not negative, C order when absent; `offset` moves the array that many bytes from an aligned
    address.
    """
    dtype = np.dtype(dtype)
    if strides is None:
        strides = np.empty(shape, np.uint8).strides
        strides = tuple(s * dtype.itemsize for s in strides)
    span = sum((n - 1) * s for n, s in zip(shape, strides)) + dtype.itemsize if 0 not in shape else 0
    raw = np.empty(span + offset + 2 * GUARD_BYTES + ALIGNMENT, np.uint8)
    skip = -raw.ctypes.data % ALIGNMENT
    memory = raw[skip : skip + span + offset + 2 * GUARD_BYTES]
    memory[:] = GUARD
    start = GUARD_BYTES + offset
    owned = np.zeros(memory.shape, bool)
    as_strided(owned[start:], (*shape, dtype.itemsize), (*strides, 1))[...] = True
    found = Guarded(np.ndarray(shape, dtype, memory, start, strides), memory, owned)
    found.erase()
    return found


def holding(data: np.ndarray, strides: tuple[int, ...] | None = None, offset: int = 0) -> Guarded:
    """A guarded copy of `data`, for inputs."""
    copy = guarded(data.shape, data.dtype, strides, offset)
    copy.array[...] = data
    return copy


class Blocked(Guarded):
    """A guarded tensor in the blocked layout; `.array` is [N][blocks][H][W][LANES] without the halo."""

    channels: int

    def fields(self, name: str) -> dict[str, int]:
        """The fields of an argument block that describe this tensor, e.g. source, source_batch, source_block, ..."""
        batch, block, row = self.array.strides[:3]
        return {name: self.address, f"{name}_batch": batch, f"{name}_block": block, f"{name}_row": row}

    def plain(self) -> np.ndarray:
        """A copy as [N, C, H, W], pad lanes left out."""
        n, blocks, height, width, lanes = self.array.shape
        return self.array.transpose(0, 1, 4, 2, 3).reshape(n, blocks * lanes, height, width)[:, : self.channels].copy()


def blocked(
    shape: tuple[int, int, int, int], halo: tuple[int, int, int, int] = (0, 0, 0, 0), halo_value: float = 0.0
) -> Blocked:
    """An unwritten blocked tensor of [N, C, H, W] with a halo of (top, left, bottom, right) pixels of `halo_value`."""
    n, channels, height, width = shape
    top, left, bottom, right = halo
    blocks, rows, pixels = -(-channels // LANES), top + height + bottom, left + width + right
    whole = guarded((n, blocks, rows, pixels, LANES))
    whole.array[...] = halo_value
    inside = (slice(None), slice(None), slice(top, top + height), slice(left, left + width))
    owned = np.zeros(whole._memory.shape, bool)
    start = whole.address - whole._memory.ctypes.data
    as_strided(owned[start:], (*whole.array.shape, 4), (*whole.array.strides, 1))[inside] = True
    tensor = Blocked(whole.array[inside], whole._memory, owned)
    tensor.channels = channels
    tensor.erase()
    return tensor


def blocked_holding(
    data: np.ndarray, halo: tuple[int, int, int, int] = (0, 0, 0, 0), halo_value: float = 0.0, pad_lane: float = 0.5
) -> Blocked:
    """`data` [N, C, H, W] as a blocked tensor; lanes beyond the channels hold `pad_lane`."""
    tensor = blocked(data.shape, halo, halo_value)
    n, blocks, height, width, lanes = tensor.array.shape
    full = np.full((n, blocks * lanes, height, width), pad_lane, np.float32)
    full[:, : data.shape[1]] = data
    tensor.array[...] = full.reshape(n, blocks, lanes, height, width).transpose(0, 1, 3, 4, 2)
    return tensor


def block(kernel: Kernel, **fields: float) -> np.ndarray:
    """An argument block of `kernel`; every field has to be given."""
    names = kernel.arguments.names or ()
    assert set(names) == set(fields), f"{kernel}: fields {sorted(set(names) ^ set(fields))} do not fit"
    record = np.zeros((), kernel.arguments)
    for name, value in fields.items():
        record[name] = value
    return record


def run(kernel: Kernel, *outputs: Guarded, threads: tuple[int, ...] = (1, 2, 3), **fields: float) -> None:
    """Runs `kernel` for each number of threads on erased outputs; all results have to be the same, bit for bit."""
    arguments = block(kernel, **fields)
    first: list[bytes] = []
    for count in threads:
        for output in outputs:
            output.erase()
        kernel(arguments, threads=count)
        for output in outputs:
            output.check()
        results = [output.array.tobytes() for output in outputs]
        first = first or results
        assert results == first, f"{kernel}: {count} threads give another result than {threads[0]}"


def run_nest(kernel: Kernel, target: Guarded, *operands: Guarded, repeat: bool = False, **fields: float) -> None:
    """Runs a kernel of the loop nest; operands broadcast to the target's shape."""
    shape = target.array.shape
    named = dict(zip(("target", "first", "second", "third"), (target, *operands)))
    walks = {n: loops.broadcast(o.array.shape, o.array.strides, shape) for n, o in named.items()}
    given = loops.nest(shape, repeat=repeat, **walks) | {n: o.address for n, o in named.items()} | fields
    missing = dict.fromkeys(set(kernel.arguments.names or ()) - given.keys(), 0)
    run(kernel, target, **missing, **given)


def edge_sizes() -> list[int]:
    """Lengths at which vector loops go wrong: around one vector, around an unrolled group of four, odd and long."""
    return [1, LANES - 1, LANES, LANES + 1, 4 * LANES - 1, 4 * LANES, 4 * LANES + 1, 8 * LANES, 131]


__all__ = [
    "LANES", "VECTOR_BYTES", "Blocked", "Guarded", "block", "blocked", "blocked_holding", "edge_sizes", "guarded",
    "holding", "run", "run_nest",
]  # fmt: skip
