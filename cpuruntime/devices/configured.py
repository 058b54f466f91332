"""The properties of a device: facts that it answers, and settings that users and the environment make."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

from cpuruntime.devices.names import DeviceName
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.properties import Property, Settings, declared, from_environment, of_device, parse
from cpuruntime.properties.device import own_config


class Configured:
    """The properties of a plugin. May be used from several threads.

    `target` is the name as users wrote it, parsed and checked; `name` is the one under which the device is registered.
    """

    def __init__(self, target: DeviceName) -> None:
        self.target = target
        self.name = target.name
        self._settings = from_environment(self.properties())

    def properties(self) -> dict[str, Property]:
        """The properties the device has, by name: facts (RO) that `fact` answers, and settings (RW).

        By default those that are declared for every device, or for this one by name. Asked often.
        """
        return of_device(self.name)

    def fact(self, name: str) -> Any:
        """The value of a read-only property of `properties()`, apart from SUPPORTED_PROPERTIES.

        OPTIMIZATION_CAPABILITIES lists what results are right in: a device without "FP32" there is free to compute
        nothing.
        """
        facts = {
            "AVAILABLE_DEVICES": [""],
            "FULL_DEVICE_NAME": self.name,
            "DEVICE_ARCHITECTURE": platform.machine(),
            "OPTIMIZATION_CAPABILITIES": ["FP32"],
            "EXECUTION_DEVICES": [str(self.target)],
            "OPTIMAL_NUMBER_OF_INFER_REQUESTS": max(1, self._settings.value("NUM_STREAMS")),
            "RANGE_FOR_STREAMS": (1, os.cpu_count() or 1),
            "RANGE_FOR_ASYNC_INFER_REQUESTS": (1, 1, 1),
        }
        return facts[name]

    @property
    def label(self) -> str:
        """How error messages call the device."""
        return f"device {self.target}"

    def get_property(self, name: str) -> Any:
        """The device's value for `name`: a fact, or the setting that a compilation without one of its own would get.

        Raises:
            InvalidArgumentError: the device has no such property, or it is write only.
        """
        known = self.properties()
        declaration = declared(name, known, self.label)
        if declaration == "SUPPORTED_PROPERTIES":
            return {str(one): one.mutability for one in known.values()}
        if declaration.mutability == "WO":
            raise InvalidArgumentError(f"Property {declaration} of {self.label} is write only.")
        return self._settings.value(declaration) if declaration.writable else self.fact(declaration)

    def set_property(self, values: Mapping[str, Any]) -> None:
        """Make `values`, already parsed, the settings of later compilations; None makes it the environment's again."""
        again = from_environment(self.properties()) if None in values.values() else {}
        found = {name: again.get(name) if value is None else value for name, value in values.items()}
        found = {**self._settings, **found}
        self._settings = Settings(self.properties(), {k: v for k, v in found.items() if v is not None})

    def parse(self, config: Mapping[Any, Any], unsets: bool = False) -> Settings:
        """The parsed form of a configuration that a user wrote; with `unsets` None is a legal value, and stays.

        Raises:
            InvalidArgumentError: unknown or read-only property, or a wrong value.
            UnsupportedError: a value that is not implemented.
        """
        return parse(own_config(config, self.name), self.properties(), self.label, unsets)

    def settings(self, config: Mapping[Any, Any] | None) -> Settings:
        """The settings of one compilation: `config` as of `parse`, over `set_property`'s, over the environment's."""
        return Settings(self.properties(), {**self._settings, **self.parse(config or {})})
