"""Loop and Scan: what stands between two iterations of a body."""

from __future__ import annotations

from cpuruntime.compiler.kernel import kernel, lazy, record

simd = lazy("cpuruntime.compiler.simd")

ARGUMENTS = record("changes count condition faults fault_count left again")


@kernel(ARGUMENTS)
def iterate(a, thread, threads):
    """Prepares the next iteration; the int64 at `left` is the number of iterations left, this one included.

    Each of the `count` rows (address, bits, step) at `changes` has the int64 at an address changed: some bits turned
    over, a step added. The int64 at `again` becomes 1 if iterations are left, the byte at `condition` (unless that is
    0) is not 0, and the `fault_count` int64 at `faults` are 0; else 0. For one thread.
    """
    for row in range(a.count):
        change = a.changes + 24 * row
        word = simd.load_i64(change)
        simd.store_i64(word, (simd.load_i64(word) ^ simd.load_i64(change + 8)) + simd.load_i64(change + 16))
    left = simd.load_i64(a.left) - 1
    simd.store_i64(a.left, left)
    goes_on = left > 0 and (a.condition == 0 or simd.load_u8(a.condition) != 0)
    for fault in range(a.fault_count):
        goes_on = goes_on and simd.load_i64(a.faults + 8 * fault) == 0
    simd.store_i64(a.again, 1 if goes_on else 0)
