"""The BATCH device: one device's model, and the same for larger batches."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from cpuruntime.devices.batch.model import BatchModel
from cpuruntime.devices.batch.sizes import find_sizes
from cpuruntime.devices.composed.plugin import ComposedPlugin
from cpuruntime.devices.interface import DeviceModel
from cpuruntime.devices.names import Argument
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Graph
from cpuruntime.properties import Settings

LARGEST = 8
"""The size of a batch where neither the user nor the device names one."""


class BatchPlugin(ComposedPlugin):
    """Runs the inferences of one device as batches where that is faster."""

    example = "CPU(4)"

    def config_for(self, device: str, settings: Settings) -> dict[str, Any]:
        return super().config_for(device, settings) | {"ALLOW_AUTO_BATCHING": False}  # once is enough

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        argument = self._argument(settings)
        self.check_by_device(settings, [argument])
        config = self.config_for(argument.device, settings)
        compile_it = partial(self._compile, device=argument.device, config=config)
        sizes = find_sizes(graph, self._largest(graph, argument, config, settings), compile_it)
        return BatchModel(str(self.target), sizes, settings)

    def _compile(self, graph: Graph, device: str, config: Mapping[str, Any]) -> DeviceModel:
        return self.compile_one(graph, device, config)

    def _argument(self, settings: Settings) -> Argument:
        found = self.needed_arguments(settings)
        if len(found) > 1:
            named = ", ".join(map(str, found))
            raise InvalidArgumentError(
                f"Device {self.target}: BATCH takes one device, not {named}; for several write MULTI:BATCH:..., each."
            )
        return found[0]

    def _largest(self, graph: Graph, argument: Argument, config: Mapping[str, Any], settings: Settings) -> int:
        """The largest batch: as the user says, else the device; no more than requests are to be in flight."""
        largest = argument.number
        if largest is None:
            asked = self.host.optimal_batch_size(graph, argument.device, config)
            largest = asked if asked > 1 else LARGEST
        return min(largest, settings.value("PERFORMANCE_HINT_NUM_REQUESTS") or largest)
