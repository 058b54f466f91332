"""What a compiled model and its requests share."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from cpuruntime.api.ports import Ports
from cpuruntime.devices.interface import DeviceModel


class Shared:
    """What a compiled model and all its requests share; when the last of them is gone, the device's model is closed."""

    def __init__(self, device: DeviceModel, compiled_model: Callable[[Shared], Any]) -> None:
        self.device = device
        self.compiled_model = compiled_model
        self.ports = Ports(device.inputs, device.outputs)
        self.close = weakref.finalize(self, device.close)
