"""The models of the parts as one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cpuruntime.devices.explanation import Explanation
from cpuruntime.devices.hetero.parts import Part
from cpuruntime.devices.hetero.request import HeteroRequest, Inference, Place
from cpuruntime.devices.interface import DeviceModel, DeviceRequest
from cpuruntime.devices.ports import PortInfo
from cpuruntime.graph import Graph, Kind, Value
from cpuruntime.host import forks
from cpuruntime.properties import Settings

SUMS = ("NUM_STREAMS", "OPTIMAL_NUMBER_OF_INFER_REQUESTS")


class HeteroModel(DeviceModel):
    """The models of the parts of a graph. Their devices run parts of several requests at the same time.

    Args:
        label: the device's name.
        devices: those to name where there are no parts.
        models: of the parts; they belong to this one, which closes them after the last inference.
    """

    def __init__(
        self,
        label: str,
        devices: Sequence[str],
        graph: Graph,
        parts: Sequence[Part],
        models: Sequence[DeviceModel],
        settings: Settings,
    ) -> None:
        self.graph, self.parts, self.models = graph, parts, models
        self._label = label
        self.generation = forks.generation
        self._in_flight: set[Inference] = set()
        outputs = [(v, (p, place)) for p, part in enumerate(parts) for place, v in enumerate(part.outputs)]
        self.made: dict[Value, Place] = dict(outputs)
        self.readers: dict[Value, list[Place]] = {}
        for number, part in enumerate(parts):
            for place, value in enumerate(part.inputs):
                self.readers.setdefault(value, []).append((number, place))
        self.dynamic = [[v for v in part.outputs if self.is_dynamic(v)] for part in parts]
        seen: set[Value] = set()
        self.is_direct: list[bool] = []
        for value in graph.outputs:
            self.is_direct.append(value in self.made and not self.is_dynamic(value) and value not in seen)
            seen.add(value)
        own = {
            "NETWORK_NAME": graph.name,
            "EXECUTION_DEVICES": list(dict.fromkeys(part.device for part in parts)) or [*devices[:1]],
            "HETERO_NUMBER_OF_SUBMODELS": len(parts),
            **dict.fromkeys(SUMS, 1),
        }
        self._own = {*own, "SUPPORTED_PROPERTIES"}
        inherited = {name: value for model in models[::-1] for name, value in model.properties.items()}
        known = {**settings.resolved(), **inherited, **own}
        super().__init__(PortInfo.inputs_of(graph), PortInfo.outputs_of(graph), known)
        forks.objects.add(self)

    def is_dynamic(self, value: Value) -> bool:
        """Whether what a part makes lies elsewhere after each inference."""
        part, place = self.made[value]
        port = self.models[part].outputs[place]
        return port.kind is not Kind.TENSOR or port.partial_shape.is_dynamic

    def create_request(self) -> DeviceRequest:
        self.check_open()
        return HeteroRequest(self)

    def get_property(self, name: str) -> Any:
        """A sum over the devices for streams and requests; else as the first part that has it says."""
        if name in SUMS:
            by_device: dict[str, int] = {}
            for part, model in zip(self.parts, self.models):
                found = model.get_property(name) if name in model.properties else 1
                by_device[part.device] = max(found, by_device.get(part.device, 0))
            return sum(by_device.values()) or 1
        known = [model for model in self.models if name in model.properties and name not in self._own]
        if name in ("OPTIMIZED", "LOADED_FROM_CACHE"):
            return all(model.get_property(name) for model in known)
        return known[0].get_property(name) if known else super().get_property(name)

    def enter(self, inference: Inference) -> None:
        """An inference begins; raises Error once closed."""
        self._in_flight.add(inference)
        if self.closed:
            self.leave(inference)
            self.check_open()

    def leave(self, inference: Inference) -> None:
        """An inference is over."""
        self._in_flight.discard(inference)
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self.closed and not self._in_flight:
            for model in self.models:
                model.close()

    def _forked(self) -> None:
        """In a child nothing runs any more."""
        for inference in [*self._in_flight]:
            inference.end(forks.threads_are_gone())

    def explain(self, measure: bool = False) -> Explanation:
        found = [model.explain(measure) for model in self.models]
        decisions = [self._drawn(number) for number in range(len(self.parts))]
        for number, one in enumerate(found):
            decisions += [f"part {number}: {decision}" for decision in one.decisions]
        return Explanation(self._label, [row for one in found for row in one.rows], decisions)

    def _drawn(self, number: int) -> str:
        """A part with the parts before and behind it."""
        part = self.parts[number]
        reads = [f"{v.name} of part {self.made[v][0]}" if v in self.made else v.name for v in part.inputs]
        makes = []
        for value in part.outputs:
            goals = [f"part {reader}" for reader, _ in self.readers.get(value, ())]
            goals += ["the result"] * (value in self.graph.outputs)
            makes.append(f"{value.name} for {' and '.join(goals)}")
        count = len(part.graph.nodes)
        sides = (", ".join(side) or "nothing" for side in (reads, makes))
        return f"part {number} on {part.device}: nodes: {count}; reads {next(sides)}; makes {next(sides)}"

    def wait_until_optimized(self, timeout: float | None = None) -> bool:
        return all(model.wait_until_optimized(timeout) for model in self.models)

    def release_memory(self) -> None:
        for model in self.models:
            model.release_memory()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._close_if_over()
