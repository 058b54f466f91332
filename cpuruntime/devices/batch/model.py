"""A model whose requests run in batches of another device."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from cpuruntime.devices.batch.batcher import Batcher
from cpuruntime.devices.batch.request import BatchRequest, Slab
from cpuruntime.devices.batch.sizes import Sizes
from cpuruntime.devices.batch.window import Window
from cpuruntime.devices.explanation import Explanation
from cpuruntime.devices.interface import DeviceModel, DeviceRequest
from cpuruntime.properties import Settings

TIMEOUT = "AUTO_BATCH_TIMEOUT"


class BatchModel(DeviceModel):
    """The device's model, and those for batches of it. Without these its requests are the device's own.

    Args:
        label: the device's name.
        sizes: belongs to the model, which closes what is in it.
        settings: those of the compilation.
    """

    def __init__(self, label: str, sizes: Sizes, settings: Settings) -> None:
        single = self._single = sizes.single
        self._label = label
        self._sizes = sizes
        self._lock = threading.Lock()
        self._slab: Slab | None = None
        self._slot = 0
        self.batcher: Batcher | None = None
        if sizes.models:
            window = Window(sizes.times, sizes.slots, settings.value(TIMEOUT) * 10**6, sizes.turns)
            profiled = single.properties.get("PERF_COUNT", False)
            self.batcher = Batcher(single, sizes.models, sizes.workers, window, profiled)
        own = {TIMEOUT: settings.value(TIMEOUT)}
        super().__init__(single.inputs, single.outputs, {**settings.resolved(), **single.properties, **own})
        self.live = frozenset({TIMEOUT})

    def create_request(self) -> DeviceRequest:
        self.check_open()
        if self.batcher is None:
            return self._single.create_request()
        largest = self.batcher.window.largest
        with self._lock:
            if self._slab is None:
                self._slab = Slab(self.inputs, self.outputs, largest)
            slab, slot = self._slab, self._slot
            self._slot = (slot + 1) % slab.count
            if not self._slot:
                self._slab = None
        return BatchRequest(self.batcher, self._single.create_request(), self.inputs, slab, slot)

    def get_property(self, name: str) -> Any:
        own = name in ("SUPPORTED_PROPERTIES", TIMEOUT) or name not in self._single.properties
        if name == "OPTIMAL_NUMBER_OF_INFER_REQUESTS":
            return self._sizes.slots * max(self._sizes.models, default=1)
        return self.properties[name] if own else self._single.get_property(name)

    def set_property(self, values: Mapping[str, Any]) -> None:
        """Another bound on waiting, for groups that form from now on."""
        self.check_open()
        self.properties |= values
        if self.batcher is not None:
            self.batcher.window.limit = values[TIMEOUT] * 10**6

    def explain(self, measure: bool = False) -> Explanation:
        of_single = self._single.explain(measure)
        decisions = [*self._sizes.notes]
        if self.batcher is not None:
            times = self.batcher.window.times.copy()
            shown = ", ".join(f"{size} {time / 1e6:.3g} ms" for size, time in times.items())
            decisions.append(f"sizes in use, with their times: {shown}")
            counts = ", ".join(f"{count} of {size}" for size, count in self.batcher.counts.items() if count)
            decisions.append(f"groups so far: {counts or 'none'}")
        return Explanation(self._label, of_single.rows, [*decisions, *of_single.decisions])

    def wait_until_optimized(self, timeout: float | None = None) -> bool:
        return self._single.wait_until_optimized(timeout)

    def release_memory(self) -> None:
        for model in (self._single, *self._sizes.models.copy().values()):
            model.release_memory()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self.batcher is None:
            self._single.close()
        else:
            self.batcher.close()
