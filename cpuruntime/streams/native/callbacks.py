"""Threads that call back: how one listens, another takes over when a callback takes long, and the others sleep.

The listener is notified of the end of tasks, and calls. An idle thread stands by: one of them, the guard, looks every
GRACE whether the same callback still runs, and sleeps while there are none. Nothing here touches the interpreter.
"""

from __future__ import annotations

from cpuruntime.compiler.kernel import inline, kernel, lazy
from cpuruntime.streams.native.signals import HOUR, LINE, SIGNAL, SLEEPERS, sleep

system = lazy("cpuruntime.streams.native.system")

GRACE = 500_000  # nanoseconds

# The words of an executor's callers, zeroed.
ENDS = 0  # a SIGNAL to the listener
CALLS = LINE  # a SIGNAL to one idle thread: a callback begins, or there is something to take
BUSY = 2 * LINE  # int32, whether the listener is in a callback
BEGUN = 2 * LINE + 4  # int32, callbacks begun by listeners
GUARDED = 2 * LINE + 8  # int32, whether there is a guard
OFFERED = 3 * LINE  # int32, whether any idle thread is to become the listener
DISMISSED = 3 * LINE + 4  # int32, for good: idle threads return
WORDS_BYTES = 4 * LINE


@inline
def wake_one(signal):
    """Notifies one of those who wait."""
    system.fetch_add(signal, 1)
    if system.load(signal + SLEEPERS) > 0:
        system.syscall(system.FUTEX, signal, system.FUTEX_WAKE_PRIVATE, 1, 0)


@kernel(SIGNAL)
def begin_call(words, unused, unused_too):
    """The listener begins a callback: sees to it that there is a guard."""
    address = system.address_of(words)
    system.fetch_add(address + BEGUN, 1)
    system.store(address + BUSY, 1)
    if not system.load(address + GUARDED):
        wake_one(address + CALLS)


@kernel(SIGNAL)
def offer(words, dismiss, unused):
    """Makes an idle thread the listener; with `dismiss` ends all of them, now and later."""
    address = system.address_of(words)
    if dismiss:
        system.store(address + DISMISSED, 1)
    system.store(address + OFFERED, 1)
    for word in (OFFERED, CALLS):
        if word == CALLS:
            system.fetch_add(address + word, 1)
        everyone = system.EVERY_SLEEPER if dismiss else 1
        system.syscall(system.FUTEX, address + word, system.FUTEX_WAKE_PRIVATE, everyone, 0)


@inline
def is_wanted(address):
    """Whether the calling idle thread returns: it is offered the listener's part, and nobody else was, or dismissed."""
    return system.load(address + DISMISSED) != 0 or system.replace(address + OFFERED, 1, 0) == 1


@inline
def guard(address):
    """The guard's watch: returns whether a callback takes longer than GRACE, or the thread is wanted otherwise."""
    while True:
        begun = system.load(address + BEGUN)
        system.futex_wait(address + OFFERED, 0, GRACE)
        if is_wanted(address):
            return True
        if system.load(address + BEGUN) == begun:
            return system.load(address + BUSY) != 0


@kernel(SIGNAL)
def stand_by(words, unused, unused_too):
    """An idle thread: returns when it is to become the listener, or is dismissed.

    No callback is left without a guard: the listener sets BUSY and then reads GUARDED, a guard that leaves does the
    opposite, so at least one of the two sees the other.
    """
    address = system.address_of(words)
    while True:
        count = system.load(address + CALLS)
        if is_wanted(address):
            return
        if system.load(address + BUSY) and system.replace(address + GUARDED, 0, 1) == 0:
            leaves = guard(address)
            system.store(address + GUARDED, 0)
            if leaves:
                return
        else:
            sleep(address + CALLS, count, HOUR)
