"""Memory that inferences read and that copying to an input must not write to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cpuruntime.api.ports import ConstOutput
from cpuruntime.api.tensor import Tensor
from cpuruntime.errors import InvalidArgumentError, WrongTypeError, printable


class Lent(Tensor):
    """The memory of an array that a user lent for reading."""

    __slots__ = ()


class Samples(Lent):
    """Tensors that are read as one, joined along a dimension."""

    __slots__ = ("_axis", "_parts")

    def __init__(self, parts: Sequence[Tensor], axis: int) -> None:
        self._parts, self._axis = tuple(parts), axis
        super().__init__(self.elements, shared_memory=True)

    @property
    def data(self) -> np.ndarray:
        return self.elements

    @property
    def elements(self) -> np.ndarray:
        return np.concatenate([part.elements for part in self._parts], self._axis)


def one_tensor(tensor: Tensor) -> Tensor:
    """The tensor; InvalidArgumentError where it is several that are read as one."""
    if isinstance(tensor, Samples):
        raise InvalidArgumentError(
            "get_tensor shall not be used together with batched set_tensors/set_input_tensors: the input reads the "
            "tensors that were set."
        )
    return tensor


def samples_of(port: ConstOutput, given: Any) -> Samples:
    """The samples of a batch for an input. Raises InvalidArgumentError where they are none."""
    where, axis = f"Input '{printable(port.any_name)}'", port.batch_axis
    if not isinstance(given, Sequence) or not given or not all(isinstance(one, Tensor) for one in given):
        raise WrongTypeError(f"{where}: a list of tensors is needed, not {type(given).__name__}.")
    shapes = sorted({tuple(tensor.shape) for tensor in given})
    if len(shapes) > 1 or len(shapes[0]) <= axis or shapes[0][axis] != 1:
        raise InvalidArgumentError(
            f"{where}: the samples of a batch have one shape, of length 1 in dimension {axis}; given are "
            f"{', '.join(str(list(shape)) for shape in shapes)}."
        )
    return Samples(given, axis)
