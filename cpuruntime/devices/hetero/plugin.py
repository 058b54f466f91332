"""The HETERO device: nodes go to the device that the user names, or to the first with kernels for them."""

from __future__ import annotations

from typing import Any

from cpuruntime.devices.composed.plugin import ComposedPlugin
from cpuruntime.devices.hetero.model import HeteroModel
from cpuruntime.devices.hetero.parts import Part, split
from cpuruntime.devices.interface import DeviceModel
from cpuruntime.errors import Error, InvalidArgumentError, nearest, printable
from cpuruntime.graph import Graph
from cpuruntime.properties import Settings

AFFINITY = "NODE_AFFINITY"


class HeteroPlugin(ComposedPlugin):
    """Compiles each part of a model for one of several devices."""

    def config_for(self, device: str, settings: Settings) -> dict[str, Any]:
        """Parts are no requests of users, so they are not joined to batches."""
        return super().config_for(device, settings) | {"ALLOW_AUTO_BATCHING": False}

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        devices = [one.device for one in self.needed_arguments(settings)]
        self.check_by_device(settings, self.needed_arguments(settings))
        graph = graph.clone()
        parts = split(graph, self._devices(graph, settings))
        models: list[DeviceModel] = []
        try:
            for number, part in enumerate(parts):
                models.append(self._compile_part(number, part, settings))
        except BaseException:
            _close(models)
            raise
        return HeteroModel(str(self.target), devices, graph, parts, models, settings)

    def query(self, graph: Graph, settings: Settings) -> set[str]:
        """The nodes that one of the devices runs on kernels of its own."""
        return set().union(*self._queried(graph, settings).values())

    def _queried(self, graph: Graph, settings: Settings) -> dict[str, set[str]]:
        devices = [one.device for one in self.needed_arguments(settings)]
        return {device: self.host.query(graph, device, self.config_for(device, settings)) for device in devices}

    def _devices(self, graph: Graph, settings: Settings) -> dict[str, str]:
        """For each node the device that NODE_AFFINITY names.

        Else the first one with a kernel for it; the last where none has one, as it may have a fallback.
        """
        queried = self._queried(graph, settings)
        last = [*queried][-1]
        found = {
            node.name: next((device for device, names in queried.items() if node.name in names), last)
            for node in graph.nodes
        }
        for name, device in settings.value(AFFINITY).items():
            if device not in queried:
                raise InvalidArgumentError(
                    f"{AFFINITY} of {self.label} names device '{device}' for node '{printable(name)}'; "
                    f"it must be one of {', '.join(queried)}."
                )
            if name not in found:
                raise InvalidArgumentError(
                    f"{AFFINITY} of {self.label} names node '{printable(name)}', which model "
                    f"'{printable(graph.name)}' does not have.{nearest(name, found)}"
                )
        return found | settings.value(AFFINITY)

    def _compile_part(self, number: int, part: Part, settings: Settings) -> DeviceModel:
        try:
            return self.compile_one(part.graph, part.device, self.config_for(part.device, settings))
        except Error as error:
            raise type(error)(f"Part {number} of {self.target}, on {part.device}: {error}") from error


def _close(models: list[DeviceModel]) -> None:
    for model in models:
        model.close()


