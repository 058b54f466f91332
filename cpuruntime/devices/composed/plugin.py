"""Plugins of devices over other devices: the list of devices, and what is asked of each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from cpuruntime import properties
from cpuruntime.devices import names
from cpuruntime.devices.interface import DeviceModel, Plugin
from cpuruntime.devices.names import Argument
from cpuruntime.errors import DeviceUnavailableError, Error, InvalidArgumentError, printable
from cpuruntime.graph import Graph
from cpuruntime.properties import Settings

PRIORITIES = "MULTI_DEVICE_PRIORITIES"
BY_DEVICE = "DEVICE_PROPERTIES"


class ComposedPlugin(Plugin):
    """A device that runs other devices, which are its arguments or the value of MULTI_DEVICE_PRIORITIES."""

    takes_arguments = True
    is_composed = True
    example: ClassVar[str] = "CPU,REFERENCE"
    """Arguments that it takes, for messages."""

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings that each device gets unless the user chose others."""

    def fact(self, name: str) -> Any:
        if name == "OPTIMIZATION_CAPABILITIES":
            known = [self.host.get_property(one.device, name) for one in self.arguments(self._settings)]
            return sorted({capability for capabilities in known for capability in capabilities})
        if name == "FULL_DEVICE_NAME":
            return str(self.target)
        return super().fact(name)

    def parse(self, config: Mapping[Any, Any], unsets: bool = False) -> Settings:
        return properties.parse(config, self.properties(), self.label, unsets)

    def arguments(self, settings: Settings) -> list[Argument]:
        """The devices, in the user's order; none where none are named."""
        named = settings.value(PRIORITIES)
        if named and not self.target.arguments:
            return [*names.parse(f"{self.name}:{named}").arguments]
        return [*self.target.arguments]

    def needed_arguments(self, settings: Settings) -> list[Argument]:
        """The devices. Raises InvalidArgumentError where none are named, or one with a minus sign."""
        found = self.arguments(settings)
        if not found:
            raise InvalidArgumentError(
                f"Device {self.name} runs other devices, and none are named: write {self.name}:{self.example}, or "
                f"set {PRIORITIES}."
            )
        for one in found:
            if one.excluded:
                raise InvalidArgumentError(f"Device {self.target}: only AUTO takes devices with a minus sign.")
        return found

    def check_by_device(self, settings: Settings, arguments: list[Argument]) -> None:
        """Refuse DEVICE_PROPERTIES for a device that is not among the arguments, nor among those that they run."""
        for name in settings.value(BY_DEVICE):
            if not any(self._concerns(name, one.device) for one in arguments):
                raise InvalidArgumentError(
                    f"{BY_DEVICE} of {self.label} has properties for '{name}', which is not among its devices: "
                    f"{', '.join(one.device for one in arguments)}."
                )

    def _concerns(self, name: str, device: str) -> bool:
        """Whether properties for `name` are for a device or for one that it runs; without a list it may run any."""
        if not names.parse(device).arguments and BY_DEVICE in self.host.get_property(device, "SUPPORTED_PROPERTIES"):
            return True
        return name in names.called(device)

    def config_for(self, device: str, settings: Settings) -> dict[str, Any]:
        """The configuration of one device: what was set here and it has, and its part of DEVICE_PROPERTIES."""
        known = self.host.get_property(device, "SUPPORTED_PROPERTIES")
        config = {name: value for name, value in {**self.defaults, **settings}.items() if known.get(name) == "RW"}
        by_device = settings.value(BY_DEVICE)
        base = names.parse(device).name
        for name in (base, device):
            config |= by_device.get(name, {})
        inner = {name: own for name, own in by_device.items() if name not in (base, device)}
        if BY_DEVICE in known:
            config[BY_DEVICE] = {name: own for name, own in inner.items() if self._concerns(name, device)}
        return config

    def query(self, graph: Graph, settings: Settings) -> set[str]:
        """The nodes that all the devices run on kernels of their own."""
        found = [
            self.host.query(graph, one.device, self.config_for(one.device, settings))
            for one in self.needed_arguments(settings)
        ]
        return set.intersection(*found)

    def compile_one(self, graph: Graph, device: str, config: Mapping[str, Any]) -> DeviceModel:
        """Compile for one of the devices; what goes wrong there is a DeviceUnavailableError or comes as it is."""
        try:
            return self.host.compile(graph, device, config)
        except MemoryError as error:
            raise DeviceUnavailableError(f"Device {device} has too little memory for the model: {error}") from error

    def all_failed(self, model: str, errors: Mapping[str, Exception]) -> Error:
        """The error of a model that no device takes; of a single one its own."""
        if len(errors) == 1:
            (error,) = errors.values()
            if isinstance(error, Error):
                return error
        reasons = "; ".join(f"{device}: {error}" for device, error in errors.items())
        return DeviceUnavailableError(f"No device of {self.label} can run model '{printable(model)}': {reasons}")
