"""The end of what was submitted to a queue: a driver says it from a thread of its own, without the interpreter."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

import numpy as np

from cpuruntime.errors import DeviceUnavailableError
from cpuruntime.gpu_runtime import native
from cpuruntime.streams.memory import aligned_bytes
from cpuruntime.streams.native import signals

_NAP = 20_000_000
"""Nanoseconds after which a waiting thread asks the driver itself, as its callback may never come."""


_never_freed: list[object] = []
"""Memory of the host that drivers which hang may still write."""


_unused: list[np.ndarray] = []
"""Memory of ends that are gone, for new ones: a driver's callback may come after its end is known, and writes to it."""


def _memory() -> np.ndarray:
    """New memory of an end, which is never freed."""
    memory = aligned_bytes(native.STATUS + 8)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
    return memory


class End:
    """The end of one submission at a time. `address` is what the driver's callback is given.

    A callback that comes late or twice wakes the waiting thread and ends nothing: that is what `ask` says.

    Args:
        spin: nanoseconds for which a waiting thread does not sleep.
    """

    MOST_SECONDS = 600.0
    """After so long what is pending will never be over; arbitrary, longer than the watchdogs of drivers."""

    def __init__(self, spin: int = 0) -> None:
        try:
            self._memory = _unused.pop()
        except IndexError:
            self._memory = _memory()
        self.address: int = self._memory.ctypes.data
        self._count = self._memory.view(np.int32).data
        self._memory.view(np.int64)[signals.VALUE // 8 : signals.VALUE // 8 + 1] = spin
        self._ask: Callable[[], int | None] | None = None
        self.status = 0

    def begin(self, ask: Callable[[], int | None]) -> None:
        """A submission begins. `ask` returns None while it is not over, then 0, or the driver's number of an error."""
        self._ask = ask

    @property
    def is_pending(self) -> bool:
        """Whether a submission is not over, as far as the driver says. `status` is how the last one ended."""
        if self._ask is None:
            return False
        status = self._ask()
        if status is None:
            return True
        self._ask, self.status = None, status
        return False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is pending, at most for so many seconds, without the GIL: whether that is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            heard = self._count[0]
            if not self.is_pending:
                return True
            nap = _NAP
            if deadline is not None:
                nap = min(nap, int((deadline - time.monotonic()) * 1e9))
                if nap <= 0:
                    return False
            signals.wait.entry(self.address, heard, nap)

    def wait_long(self, held: object, what: str) -> None:
        """Wait until nothing is pending; an interrupt is held back until then.

        Raises DeviceUnavailableError, which begins with `what`, where that takes MOST_SECONDS: the driver may still
        write to memory then, which `held` keeps alive for ever.
        """
        interrupt, until = None, time.monotonic() + self.MOST_SECONDS
        while True:
            try:
                is_over = self.wait(max(until - time.monotonic(), 0))
                break
            except BaseException as error:
                interrupt = error
        if not is_over:
            _never_freed.append((self, held))
            raise hung(what)
        if interrupt is not None:
            raise interrupt

    def __del__(self) -> None:
        _unused.append(self._memory)

    def notify(self) -> None:
        """What a driver's callback does, from Python."""
        native.completed.entry(0, 0, self.address)


def hung(what: str) -> DeviceUnavailableError:
    """The error for what took `End.MOST_SECONDS`."""
    return DeviceUnavailableError(
        f"{what} in {End.MOST_SECONDS:.0f} s: its driver hangs. Start the process again, or the machine."
    )


def apart(call: Callable[[], object], what: str) -> None:
    """Call what may be stuck in a driver on a thread of its own, and wait until it returns; Ctrl-C ends the wait.

    Raises what it raises, and DeviceUnavailableError, which begins with `what`, where it takes `End.MOST_SECONDS`.
    """
    errors: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="cpuruntime-gpu-driver", daemon=True)
    thread.start()
    thread.join(End.MOST_SECONDS)
    if thread.is_alive():
        raise hung(what)
    if errors:
        raise errors.pop()  # which is then in no circle, and memory of its frames is free at once


def callback() -> int:
    """The address of the function that a driver calls at the end, as `native.completed`."""
    return native.completed.address
