"""The input tensors of a benchmark, which its requests get in turns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np

import cpuruntime as ov
from cpuruntime.cli.benchmark.ports import InputInfo, batches_of


class Feed:
    """Arrays for every input, in turns.

    Attributes:
        batches: the batch of each group; a group is one of the shapes that the inputs have in turns.
        is_inside: whether the measuring loop sets inputs.
    """

    def __init__(self, infos: Sequence[InputInfo], arrays: Sequence[Sequence[np.ndarray]]) -> None:
        self.batches = batches_of(infos)
        self.is_inside = False
        self._infos = infos
        self._turns = [cycle([ov.Tensor(array) for array in of_input]) for of_input in arrays]
        self._group = -1

    def fill(self, request: ov.InferRequest) -> int:
        """Sets the next tensors where the loop does that; returns the group of the request's tensors."""
        return self.set_next(request) if self.is_inside else 0

    def prepare(self, request: ov.InferRequest) -> None:
        """Gives an idle request the next tensors: copied into its own where their sizes are known."""
        if not all(info.is_static for info in self._infos):
            self.set_next(request)
            return
        for index, turns in enumerate(self._turns):
            request.get_input_tensor(index).data[...] = next(turns).data

    def set_next(self, request: ov.InferRequest) -> int:
        """Sets the next tensors as the inputs of an idle request; returns their group."""
        for index, turns in enumerate(self._turns):
            request.set_input_tensor(index, next(turns))
        self._group = (self._group + 1) % len(self.batches)
        return self._group

    def turns(self, requests: int) -> int:
        """Of what the number of inferences has to be a multiple, so that each shape, or each request, has its turns."""
        return len(self.batches) if self.is_inside and len(self.batches) > 1 else requests

    def group_names(self) -> list[str]:
        """The shapes of each group."""
        return [
            ", ".join(f"{info.name}: {list(info.shapes[group % len(info.shapes)])}" for info in self._infos)
            for group in range(len(self.batches))
        ]
