"""Memory of a device that users hold: the contexts in which it is made, and tensors in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from cpuruntime.graph import Type


class DeviceTensor(ABC):
    """Memory of a device with an element type and a shape, freed with the last reference to it.

    `handle` is the driver's object, for programs that use it beside this package. No inference runs on it meanwhile.
    """

    element_type: Type
    shape: tuple[int, ...]
    nbytes: int
    handle: Any

    @abstractmethod
    def read(self, array: np.ndarray) -> None:
        """Copy to a C-contiguous array of the same type and shape; it is there at the return."""

    @abstractmethod
    def write(self, array: np.ndarray) -> None:
        """Copy from a C-contiguous array of the same type and shape."""


class DeviceContext(ABC):
    """Where tensors of a device lie that several models use. `device` is its name, `handle` the driver's object.

    `plugin` compiles models that can use them.
    """

    device: str
    handle: Any
    plugin: Any

    @abstractmethod
    def create(self, element_type: Type, shape: tuple[int, ...], foreign: Any = None) -> DeviceTensor:
        """New memory, with any content; or that of another library, as its object, handle or DLPack tensor.

        Raises InvalidArgumentError for what is none, is too small, or is of another context; OutOfMemoryError.
        """

    @abstractmethod
    def host_array(self, element_type: Type, shape: tuple[int, ...]) -> np.ndarray:
        """An array in the host's memory that kernels use in place, where the device can. OutOfMemoryError."""
