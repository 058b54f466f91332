"""The AUTO device: which devices it chooses from, and what each of them is given."""

from __future__ import annotations

from functools import cache
from typing import Any

from cpuruntime.devices.composed.plugin import BY_DEVICE, PRIORITIES, ComposedPlugin
from cpuruntime.devices.interface import DeviceHost, DeviceModel
from cpuruntime.devices.names import Argument, DeviceName
from cpuruntime.errors import DeviceUnavailableError, InvalidArgumentError
from cpuruntime.graph import Graph
from cpuruntime.properties import Property, Settings, of_device
from cpuruntime.properties.hint import PerformanceMode

HINT = "PERFORMANCE_HINT"


@cache
def _properties() -> dict[str, Property]:
    of_cpu = {name: one for name, one in of_device("CPU").items() if one.writable}
    return {**of_cpu, **of_device("AUTO")}


class AutoPlugin(ComposedPlugin):
    """Compiles for the first of its devices that can, and for the CPU to serve until that is ready.

    Without devices in its name they are those of `DeviceHost.automatic`. A single one compiles in its place.
    """

    def __init__(self, host: DeviceHost, target: DeviceName) -> None:
        super().__init__(host, target)
        self._environment = dict(self._settings)  # devices read it themselves

    def properties(self) -> dict[str, Property]:
        """Its own and all settings of the CPU: a single device takes those of the CPU."""
        return _properties()

    def is_named(self, settings: Settings) -> bool:
        """Whether the user named devices to choose from."""
        return any(not one.excluded for one in super().arguments(settings))

    def arguments(self, settings: Settings) -> list[Argument]:
        """The devices that can be used, the preferred one first.

        Raises:
            InvalidArgumentError: no device is left, or one is unknown.
            DeviceUnavailableError: none can be used here.
        """
        named = super().arguments(settings)
        excluded = {one.device for one in named if one.excluded}
        found = [one for one in named if not one.excluded] or [Argument(name) for name in self.host.automatic()]
        left = [one for one in found if not {one.device, one.device.partition(".")[0]} & excluded]
        reasons = {one.device: self.host.unavailable_reason(one.device) for one in [*left, *map(Argument, excluded)]}
        if not left:
            raise InvalidArgumentError(
                f"Device {self.target} leaves no device to choose from: name one, as in AUTO:CPU, or exclude fewer."
            )
        usable = [one for one in left if reasons[one.device] is None]
        if not usable:
            why = "; ".join(f"{one.device}: {reasons[one.device]}" for one in left)
            raise DeviceUnavailableError(f"None of the devices of {self.target} is available: {why}")
        return usable

    def config_for(self, device: str, settings: Settings) -> dict[str, Any]:
        own = {name: value for name, value in settings.items() if self._environment.get(name) != value}
        return super().config_for(device, Settings(settings.known, own))

    def direct(self, settings: Settings) -> tuple[str, dict[str, Any]] | None:
        """A single device; MULTI for CUMULATIVE_THROUGHPUT."""
        arguments = self.arguments(settings)
        if self.is_named(settings):
            self.check_by_device(settings, arguments)
        (first, *others) = arguments
        if not others and first.number is None:
            return first.device, self.config_for(first.device, settings)
        if settings.value(HINT) is not PerformanceMode.CUMULATIVE_THROUGHPUT:
            return None
        by_device = {one.device: self.config_for(one.device, settings) for one in arguments}
        for config in by_device.values():
            config.pop(HINT, None)  # MULTI has its own
        multi = f"MULTI:{','.join(map(str, arguments))}"
        config = self.config_for("MULTI", settings) | {BY_DEVICE: by_device}
        config.pop(PRIORITIES, None)  # they stand in its name
        return multi, config

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        # not above: a single device does without
        from cpuruntime.devices.auto.choice import ranked
        from cpuruntime.devices.auto.model import start

        arguments, notes = ranked(graph, self.arguments(settings), settings, self.host)
        return start(self, graph, settings, arguments, notes)
