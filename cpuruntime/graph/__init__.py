"""The graph that models are read into, with element types and (partial) shapes."""

from cpuruntime.graph.compressed import Compressed
from cpuruntime.graph.deferred import Deferred, Origin, joined, remade, settle
from cpuruntime.graph.digest import graph_digest
from cpuruntime.graph.dimension import Dimension, Symbol
from cpuruntime.graph.graph import Graph, Kind, Node, Value, print_graph, print_node
from cpuruntime.graph.shapes import PartialShape, Shape
from cpuruntime.graph.sizes import (
    LARGEST_EXTENT,
    SMALLEST_EXTENT,
    Extent,
    Relation,
    Scope,
    Size,
    Terms,
    alike,
    at_least,
    typical,
)
from cpuruntime.graph.types import Type
from cpuruntime.graph.verify import verify

__all__ = [
    "LARGEST_EXTENT",
    "SMALLEST_EXTENT",
    "Compressed",
    "Deferred",
    "Dimension",
    "Extent",
    "Graph",
    "Kind",
    "Node",
    "Origin",
    "PartialShape",
    "Relation",
    "Scope",
    "Shape",
    "Size",
    "Symbol",
    "Terms",
    "Type",
    "Value",
    "alike",
    "at_least",
    "graph_digest",
    "joined",
    "print_graph",
    "print_node",
    "remade",
    "settle",
    "typical",
    "verify",
]
