"""Requests of the device for whole batches, and how the members' memory becomes a batch's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from cpuruntime.devices.interface import DeviceModel, DeviceRequest


class Member(Protocol):
    """A request whose inference runs in a batch."""

    slab: Any
    slot: int
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    own_inputs: list[np.ndarray | None]
    own_outputs: list[np.ndarray | None]


class Worker:
    """A request for a batch of `size` inferences, with memory of its own for members whose memory is not in one piece.

    Members' memory is bound as it is where they are neighbours in one slab and have not bound other memory.
    """

    def __init__(self, model: DeviceModel, size: int) -> None:
        self.size = size
        self.request: DeviceRequest = model.create_request()
        shapes = [tuple(port.partial_shape.to_shape()) for port in model.inputs]
        self._inputs = [self.request.input_array(index, shape) for index, shape in enumerate(shapes)]
        self._outputs = [self.request.output_array(index) for index in range(len(model.outputs))]
        self._copied: list[int] = []

    def bind(self, members: Sequence[Member]) -> None:
        """Bind the memory of members, which are in the order of their slots, or copy inputs; padding repeats one."""
        first = members[0]
        are_neighbours = len(members) == self.size and all(
            one.slab is first.slab and one.slot == first.slot + step for step, one in enumerate(members)
        )
        for index, copy in enumerate(self._inputs):
            if are_neighbours and all(one.inputs[index] is one.own_inputs[index] for one in members):
                self.request.set_input(index, _piece(first.slab.inputs[index], first.slot, first.slab.count, self.size))
                continue
            for step, row in enumerate(_rows(copy, self.size)):
                row[...] = members[min(step, len(members) - 1)].inputs[index]
            self.request.set_input(index, copy)
        self._copied = []
        for index, copy in enumerate(self._outputs):
            if are_neighbours and all(one.outputs[index] is one.own_outputs[index] for one in members):
                piece = _piece(first.slab.outputs[index], first.slot, first.slab.count, self.size)
                self.request.set_output(index, piece)
            else:
                self._copied.append(index)
                self.request.set_output(index, copy)

    def hand_out(self, members: Sequence[Member]) -> None:
        """Copy the results that are not in the members' memory already."""
        for index in self._copied:
            for row, member in zip(_rows(self._outputs[index], self.size), members):
                member.outputs[index][...] = row


def _rows(array: np.ndarray, size: int) -> np.ndarray:
    return array.reshape(size, array.shape[0] // size, *array.shape[1:])


def _piece(whole: np.ndarray, slot: int, slots: int, size: int) -> np.ndarray:
    rows = whole.shape[0] // slots
    return whole[slot * rows : (slot + size) * rows]
