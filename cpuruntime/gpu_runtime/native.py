"""Commands to a driver, submitted without the interpreter: calls of C functions by address, and what one calls back.

Nothing here knows a driver: a command is the address of a function and its arguments.
"""

from __future__ import annotations

from cpuruntime.compiler.kernel import kernel, lazy, record
from cpuruntime.streams.native.signals import SIGNAL, notify_all

simd = lazy("cpuruntime.compiler.simd")
system = lazy("cpuruntime.streams.native.system")
calls = lazy("cpuruntime.gpu_runtime.calls")

ARGUMENTS = 11
WORDS = ARGUMENTS + 2
"""A command is int64[WORDS]: the function, its arguments, and the address of an int32 that holds its error, or 0 where
that is what the function returns."""

COMMANDS = record("table count failed error")
"""Commands to submit: int64[count][WORDS] at `table`. `failed` becomes the number of the one that failed, -1 for none,
and `error` what it said."""

STATUS = SIGNAL.itemsize
"""Where the memory of an end has the int32 that the driver called back with, behind its SIGNAL."""


@kernel(COMMANDS)
def submit(commands, unused, unused_too):
    """Calls the functions in their order, up to the first that fails."""
    commands.failed = -1
    for index in range(commands.count):
        row = commands.table + index * 8 * (11 + 2)
        error = calls.call(
            simd.load_i64(row),
            simd.load_i64(row + 8),
            simd.load_i64(row + 16),
            simd.load_i64(row + 24),
            simd.load_i64(row + 32),
            simd.load_i64(row + 40),
            simd.load_i64(row + 48),
            simd.load_i64(row + 56),
            simd.load_i64(row + 64),
            simd.load_i64(row + 72),
            simd.load_i64(row + 80),
            simd.load_i64(row + 88),
        )
        found = simd.load_i64(row + 96)
        if found:
            error = system.load(found)
        if error != 0:
            commands.failed = index
            commands.error = error
            return


@kernel(SIGNAL)
def completed(event, status, end):
    """What a driver calls, on any of its threads, with an event, its status and the address of an end's memory."""
    system.store(end + STATUS, status)
    notify_all(end)
