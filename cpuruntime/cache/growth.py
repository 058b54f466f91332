"""Models that are stored again, in the background, after an inference had more of them planned."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

from cpuruntime.devices.interface import DeviceModel

PAUSE = 0.5
"""Seconds from a plan until the model is stored with it, and with others made meanwhile; arbitrary."""

SHARE = 0.05
"""Of the time, at most, a model is being stored; arbitrary."""

_mutex = threading.Lock()
_waiting: dict[Growth, DeviceModel] = {}


class Growth:
    """Has a model stored by `save` some time after it was planned for more, at the latest when the process ends.

    Refers to the model only while it waits for that.
    """

    def __init__(self, model: DeviceModel, save: Callable[[DeviceModel], None]) -> None:
        self._model, self._save = weakref.ref(model), save
        self._pause = PAUSE

    def note(self) -> None:
        """More of the model was planned. Returns at once."""
        model = self._model()
        if model is not None and self not in _waiting:
            _waiting[self] = model
            with suppress(RuntimeError):  # the interpreter ends, and has it stored
                threading.Thread(target=self._store_later, name="cpuruntime-store", daemon=True).start()

    def _store_later(self) -> None:
        time.sleep(self._pause)
        self.store()

    def store(self) -> None:
        """Stores the model, unless that was done since its last plan."""
        with _mutex:
            model = _waiting.pop(self, None)
            if model is not None:
                began = time.monotonic()
                self._save(model)
                self._pause = max(PAUSE, (time.monotonic() - began) / SHARE)


def store_all() -> None:
    """Stores what waits, after what is being stored."""
    for growth in [*_waiting]:
        growth.store()
    with _mutex:
        return


def _in_child() -> None:
    """A forked child stores nothing of its parent's."""
    global _mutex
    _mutex = threading.Lock()
    _waiting.clear()


atexit.register(store_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
