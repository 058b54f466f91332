"""Ports: the inputs and outputs of a compiled model, as a device states them, and the arrays of a request for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import numpy as np

from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.graph import Graph, Kind, PartialShape, Type, Value
from cpuruntime.host.memory import GrowingMemory, aligned_zeros
from cpuruntime.records import record


@record
class PortInfo:
    """An input or output of a compiled model.

    A sequence is an array of objects [n], its tensors; an optional is one of a single object: a tensor, a list of
    tensors, or None. `element_type` is that of the tensors.
    """

    name: str
    element_type: Type
    partial_shape: PartialShape
    kind: Kind = Kind.TENSOR

    @property
    def dtype(self) -> np.dtype:
        """That of arrays for the port."""
        return self.element_type.to_dtype() if self.kind is Kind.TENSOR else np.dtype(object)

    @staticmethod
    def inputs_of(graph: Graph) -> list[PortInfo]:
        """The inputs of a graph, with the bounds of their shapes."""
        return [PortInfo(v.name, v.element_type, _bounds(graph, v), v.kind) for v in graph.inputs]

    @staticmethod
    def outputs_of(graph: Graph) -> list[PortInfo]:
        """The outputs of a graph."""
        return [PortInfo.of(value) for value in graph.outputs]

    @staticmethod
    def of(value: Value) -> PortInfo:
        """A value, as an output."""
        return PortInfo(value.name, value.element_type, _partial(value), value.kind)


def _bounds(graph: Graph, value: Value) -> PartialShape:
    known = graph.input_bounds.get(value.name) if value.kind is Kind.TENSOR else None
    return _partial(value) if known is None else known


def _partial(value: Value) -> PartialShape:
    if value.kind is Kind.SEQUENCE:
        return PartialShape([-1])
    if value.shape is None:
        return PartialShape.dynamic()
    return PartialShape([-1 if extent is None else extent for extent in value.shape])


class BoundArrays(ABC):
    """The part of a `DeviceRequest` that owns and binds arrays; a subclass calls `bind_own` when it is made."""

    def bind_own(self, inputs: Sequence[PortInfo], outputs: Sequence[PortInfo]) -> None:
        """Bind own memory to outputs and to inputs of static shape."""
        self._ports, self._dtypes = inputs, [info.dtype for info in inputs]
        self._own: list[np.ndarray | None] = [None] * len(inputs)
        self._memory = [GrowingMemory() for _ in inputs]
        self._inputs: list[np.ndarray | None] = [None] * len(inputs)
        self._outputs = [aligned_zeros(info.partial_shape.get_min_shape(), info.dtype) for info in outputs]
        for index, info in enumerate(inputs):
            if info.partial_shape.is_static:
                self.input_array(index, tuple(info.partial_shape.to_shape()))

    def input_array(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        """Own memory for input `index`, bound."""
        own = self._own[index]
        if own is None or own.shape != shape:
            dtype = self._dtypes[index]
            own = aligned_zeros(shape, dtype) if dtype.hasobject else self._memory[index].array(shape, dtype)
            self._own[index] = own
        self.set_input(index, own)
        return own

    @abstractmethod
    def set_input(self, index: int, array: np.ndarray) -> None:
        """Bind memory to input `index`."""

    def output_array(self, index: int) -> np.ndarray:
        """The memory bound to output `index`."""
        return self._outputs[index]

    def bound_inputs(self) -> list[np.ndarray]:
        """The arrays of all inputs. Raises InvalidArgumentError where none is bound."""
        for array in self._inputs:
            if array is None:
                info = next(info for info, bound in zip(self._ports, self._inputs) if bound is None)
                raise InvalidArgumentError(f"Input '{printable(info.name)}' {info.partial_shape} has no data yet.")
        return cast("list[np.ndarray]", self._inputs)
