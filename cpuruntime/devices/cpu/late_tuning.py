"""Tuning after the start: a model that found all its kernels runs at once, and its candidates are measured later."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from cpuruntime.devices.interface import DeviceModel
from cpuruntime.errors import Error, printable
from cpuruntime.host import forks

if TYPE_CHECKING:
    from cpuruntime.devices.cpu.programs import Programs

log = logging.getLogger("cpuruntime")

HEAD_START = 1.0
"""Seconds that the first inferences have the processors for themselves; arbitrary."""
NICENESS = 10


class LateTuning:
    """A thread that measures the candidates of a model, which then plans itself again, between two inferences.

    Measuring ends when the model is dropped or closed, to which it refers in passing only.
    """

    def __init__(self, model: DeviceModel, programs: Programs) -> None:
        self._may_begin, self._over = threading.Event(), threading.Event()
        self._generation = forks.generation
        arguments = weakref.ref(model), weakref.ref(programs), self._may_begin, self._over
        threading.Thread(target=_tune, args=arguments, name="cpuruntime-tune", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more; in a forked child the thread is gone."""
        return self._over.is_set() or self._generation != forks.generation

    def wait(self, timeout: float | None) -> bool:
        """Begin at once, and wait for at most so many seconds: whether it is over."""
        self._may_begin.set()
        return self.is_over or self._over.wait(timeout)


def _tune(
    model: weakref.ref[DeviceModel], programs: weakref.ref[Programs], may_begin: threading.Event, over: threading.Event
) -> None:
    def is_wanted() -> bool:
        one = model()
        return one is not None and not one.closed

    def clock() -> float:
        if not is_wanted():
            raise Error("The model is closed.")
        return time.thread_time()  # others use the processors, too

    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    may_begin.wait(HEAD_START)
    measured = programs()
    if measured is not None and is_wanted():
        try:
            measured.measure(clock)
        except Exception as error:
            if is_wanted():
                name = printable(measured.name)
                log.warning("model '%s' stays with the kernels that estimates chose: %s", name, error)
    over.set()
