"""Requests that run the parts of a model one after another, each by a request of its device, on memory of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np

from cpuruntime.devices.completion import OVER, Completion, OneInference
from cpuruntime.devices.explanation import ProfilingInfo
from cpuruntime.devices.interface import TERMS, DeviceModel, DeviceRequest, Terms
from cpuruntime.devices.ports import BoundArrays, PortInfo
from cpuruntime.errors import CancelledError, InternalError, printable
from cpuruntime.graph import Graph, Kind, Value
from cpuruntime.host import forks
from cpuruntime.host.interrupts import uninterrupted
from cpuruntime.host.memory import aligned_zeros

Place = tuple[int, int]
"""A part, and the position of a value among its inputs or outputs."""


class Parted(Protocol):
    """What a request needs of its model.

    Attributes:
        models: of the parts.
        made: the part that makes a value, and its position among that part's outputs.
        readers: the parts that read a value, with its position among their inputs.
        dynamic: for each part, what it makes of dynamic shape.
        is_direct: for each output, whether a part writes it to the memory that is bound.
    """

    graph: Graph
    inputs: tuple[PortInfo, ...]
    outputs: tuple[PortInfo, ...]
    properties: dict[str, Any]
    generation: int
    models: Sequence[DeviceModel]
    made: Mapping[Value, Place]
    readers: Mapping[Value, Sequence[Place]]
    dynamic: Sequence[Sequence[Value]]
    is_direct: Sequence[bool]

    def is_dynamic(self, value: Value) -> bool:
        """Whether what a part makes lies elsewhere after each inference."""
        ...

    def check_open(self) -> None:
        """Raise Error when the model is closed."""

    def enter(self, inference: Any) -> None:
        """An inference begins; raises Error once closed."""

    def leave(self, inference: Any) -> None:
        """An inference is over."""


class Inference(Completion):
    """One inference: `part` is the one that runs, or is to run next."""

    def __init__(self, request: HeteroRequest, terms: Terms) -> None:
        self.request = request
        self.model = request.model
        self.terms = terms
        self.part = 0
        self.cancelled = False

    @uninterrupted
    def end(self, error: BaseException | None) -> None:
        """The inference is over; a second call does nothing."""
        if self.__dict__.pop("request", None) is not None:  # it keeps the model open
            self.model.leave(self)
            self.complete(error)

    def check(self) -> None:
        """Raise CancelledError after `cancel`."""
        if self.cancelled:
            name = printable(self.model.properties["NETWORK_NAME"])
            raise CancelledError(f"The inference of model '{name}' was cancelled.")

    def go_on(self) -> None:
        """Start parts until one is in flight; its end comes back here, on a thread of its device."""
        request = self.request
        try:
            while self.part < len(request.parts):
                self.check()
                if not self._start(request.parts[self.part]):
                    return
                request.hand_over(self.part)
                self.part += 1
            request.collect()
        except BaseException as error:
            self.end(error)
            if not isinstance(error, Exception):
                raise
        else:
            self.end(None)

    def _start(self, part: DeviceRequest) -> bool:
        """Start a part: whether it is over already. Then no call follows, so that many parts need no deep stack."""
        caller: int | None = threading.get_ident()
        is_over = False

        def over() -> None:
            nonlocal is_over
            if caller == threading.get_ident():
                is_over = True
            else:
                self._continue(part)

        part.start(self.terms, over)
        caller = None
        if is_over:
            _raise_error_of(part)
        elif self.cancelled:
            part.cancel()
        return is_over

    def _continue(self, part: DeviceRequest) -> None:
        """A part is over that was in flight."""
        request = self.__dict__.get("request")
        if request is None:
            return  # the process was forked
        try:
            _raise_error_of(part)
            request.hand_over(self.part)
        except Exception as error:
            self.end(error)
            return
        self.part += 1
        self.go_on()


def _raise_error_of(part: DeviceRequest) -> None:
    error, _ = part.result()
    if error is not None:
        raise error


class HeteroRequest(BoundArrays, OneInference, DeviceRequest):
    """A request with one request for each part, which `parts` holds.

    What a part makes is bound to the parts that read it: once where its shape is static, else after each inference.
    """

    def __init__(self, model: Parted) -> None:
        self.model = model
        self.parts = [one.create_request() for one in model.models]
        self.bind_own(model.inputs, model.outputs)
        for index, array in enumerate(self._outputs):
            if model.is_direct[index]:
                self.set_output(index, array)
        for value in model.made:
            if not model.is_dynamic(value):
                self._bind_readers(value)

    def set_input(self, index: int, array: np.ndarray) -> None:
        self._inputs[index] = array
        for part, place in self.model.readers.get(self.model.graph.inputs[index], ()):
            self.parts[part].set_input(place, array)

    def set_output(self, index: int, array: np.ndarray) -> None:
        self._outputs[index] = array
        if self.model.is_direct[index]:
            value = self.model.graph.outputs[index]
            part, place = self.model.made[value]
            self.parts[part].set_output(place, array)
            self._bind_readers(value)

    def _bind_readers(self, value: Value) -> None:
        """Let the parts that read what a part makes read it where it lies."""
        part, place = self.model.made[value]
        for reader, index in self.model.readers.get(value, ()):
            array = self.parts[part].output_array(place)
            port = self.model.models[reader].inputs[index]
            if port.kind is Kind.TENSOR and not port.partial_shape.compatible(array.shape):
                raise InternalError(
                    f"Part {part} made shape {list(array.shape)} for '{printable(value.name)}' {port.partial_shape}."
                )
            self.parts[reader].set_input(index, array)

    def hand_over(self, part: int) -> None:
        """Bind the results of dynamic shape of a part that is over."""
        for value in self.model.dynamic[part]:
            self._bind_readers(value)

    def collect(self) -> None:
        """Make the outputs that no part writes to their memory: those of dynamic shape, constants and inputs."""
        for index, value in enumerate(self.model.graph.outputs):
            if self.model.is_direct[index]:
                continue
            if value in self.model.made:
                part, place = self.model.made[value]
                array = self.parts[part].output_array(place)
                if self.model.is_dynamic(value):
                    self._outputs[index] = array
                    continue
            else:
                given = self._inputs[self.model.graph.inputs.index(value)] if value.constant is None else value.constant
                array = cast("np.ndarray", given)
            if self._outputs[index].shape != array.shape:
                self._outputs[index] = aligned_zeros(array.shape, array.dtype)
            self._outputs[index][...] = array

    def run(self) -> None:
        """Run the parts one after another by `run` of their requests, so in this thread where the devices do."""
        self._inference = OVER
        inference = Inference(self, TERMS)
        error: BaseException | None = None
        try:
            self._enter(inference)
            self._inference = inference
            for inference.part, part in enumerate(self.parts):
                inference.check()
                part.run()
                self.hand_over(inference.part)
            self.collect()
        except BaseException as raised:
            error = raised
            raise
        finally:
            try:
                inference.end(error)
            finally:
                if not inference.is_over:  # an interrupt struck before
                    inference.end(error)
            del error  # its traceback refers to this frame

    @uninterrupted
    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> bool:
        self._inference = OVER
        inference = Inference(self, terms)
        self._enter(inference)
        if function is not None:
            inference.notify(function)
        self._inference = inference
        inference.go_on()
        return inference.is_over and inference.error is None

    def _enter(self, inference: Inference) -> None:
        self.model.check_open()
        forks.check(self.model.generation)
        self.bound_inputs()
        self.model.enter(inference)

    def cancel(self) -> bool:
        inference = self._inference
        if not isinstance(inference, Inference) or inference.is_over:
            return False
        inference.cancelled = True
        if inference.part < len(self.parts):
            self.parts[inference.part].cancel()
        return True

    def moments(self) -> tuple[int, int, int] | None:
        if not self.parts:
            return None
        first, last = self.parts[0].moments(), self.parts[-1].moments()
        return None if first is None or last is None else (first[0], first[1], last[2])

    def profiling(self) -> list[ProfilingInfo]:
        """The rows of all parts, each named by its part."""
        return [
            ProfilingInfo(row.status, row.real_time, row.cpu_time, f"part {number}: {row.node_name}", row.node_type,
                          row.exec_type)
            for number, part in enumerate(self.parts) for row in part.profiling()
        ]  # fmt: skip
