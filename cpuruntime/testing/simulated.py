"""SIMULATED, a device for tests of what runs on several devices: slow, failing, hanging or small as its properties say.

It computes as REFERENCE does. A distribution that wants it has the entry point
`SIMULATED = "cpuruntime.testing.simulated:SimulatedPlugin"` in the group `cpuruntime.devices`. There are four
instances, SIMULATED.0 to SIMULATED.3, each with settings of its own by `core.set_property`.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from cpuruntime.devices.interface import DeviceModel
from cpuruntime.devices.reference import ReferencePlugin
from cpuruntime.devices.serial import Compute
from cpuruntime.errors import DeviceUnavailableError, ModelError, OutOfMemoryError
from cpuruntime.graph import Graph
from cpuruntime.properties import Property, Settings
from cpuruntime.properties.declaration import Boolean, Choice, Group, Integer, Number
from cpuruntime.properties.words import Word

Check = Callable[[], None]
"""Called now and then while a thread sleeps; it raises to end that."""

_PAUSE = 0.01
"""Seconds between two checks."""


class Failure(Word):
    """What an inference fails of."""

    DEVICE = "DEVICE", 0
    MODEL = "MODEL", 1


_DECLARED = (
    ("COMPILE_MS", Number(0), 0.0, "How long compiling takes, in milliseconds."),
    ("LOAD_FAILS", Boolean(), False, "Whether compiling fails."),
    ("MEMORY_KB", Integer(0), 0, "KiB for the constants of all open models of an instance. 0: without limit."),
    ("INFERENCE_MS", Number(0), 0.0, "How long an inference takes beside what it computes, in milliseconds."),
    ("FAILS_AT", Integer(0), 0, "Which inference of a model is the first to fail, counted from 1. 0: none."),
    ("FAILURES", Integer(1), 1, "How many inferences fail from that one on."),
    ("FAILURE", Choice(Failure), Failure.DEVICE, "DEVICE: they might run elsewhere; MODEL: they would fail anywhere."),
    ("HANGS_AT", Integer(0), 0, "Which inference ends only when cancelled or by its deadline, from 1. 0: none."),
    ("UNPLUGGED", Boolean(), False, "Whether the device is gone: also models fail that were compiled before."),
)
PROPERTIES = {
    f"SIMULATED_{name}": Property(f"SIMULATED_{name}", values, default, group=Group.DEVICE, doc=doc)
    for name, values, default, doc in _DECLARED
}


class RealClock:
    """Time as it passes."""

    def sleep(self, milliseconds: float, check: Check) -> None:
        """Let this thread sleep; raises what `check` raises."""
        end = time.perf_counter() + milliseconds / 1000
        while (left := end - time.perf_counter()) > 0:
            check()
            time.sleep(min(left, _PAUSE))


class SimulatedClock:
    """Time that passes only by `advance`. May be used from several threads."""

    def __init__(self) -> None:
        self._now = 0.0
        self._ends: list[float] = []
        self._changed = threading.Condition()

    def sleep(self, milliseconds: float, check: Check) -> None:
        """Let this thread sleep; raises what `check` raises."""
        if milliseconds == 0:
            return
        with self._changed:
            end = self._now + milliseconds
            self._ends.append(end)
            self._changed.notify_all()
            try:
                while self._now < end:
                    check()
                    self._changed.wait(_PAUSE)
            finally:
                self._ends.remove(end)

    def advance(self, milliseconds: float) -> None:
        """Let time pass."""
        with self._changed:
            self._now += milliseconds
            self._changed.notify_all()

    def wait_for(self, sleepers: int) -> None:
        """Wait, in real time, until so many threads or more sleep."""
        with self._changed:
            self._changed.wait_for(lambda: sum(end > self._now for end in self._ends) >= sleepers)


clock: RealClock | SimulatedClock = RealClock()
"""The clock of all simulated devices; tests replace it."""


class SimulatedPlugin(ReferencePlugin):
    """Runs models as REFERENCE does, with the faults that its properties describe."""

    is_automatic = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._models: weakref.WeakSet[DeviceModel] = weakref.WeakSet()

    def properties(self) -> dict[str, Property]:
        return {**super().properties(), **PROPERTIES}

    def fact(self, name: str) -> Any:
        facts = {"FULL_DEVICE_NAME": "Simulates faults of devices", "AVAILABLE_DEVICES": ["0", "1", "2", "3"]}
        return facts[name] if name in facts else super().fact(name)

    def unavailable_reason(self) -> str | None:
        return "SIMULATED_UNPLUGGED says so." if self._settings.value("SIMULATED_UNPLUGGED") else None

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        clock.sleep(settings.value("SIMULATED_COMPILE_MS"), self._check_plugged)
        if settings.value("SIMULATED_LOAD_FAILS"):
            raise DeviceUnavailableError(f"Device {self.target} loads no model, as SIMULATED_LOAD_FAILS says.")
        limit = settings.value("SIMULATED_MEMORY_KB")
        taken = [_constants(graph), *(_constants(model.graph) for model in self._models if not model.closed)]
        if limit and sum(taken) > limit << 10:
            raise OutOfMemoryError(f"Device {self.target}: {sum(taken)} bytes of constants exceed its {limit} KiB.")
        model = super().compile(graph, settings)
        self._models.add(model)
        return model

    def prepare(self, graph: Graph, settings: Settings) -> Compute:
        return partial(self._infer, super().prepare(graph, settings), settings, count(1))

    def _infer(
        self, compute: Compute, settings: Settings, numbers: Iterator[int], inputs: Sequence[np.ndarray],
        begin: Callable[[int], None],
    ) -> Sequence[Any]:  # fmt: skip
        number = next(numbers)

        def check() -> None:
            begin(0)
            self._check_plugged()

        check()
        hangs = number == settings.value("SIMULATED_HANGS_AT")
        clock.sleep(math.inf if hangs else settings.value("SIMULATED_INFERENCE_MS"), check)
        check()
        first, failures = settings.value("SIMULATED_FAILS_AT"), settings.value("SIMULATED_FAILURES")
        if 0 < first <= number < first + failures:
            kind = DeviceUnavailableError if settings.value("SIMULATED_FAILURE") == "DEVICE" else ModelError
            raise kind(f"Device {self.target}: inference {number} fails, as SIMULATED_FAILS_AT says.")
        return compute(inputs, begin)

    def _check_plugged(self) -> None:
        if self._settings.value("SIMULATED_UNPLUGGED"):
            raise DeviceUnavailableError(f"Device {self.target} is lost: SIMULATED_UNPLUGGED says so.")


def _constants(graph: Graph) -> int:
    """Bytes of the constants of a graph."""
    values = {value for node in graph.nodes for value in node.inputs if value is not None}
    return sum(value.constant.nbytes for value in values if value.constant is not None)
