"""Requests whose memory is a part of a batch's, and the memory that requests share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cpuruntime.devices.batch.batcher import Batcher
from cpuruntime.devices.batch.inference import Inference
from cpuruntime.devices.completion import OVER, OneInference
from cpuruntime.devices.explanation import ProfilingInfo
from cpuruntime.devices.interface import TERMS, DeviceRequest, Terms
from cpuruntime.devices.ports import PortInfo
from cpuruntime.host.memory import ALIGNMENT, aligned_zeros


class Slab:
    """Memory of `count` requests for each port of which each part is aligned; None for others."""

    def __init__(self, inputs: Sequence[PortInfo], outputs: Sequence[PortInfo], count: int) -> None:
        self.count = count
        self.inputs = [self._whole(port) for port in inputs]
        self.outputs = [self._whole(port) for port in outputs]

    def part(self, whole: np.ndarray | None, slot: int) -> np.ndarray | None:
        """The memory of one request."""
        if whole is None:
            return None
        rows = whole.shape[0] // self.count
        return whole[slot * rows : (slot + 1) * rows]

    def _whole(self, port: PortInfo) -> np.ndarray | None:
        shape = port.partial_shape.to_shape()
        whole = aligned_zeros((self.count * shape[0], *shape[1:]), port.dtype)
        return whole if whole.nbytes // self.count % ALIGNMENT == 0 and not whole.dtype.hasobject else None


class BatchRequest(OneInference, DeviceRequest):
    """A request that runs alone, as `single`, or as one member of a batch.

    `inputs` and `outputs` are the arrays that are bound; `slot` is its part of the slab.
    """

    def __init__(
        self, batcher: Batcher, single: DeviceRequest, inputs: Sequence[PortInfo], slab: Slab, slot: int
    ) -> None:
        self.single = single
        self.slab = slab
        self.slot = slot
        self.times: tuple[tuple[int, int, int] | None, list[ProfilingInfo]] | None = None
        self._batcher = batcher
        self._runs = self.has_slot = False
        self.own_inputs = [slab.part(whole, slot) for whole in slab.inputs]
        self.own_outputs = [slab.part(whole, slot) for whole in slab.outputs]
        self.inputs: list[np.ndarray] = []
        for index, (own, port) in enumerate(zip(self.own_inputs, inputs)):
            if own is not None:
                single.set_input(index, own)
            shape = tuple(port.partial_shape.to_shape())
            self.inputs.append(single.input_array(index, shape) if own is None else own)
        self.outputs: list[np.ndarray] = []
        for index, own in enumerate(self.own_outputs):
            if own is not None:
                single.set_output(index, own)
            self.outputs.append(single.output_array(index))

    @property
    def is_own(self) -> bool:
        """Whether it has bound no other memory than its part of the slab, where it has one."""
        pairs = (*zip(self.inputs, self.own_inputs), *zip(self.outputs, self.own_outputs))
        return all(own is None or bound is own for bound, own in pairs)

    def input_array(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        own = self.own_inputs[index]
        if own is None:
            self.inputs[index] = self.single.input_array(index, shape)
        else:
            self.set_input(index, own)
        return self.inputs[index]

    def set_input(self, index: int, array: np.ndarray) -> None:
        self.inputs[index] = array
        self.single.set_input(index, array)

    def output_array(self, index: int) -> np.ndarray:
        return self.outputs[index]

    def set_output(self, index: int, array: np.ndarray) -> None:
        self.outputs[index] = array
        self.single.set_output(index, array)

    def run(self) -> None:
        """Run one inference, on this thread where the device is idle and no group is worth waiting for."""
        self._recover()
        try:
            self._batcher.take(self)
            if self.has_slot:
                self.times, self._runs = None, True
                self.single.run()
                return
        finally:
            self._runs = False
            if self.has_slot:
                try:
                    self._batcher.give_back(self)
                finally:
                    if self.has_slot:  # an interrupt struck before
                        self._batcher.give_back(self)
        super().run()

    def _recover(self) -> None:
        """Give back what the device was taken for, which interrupts in a row may have prevented."""
        if self.has_slot:
            self._batcher.give_back(self)

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> bool | None:
        self._recover()
        inference = Inference(self, terms)
        if function is not None:
            inference.notify(function)
        self._inference = inference
        try:
            self._batcher.submit(inference)
        except Exception:
            self._inference = OVER
            raise
        return inference.is_over and inference.error is None

    def cancel(self) -> bool:
        if self._runs:
            return self.single.cancel()
        return isinstance(self._inference, Inference) and self._batcher.cancel(self._inference)

    def moments(self) -> tuple[int, int, int] | None:
        return self.single.moments() if self.times is None else self.times[0]

    def profiling(self) -> list[ProfilingInfo]:
        return self.single.profiling() if self.times is None else self.times[1]
