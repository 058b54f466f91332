"""The CPU's pipeline of passes."""

from __future__ import annotations

from cpuruntime import passes
from cpuruntime.graph import Graph

PIPELINE = passes.CANONICAL + passes.SIMPLIFY + passes.FUSE


def optimise(graph: Graph) -> Graph:
    """The graph after the passes, a copy; as `passes.run`."""
    return passes.run(graph, PIPELINE)
