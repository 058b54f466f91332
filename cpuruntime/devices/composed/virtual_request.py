"""Requests that own their tensors and lend the memory to requests of other devices, which run their inferences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from cpuruntime.devices.completion import Completion
from cpuruntime.devices.composed.dispatcher import Dispatcher
from cpuruntime.devices.composed.members import Inference
from cpuruntime.devices.explanation import ProfilingInfo
from cpuruntime.devices.interface import TERMS, DeviceRequest, Terms
from cpuruntime.devices.ports import BoundArrays, PortInfo
from cpuruntime.errors import runs_elsewhere
from cpuruntime.graph import Kind
from cpuruntime.host.memory import GrowingMemory

_NONE = Completion()
_NONE.announce()


class VirtualRequest(BoundArrays, DeviceRequest):
    """A request whose inferences a dispatcher's workers run, on its memory: nothing is copied.

    Results of dynamic shape are the exception: they are copied out of the worker's memory.
    """

    def __init__(
        self, dispatcher: Dispatcher, inputs: Sequence[PortInfo], outputs: Sequence[PortInfo], profiled: bool
    ) -> None:
        self.version = 0
        self._dispatcher = dispatcher
        self._profiled = profiled
        self._inference: Completion = _NONE
        self._running: DeviceRequest | None = None
        self._moments: tuple[int, int, int] | None = None
        self._profiling: list[ProfilingInfo] = []
        is_static = [port.partial_shape.is_static and port.kind is Kind.TENSOR for port in outputs]
        self._static = [index for index, static in enumerate(is_static) if static]
        self._dynamic = [index for index, static in enumerate(is_static) if not static]
        self._results = [GrowingMemory() for _ in outputs]
        self.bind_own(inputs, outputs)

    def set_input(self, index: int, array: np.ndarray) -> None:
        if self._inputs[index] is not array:
            self._inputs[index] = array
            self.version += 1

    def set_output(self, index: int, array: np.ndarray) -> None:
        self._outputs[index] = array
        self.version += 1

    def lend_to(self, worker: DeviceRequest) -> None:
        """Bind the memory of all inputs and of outputs of static shape to a worker."""
        for index, array in enumerate(self.bound_inputs()):
            worker.set_input(index, array)
        for index in self._static:
            worker.set_output(index, self._outputs[index])

    def collect(self, worker: DeviceRequest) -> None:
        """Copy the results of dynamic shape from a worker, whose inference is over; and its times."""
        for index in self._dynamic:
            result = worker.output_array(index)
            if result.dtype.hasobject:
                self._outputs[index] = result.copy()
                continue
            if self._outputs[index].shape != result.shape:
                self._outputs[index] = self._results[index].array(result.shape, result.dtype)
            self._outputs[index][...] = result
        self._moments = worker.moments()
        if self._profiled:
            self._profiling = worker.profiling()

    def run(self) -> None:
        """Run one inference, on this thread where a worker is idle."""
        worker = self._dispatcher.take(self)
        if worker is None:
            super().run()
            return
        error: BaseException | None = None
        self._running = worker.request
        try:
            worker.request.run()
            self.collect(worker.request)
        except BaseException as raised:
            error = raised
        self._running = None
        self._dispatcher.give_back(worker, error)
        try:
            if runs_elsewhere(error) and len(self._dispatcher.members) > 1:
                super().run()
            elif error is not None:
                raise error
        finally:
            del error  # its traceback refers to this frame

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> bool | None:
        inference = Inference(self, terms)
        if function is not None:
            inference.notify(function)
        self._inference = inference
        try:
            self._dispatcher.submit(inference)
        except Exception:
            self._inference = _NONE
            raise
        return inference.is_over and inference.error is None

    @property
    def is_over(self) -> bool:
        inference = self._inference
        return inference.is_over or self._dispatcher.settle(cast("Inference", inference))

    def wait(self, timeout: float | None = None) -> bool:
        inference = self._inference
        return inference.is_over or self._dispatcher.wait(cast("Inference", inference), timeout)

    def result(self) -> tuple[BaseException | None, int]:
        return self._inference.error, self._inference.ended

    def notify(self, function: Callable[[], None]) -> None:
        inference = self._inference
        inference.notify(function)
        if not inference.is_over:
            self._dispatcher.watch(cast("Inference", inference))

    def cancel(self) -> bool:
        running, inference = self._running, self._inference
        if running is not None:
            return running.cancel()
        return isinstance(inference, Inference) and self._dispatcher.cancel(inference)

    def moments(self) -> tuple[int, int, int] | None:
        return self._moments

    def profiling(self) -> list[ProfilingInfo]:
        return self._profiling
