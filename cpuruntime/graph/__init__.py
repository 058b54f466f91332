"""The graph that models are read into, with element types and (partial) shapes."""

from cpuruntime.graph.graph import Graph, Kind, Node, Value, print_graph, print_node
from cpuruntime.graph.shapes import Dimension, PartialShape, Shape
from cpuruntime.graph.sizes import LARGEST_EXTENT, Extent, Formulas, Scope, Size, typical
from cpuruntime.graph.types import Type
from cpuruntime.graph.verify import verify

__all__ = [
    "LARGEST_EXTENT",
    "Dimension",
    "Extent",
    "Formulas",
    "Graph",
    "Kind",
    "Node",
    "PartialShape",
    "Scope",
    "Shape",
    "Size",
    "Type",
    "Value",
    "print_graph",
    "print_node",
    "typical",
    "verify",
]
