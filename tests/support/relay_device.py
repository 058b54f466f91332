"""RELAY:DEVICE, a device over another one that needs nothing but the interface: it forwards every inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cpuruntime.devices.explanation import Explanation, ProfilingInfo
from cpuruntime.devices.interface import TERMS, DeviceModel, DeviceRequest, Plugin, Terms
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Graph
from cpuruntime.host.memory import aligned_zeros
from cpuruntime.properties import Settings


class RelayPlugin(Plugin):
    """Forwards to the one device in its arguments."""

    takes_arguments = True

    def fact(self, name: str) -> Any:
        if name == "OPTIMIZATION_CAPABILITIES" and self.target.arguments:
            return self.host.get_property(self._device(), name)
        return super().fact(name)

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        known = self.host.get_property(self._device(), "SUPPORTED_PROPERTIES")
        config = {name: value for name, value in settings.items() if name in known}
        return RelayModel(self.host.compile(graph, self._device(), config))

    def _device(self) -> str:
        if len(self.target.arguments) != 1:
            raise InvalidArgumentError(f"Device {self.target}: one device is needed, such as {self.name}:CPU.")
        return self.target.arguments[0].device


class RelayModel(DeviceModel):
    """A model of another device."""

    def __init__(self, model: DeviceModel) -> None:
        super().__init__(model.inputs, model.outputs, model.properties)
        self.model = model

    def create_request(self) -> DeviceRequest:
        return RelayRequest(self, self.model.create_request())

    def explain(self, measure: bool = False) -> Explanation:
        return self.model.explain(measure)

    def close(self) -> None:
        self.model.close()


class RelayRequest(DeviceRequest):
    """Owns its tensors and lends their memory to a request of the other device."""

    def __init__(self, model: RelayModel, worker: DeviceRequest) -> None:
        self.model = model
        self.worker = worker
        self.own: list[np.ndarray | None] = [None] * len(model.inputs)
        self.outputs: list[np.ndarray | None] = []
        for index, info in enumerate(model.inputs):
            if info.partial_shape.is_static:
                self.input_array(index, tuple(info.partial_shape.to_shape()))
        for index, info in enumerate(model.outputs):
            self.outputs.append(None)
            if info.partial_shape.is_static:
                shape = info.partial_shape.to_shape()
                self.set_output(index, aligned_zeros(shape, info.element_type.to_dtype()))

    def input_array(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        own = self.own[index]
        if own is None or own.shape != shape:
            own = self.own[index] = aligned_zeros(shape, self.model.inputs[index].element_type.to_dtype())
        self.worker.set_input(index, own)
        return own

    def set_input(self, index: int, array: np.ndarray) -> None:
        self.worker.set_input(index, array)

    def output_array(self, index: int) -> np.ndarray:
        output = self.outputs[index]
        return self.worker.output_array(index) if output is None else output

    def set_output(self, index: int, array: np.ndarray) -> None:
        self.outputs[index] = array
        self.worker.set_output(index, array)

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> bool | None:
        return self.worker.start(terms, function)

    @property
    def is_over(self) -> bool:
        return self.worker.is_over

    def wait(self, timeout: float | None = None) -> bool:
        return self.worker.wait(timeout)

    def result(self) -> tuple[BaseException | None, int]:
        return self.worker.result()

    def notify(self, function: Callable[[], None]) -> None:
        self.worker.notify(function)

    def cancel(self) -> bool:
        return self.worker.cancel()

    def profiling(self) -> list[ProfilingInfo]:
        return self.worker.profiling()
