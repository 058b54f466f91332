"""ReverseSequence: the first elements of each sequence in reverse, as many as its length says."""

from __future__ import annotations

from cpuruntime.compiler.kernel import kernel, lazy, record
from cpuruntime.ops.movement import copy_bytes

once = lazy("cpuruntime.compiler.once")
simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record("source target lengths fault steps batch step_stride batch_stride inner_bytes")


@kernel(ARGUMENTS)
def reverse_sequence(a, thread, threads):
    """target[step, sequence] = source[length - 1 - step, sequence] below the length, else source[step, sequence].

    Slices of `inner_bytes`; `lengths` are int64. One that is negative or above `steps` counts as 0, and the int64 at
    `fault` becomes 1.
    """
    items = a.steps * a.batch
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        step, sequence = item // a.batch, item % a.batch
        length = once.load_i64(a.lengths + 8 * sequence)
        if length < 0 or length > a.steps:
            length = 0
            simd.store_i64(a.fault, 1)
        place = length - 1 - step if step < length else step
        start = sequence * a.batch_stride
        copy_bytes(
            a.source + start + place * a.step_stride, a.target + start + step * a.step_stride, a.inner_bytes
        )  # fmt: skip
