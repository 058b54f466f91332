"""Signals: something to wait for, by spinning for a while and then sleeping in the kernel, without losing a wake-up."""

from __future__ import annotations

from cpuruntime.compiler.kernel import inline, kernel, lazy, record

simd = lazy("cpuruntime.compiler.simd")
system = lazy("cpuruntime.streams.native.system")

SIGNAL = record(count="i4", sleepers="i4", value="i8")
"""Something to wait for: `count` changes when it is notified, `value` comes with it, `sleepers` wait in the kernel.

It has a cache line to itself wherever it lies.
"""

SLEEPERS, VALUE = (SIGNAL.fields[name][1] for name in ("sleepers", "value"))
OTHERS_RAN, HOUR = 10_000, 3_600_000_000_000  # nanoseconds
# Words written by different threads lie so many bytes apart, since processors fetch lines in pairs.
LINE = 128


@inline
def notify_all(signal):
    """Notifies all who wait; what was written before is visible to them."""
    system.fetch_add(signal, 1)
    if system.load(signal + SLEEPERS) > 0:
        system.syscall(system.FUTEX, signal, system.FUTEX_WAKE_PRIVATE, system.EVERY_SLEEPER, 0)


@inline
def sleep(signal, count, timeout):
    """Sleeps until the signal's count is no longer `count`, for at most `timeout` nanoseconds; may wake earlier.

    No wake-up is lost: `notify_all` changes the count and then reads `sleepers`, a sleeper counts itself there and then
    lets the kernel compare the count, so at least one of the two sees the other.
    """
    system.fetch_add(signal + SLEEPERS, 1)
    system.futex_wait(signal, count, timeout)
    system.fetch_add(signal + SLEEPERS, -1)


@inline
def sleep_while(signal, count):
    while system.load(signal) == count:
        sleep(signal, count, HOUR)


@inline
def spin_while(signal, count, duration, stop):
    """Spins for `duration` ns, or until the word at `stop` is not 0; returns whether the count is no longer `count`."""
    start = system.now()
    while system.now() - start < duration and system.load(stop) == 0:
        for _ in range(32):
            if system.load(signal) != count:
                return True
            system.pause()
    return False


@inline
def yield_while(signal, count, duration, stop):
    """`spin_while`, offering the core to others."""
    start = system.now()
    while system.now() - start < duration and system.load(stop) == 0:
        if system.load(signal) != count:
            return True
        system.syscall(system.SCHED_YIELD, 0, 0, 0, 0)
    return False


@inline
def linger_while(signal, count, duration):
    """Spins for `duration` ns, offering the core to others; returns whether the count is no longer `count`.

    When others do want the core it returns early: a sleeper's wake-up is then faster than a spinning thread's turn.
    """
    start = system.now()
    moment, before = start, start
    while moment - start < duration and moment - before < OTHERS_RAN:
        for _ in range(16):
            if system.load(signal) != count:
                return True
            system.pause()
        system.syscall(system.SCHED_YIELD, 0, 0, 0, 0)
        before = moment
        moment = system.now()
    return system.load(signal) != count


@kernel(SIGNAL)
def notify(signal, value, unused):
    """Notifies all who wait, with a `value` unless that is 0."""
    address = system.address_of(signal)
    if value:
        simd.store_i64(address + VALUE, value)
    notify_all(address)


@kernel(SIGNAL)
def wait(signal, count, timeout):
    """Waits until the signal's count is no longer `count`, for about `timeout` nanoseconds; may return earlier.

    It spins for as many nanoseconds as the signal's value says, then sleeps. It returns when the process gets a signal
    of the other kind, so that the interpreter can handle Ctrl-C.
    """
    address = system.address_of(signal)
    if not linger_while(address, count, signal.value):
        sleep(address, count, timeout)


@kernel(SIGNAL)
def add(word, value, unused):
    """Adds to a word, atomically."""
    system.fetch_add(system.address_of(word), value)
