"""The CPU's pipeline of passes."""

from __future__ import annotations

from cpuruntime import passes
from cpuruntime.graph import Graph

_AT = [one.name for one in passes.CANONICAL].index("quantisation")
PIPELINE = passes.CANONICAL[:_AT] + passes.QUANTISE + passes.CANONICAL[_AT:] + passes.SIMPLIFY + passes.FUSE

_FOR_KERNELS = {"byte_sums", "elementwise_chains", "group_norm", "images", "pooling", "transposed_convolution"}
"""Passes that make operators which only kernels compute."""


def optimise(graph: Graph) -> Graph:
    """The graph after the passes, a copy; as `passes.run`."""
    return passes.run(graph, PIPELINE)


def optimise_for_numpy(graph: Graph) -> Graph:
    """The same for `passes.evaluate`."""
    return passes.run(graph, tuple(one for one in PIPELINE if one.name not in _FOR_KERNELS))
