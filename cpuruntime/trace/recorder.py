"""Recorders: rings of events, one recorder for each timeline file of the process.

Any thread may record, without a lock: a deque's `append` is atomic, and a full one drops its oldest event.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from cpuruntime.errors import InvalidArgumentError
from cpuruntime.trace.events import Event, Rings

log = logging.getLogger("cpuruntime")

SAMPLE_EVERY = 50_000_000
"""Nanoseconds between two looks at how often the quota has stopped the process."""

_mutex = threading.Lock()
_open: dict[Path, Recorder] = {}


class Recorder(Rings):
    """The events of one timeline.

    Attributes:
        sampler: says how often the quota has stopped the process; None where there is no quota.
        is_open: whether events are still recorded.
        numbers, requests: those of the next inference and of the next request.
        models: how many models record and are not closed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(perf_counter_ns())
        self.path = path
        self.sampler: Callable[[], int] | None = None
        self.is_open = True
        self.numbers, self.requests = count(1), count(1)
        self.models = 0
        self._next_sample = 0

    def sample(self, now: int) -> None:
        """Look how often the quota has stopped the process, unless that was done a moment ago."""
        if self.sampler is not None and now >= self._next_sample:
            self._next_sample = now + SAMPLE_EVERY
            self.throttled.append((now, self.sampler()))

    def write(self) -> None:
        """Write the file as of now. A failure is logged."""
        from cpuruntime.trace.timeline import lines  # not above: few processes write one

        if self.sampler is not None:
            self._next_sample = 0
            self.sample(perf_counter_ns())
        try:
            with open(self.path, "w", encoding="utf-8") as file:
                file.writelines(lines(self))
        except OSError as error:
            log.error("The timeline '%s' cannot be written: %s.", self.path, error.strerror)

    def close(self) -> None:
        """Write the file and record no more; a second call does nothing."""
        with _mutex:
            if not self.is_open:
                return
            self.is_open = False
            del _open[self.path]
        self.write()


def opened(path: str) -> Recorder:
    """The recorder for a file, from now on open.

    Raises InvalidArgumentError where the file cannot be written.
    """
    place = Path(os.path.abspath(path))
    with _mutex:
        found = _open.get(place)
        if found is None:
            try:
                open(place, "w").close()
            except OSError as error:
                raise InvalidArgumentError(
                    f"TRACE: '{path}' cannot be written: {error.strerror}; name a file in a folder that exists."
                ) from None
            found = _open[place] = Recorder(place)
        return found


def flush() -> None:
    """Write the files of recorders all of whose models are closed."""
    for recorder in [*_open.values()]:
        if recorder.models <= 0:
            recorder.write()


def mark(name: str, **facts: Any) -> None:
    """Record a moment, such as the change from one device to another, in all open timelines."""
    if _open:
        _record(Event(name, perf_counter_ns(), -1, this_thread(), facts))


@contextmanager
def span(name: str, **facts: Any) -> Iterator[dict[str, Any]]:
    """Record what the statement takes, such as a phase of compiling, in all open timelines; facts may be added."""
    began = perf_counter_ns()
    try:
        yield facts
    finally:
        if _open:
            _record(Event(name, began, perf_counter_ns() - began, this_thread(), facts))


def _record(event: Event) -> None:
    for recorder in [*_open.values()]:
        recorder.events.append(event)


def this_thread() -> tuple[int, str]:
    """The calling thread's number and name."""
    thread = threading.current_thread()
    return thread.ident or 0, thread.name


def _at_exit() -> None:
    for recorder in [*_open.values()]:
        recorder.close()


def _in_child() -> None:
    """A forked child records nothing: the files are its parent's."""
    global _mutex
    _mutex = threading.Lock()
    while _open:
        _open.popitem()[1].is_open = False


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
