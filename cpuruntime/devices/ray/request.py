"""One inference at a time on a cluster: bound memory, whose inputs travel and whose outputs results are copied to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from time import perf_counter_ns
from typing import cast

import numpy as np

from cpuruntime.devices.completion import OVER, AnyCompletion, AnyNotified, OneInference
from cpuruntime.devices.explanation import ProfilingInfo, Row
from cpuruntime.devices.interface import TERMS, DeviceModel, DeviceRequest, Terms
from cpuruntime.devices.ports import BoundArrays
from cpuruntime.devices.ray.loop import Inference, Loop
from cpuruntime.errors import InternalError, InvalidArgumentError, printable
from cpuruntime.host import forks
from cpuruntime.host.interrupts import uninterrupted
from cpuruntime.host.memory import aligned_zeros


class RayRequest(BoundArrays, OneInference, DeviceRequest):
    """The bound arrays of one inference at a time."""

    def __init__(self, model: DeviceModel, loop: Loop) -> None:
        self._model, self._loop = model, loop
        self._users: set[int] = set()
        self.bind_own(model.inputs, model.outputs)

    def set_input(self, index: int, array: np.ndarray) -> None:
        self._inputs[index] = array

    def set_output(self, index: int, array: np.ndarray) -> None:
        self._outputs[index] = array
        self._users.add(index)

    @uninterrupted
    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> None:
        self._inference = OVER
        self._model.check_open()
        forks.check(self._loop.generation)
        inference = Inference([*self.bound_inputs()], terms, self.deliver, perf_counter_ns())
        if function is not None:
            inference.notify(partial(self._loop.call_back, function))
        self._inference = inference
        self._loop.submit(inference)

    def notify(self, function: Callable[[], None]) -> None:
        super().notify(partial(self._loop.call_back, function))

    def any_completion(self, requests: Sequence[DeviceRequest]) -> AnyCompletion:
        return AnyNotified(OneInference.notify)  # to wake who waits takes no thread of those for users' callbacks

    def cancel(self) -> bool:
        inference = self._inference
        if inference.is_over:
            return False
        self._loop.cancel(cast("Inference", inference))
        return True

    def moments(self) -> tuple[int, int, int] | None:
        return self._inference.moments if isinstance(self._inference, Inference) else None

    def transferred(self) -> int:
        return self._inference.transferred if isinstance(self._inference, Inference) else 0

    def profiling(self) -> list[ProfilingInfo]:
        found = self._inference.profile if isinstance(self._inference, Inference) else []
        return found or [_not_run(row) for row in self._loop.fleet.facts.get("rows", [])]

    def deliver(self, outputs: Sequence[np.ndarray]) -> None:
        """Copy results, which are read only and Ray's, to the outputs."""
        for index, (port, result) in enumerate(zip(self._model.outputs, outputs, strict=True)):
            bound = self._outputs[index]
            if bound.shape != result.shape:
                name = printable(port.name)
                if index in self._users:
                    raise InvalidArgumentError(
                        f"Output '{name}' has shape {list(result.shape)} for these inputs; the array that was set for "
                        f"it has {list(bound.shape)}."
                    )
                if port.partial_shape.is_static:
                    raise InternalError(f"A replica computed shape {list(result.shape)} for output '{name}'.")
                bound = self._outputs[index] = aligned_zeros(result.shape, port.dtype)
            bound[...] = result


def _not_run(row: Row) -> ProfilingInfo:
    name = row.nodes[0] if row.nodes else ""
    return ProfilingInfo(ProfilingInfo.NOT_RUN, timedelta(), timedelta(), name, row.op_type, row.kernel)
