"""Ports: the inputs and outputs of a compiled model, as a device states them."""

from __future__ import annotations

from dataclasses import dataclass

from cpuruntime.graph import Graph, PartialShape, Type, Value


@dataclass(frozen=True, slots=True)
class PortInfo:
    """An input or output of a compiled model."""

    name: str
    element_type: Type
    partial_shape: PartialShape

    @staticmethod
    def inputs_of(graph: Graph) -> list[PortInfo]:
        """The inputs of a graph, with the bounds of their shapes."""
        return [PortInfo(v.name, v.element_type, graph.input_bounds.get(v.name) or _partial(v)) for v in graph.inputs]

    @staticmethod
    def outputs_of(graph: Graph) -> list[PortInfo]:
        """The outputs of a graph."""
        return [PortInfo(v.name, v.element_type, _partial(v)) for v in graph.outputs]


def _partial(value: Value) -> PartialShape:
    if value.shape is None:
        return PartialShape.dynamic()
    return PartialShape([-1 if extent is None else extent for extent in value.shape])
