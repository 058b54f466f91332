"""What a compiled model and its requests share."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any

from cpuruntime.api.ports import PortFacts, Ports
from cpuruntime.api.runtime_model import Outline
from cpuruntime.devices.interface import DeviceModel
from cpuruntime.devices.ports import PortInfo
from cpuruntime.host.interrupts import uninterrupted


class Shared:
    """What a compiled model and all its requests share; when the last of them is gone, the device's model is closed."""

    def __init__(
        self,
        device: DeviceModel,
        compiled_model: Callable[[Shared], Any],
        defaults: Sequence[PortInfo] = (),
        compile_with: Callable[[Collection[str]], DeviceModel] | None = None,
        facts: PortFacts | None = None,
        outline: Callable[[], Outline] | None = None,
    ) -> None:
        self.device = device
        self.compiled_model = compiled_model
        self.outline = outline
        self.defaults = {port.name: port for port in defaults}
        """The constants that may be given as inputs; `compile_with` compiles the model with some that are."""
        self._compile_with = compile_with
        self._variants: dict[frozenset[str], Shared] = {}
        self._lock = threading.Lock()
        self.ports = Ports(device.inputs, device.outputs, facts, any_shapes=bool(defaults))
        self.close = weakref.finalize(self, uninterrupted(device.close))

    @uninterrupted
    def close_all(self) -> None:
        """Close the device's model, and those with inputs for defaults."""
        self.close()
        for variant in self._variants.values():
            variant.close()

    def with_inputs(self, names: frozenset[str]) -> Shared:
        """The same model with the defaults of these names as inputs, which is compiled when it is first asked for."""
        assert self._compile_with is not None
        with self._lock:
            if names not in self._variants:
                self._variants[names] = Shared(self._compile_with(names), self.compiled_model)
            return self._variants[names]
