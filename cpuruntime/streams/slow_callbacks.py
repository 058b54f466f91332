"""Users' functions while they are called: those that go on for long are logged by name."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from cpuruntime.host.affinity import name_thread

log = logging.getLogger("cpuruntime")

LONG = 1.0
"""Seconds after which a call that goes on is logged; arbitrary."""

going_on: dict[int, Callable[..., Any]] = {}
"""The functions being called, by when their calls began on the clock of time.perf_counter_ns."""


def name_of(function: Callable[..., Any]) -> str:
    """How a function is called in its module."""
    function = getattr(function, "func", function)  # functools.partial
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if module else name


def names() -> str:
    """Those that go on."""
    return ", ".join(sorted({f"'{name_of(function)}'" for function in going_on.copy().values()}))


def log_long(now: int, known: Collection[int]) -> set[int]:
    """Logs calls that go on for LONG and did not begin at one of the `known` moments; returns when all such began."""
    found: dict[str, list[int]] = {}
    calls = {begun: function for begun, function in going_on.copy().items() if now - begun >= LONG * 1e9}
    for begun, function in calls.items():
        if begun not in known:
            found.setdefault(name_of(function), []).append(begun)
    for name, moments in found.items():
        several = f" ({len(moments)} calls)" if len(moments) > 1 else ""
        log.warning("callback '%s' has not returned for %.1f s%s", name, (now - min(moments)) / 1e9, several)
    return set(calls)


class _Watcher:
    """A thread that logs calls that go on for long. It ends when there have been no calls for a while.

    Attributes:
        awake: False when it has to be woken to see a call that was added to `going_on`.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """The thread does not exist, or not any more."""
        self.awake = False
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Has it look again."""
        with self._mutex, suppress(RuntimeError):  # no more threads
            if self._thread is None:
                thread = threading.Thread(target=self._watch, name="cpuruntime-calls", daemon=True)
                thread.start()
                self._thread = thread
            self.awake = True

    def _watch(self) -> None:
        name_thread("cpuruntime")  # not that of the thread for callbacks that started it
        known: set[int] = set()
        while True:
            time.sleep(LONG / 2)
            known = log_long(time.perf_counter_ns(), known)
            with self._mutex:
                if not going_on:
                    if not self.awake:
                        self._thread = None
                        return
                    self.awake = False


watcher = _Watcher()


def forked() -> None:
    """Called in a forked child, where the calls of other threads do not go on, nor the watcher."""
    going_on.clear()
    watcher.reset()
