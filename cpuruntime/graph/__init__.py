"""The graph that models are read into, with element types and (partial) shapes."""

from cpuruntime.graph.graph import Graph, Kind, Node, Value, print_graph, print_node
from cpuruntime.graph.shapes import Dimension, PartialShape, Shape
from cpuruntime.graph.types import Type
from cpuruntime.graph.verify import verify

__all__ = [
    "Dimension",
    "Graph",
    "Kind",
    "Node",
    "PartialShape",
    "Shape",
    "Type",
    "Value",
    "print_graph",
    "print_node",
    "verify",
]
