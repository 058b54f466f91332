"""The HETERO device: nodes go to the first device with kernels for them; each stream runs the parts in turn."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from cpuruntime.devices.composed.plugin import ComposedPlugin
from cpuruntime.devices.explanation import Explanation, ProfilingInfo
from cpuruntime.devices.hetero.parts import Part, split
from cpuruntime.devices.interface import DeviceModel, DeviceRequest
from cpuruntime.devices.serial import Compute, SerialModel, SerialPlugin, SerialRequest
from cpuruntime.errors import Error
from cpuruntime.graph import Graph, Value
from cpuruntime.properties import Settings


class HeteroPlugin(ComposedPlugin, SerialPlugin):
    """Compiles each part of a model for one of several devices."""

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        graph = self.optimise(graph)
        return HeteroModel(self, graph, settings, self.prepare(graph, settings))

    def prepare(self, graph: Graph, settings: Settings) -> Compute:
        self.check_by_device(settings, self.needed_arguments(settings))
        parts = split(graph, self._devices(graph, settings))
        models: list[DeviceModel] = []
        try:
            for number, part in enumerate(parts):
                models.append(self._compile_part(number, part, settings))
        except BaseException:
            _close(models)
            raise
        return Chain(graph, parts, models)

    def query(self, graph: Graph, settings: Settings) -> set[str]:
        """The nodes that one of the devices runs on kernels of its own."""
        return set().union(*self._queried(graph, settings).values())

    def _queried(self, graph: Graph, settings: Settings) -> dict[str, set[str]]:
        devices = [one.device for one in self.needed_arguments(settings)]
        return {device: self.host.query(graph, device, self.config_for(device, settings)) for device in devices}

    def _devices(self, graph: Graph, settings: Settings) -> dict[str, str]:
        """The first device with a kernel for each node; the last where none has one, as it may have a fallback."""
        queried = self._queried(graph, settings)
        last = [*queried][-1]
        return {
            node.name: next((device for device, names in queried.items() if node.name in names), last)
            for node in graph.nodes
        }

    def _compile_part(self, number: int, part: Part, settings: Settings) -> DeviceModel:
        try:
            return self.compile_one(part.graph, part.device, self.config_for(part.device, settings))
        except Error as error:
            raise type(error)(f"Part {number} of {self.target}, on {part.device}: {error}") from error


def _close(models: list[DeviceModel]) -> None:
    for model in models:
        model.close()


class Chain:
    """Runs the models of the parts one after another, in each thread with requests of its own.

    The models are closed when the last reference is dropped, since inferences in flight go on after `close`.
    """

    def __init__(self, graph: Graph, parts: list[Part], models: list[DeviceModel]) -> None:
        self.parts, self.models = parts, models
        self._graph = graph
        self._own = threading.local()
        weakref.finalize(self, _close, models)

    def __call__(self, inputs: Sequence[np.ndarray], begin: Callable[[int], None]) -> list[np.ndarray]:
        """The outputs; they lie in memory of the thread's requests until its next inference."""
        arrays: dict[Value, np.ndarray] = dict(zip(self._graph.inputs, inputs))
        for part, request in zip(self.parts, self._requests()):
            begin(part.first)
            for index, value in enumerate(part.inputs):
                request.set_input(index, arrays[value])
            request.run()
            for index, value in enumerate(part.outputs):
                arrays[value] = request.output_array(index)
        return [arrays[value] if value.constant is None else value.constant for value in self._graph.outputs]

    def _requests(self) -> list[DeviceRequest]:
        found: list[DeviceRequest] | None = getattr(self._own, "requests", None)
        if found is None:
            found = self._own.requests = [model.create_request() for model in self.models]
        return found


class HeteroModel(SerialModel):
    """The models of the parts as one."""

    compute: Chain

    def get_property(self, name: str) -> Any:
        if name == "LOADED_FROM_CACHE":
            return all(model.get_property(name) for model in self.compute.models)
        return super().get_property(name)

    def create_request(self) -> DeviceRequest:
        self.check_open()
        return HeteroRequest(self)

    def explain(self, measure: bool = False) -> Explanation:
        found = [model.explain(measure) for model in self.compute.models]
        decisions = [*super().explain().decisions]
        for number, (part, one) in enumerate(zip(self.compute.parts, found)):
            reads, makes = (", ".join(v.name for v in values) or "nothing" for values in (part.inputs, part.outputs))
            count = len(part.graph.nodes)
            decisions.append(f"part {number} on {part.device}: nodes: {count}; reads {reads}; makes {makes}")
            decisions += [f"part {number}: {decision}" for decision in one.decisions]
        return Explanation(str(self.plugin.target), [row for one in found for row in one.rows], decisions)


class HeteroRequest(SerialRequest):
    """A request whose profile has a row for each part."""

    model: HeteroModel

    def profiling(self) -> list[ProfilingInfo]:
        rows = []
        for number, part in enumerate(self.model.compute.parts):
            duration: Any = self.times[part.first]
            status = ProfilingInfo.NOT_RUN if duration is None else ProfilingInfo.EXECUTED
            taken = duration or timedelta()
            rows.append(ProfilingInfo(status, taken, taken, f"part {number}", "Part", part.device))
        return rows
