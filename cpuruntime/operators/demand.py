"""What a model asks of a machine: arithmetic, bytes and working set, node by node."""

from __future__ import annotations

from math import prod

from cpuruntime.graph import Graph, Value
from cpuruntime.records import record

BALANCE = 8
"""Floating-point operations of a core for each byte from memory: about this on today's processors."""

SHARE = 0.25
"""The part of the estimated time of an inference that counts as large."""


@record
class NodeDemand:
    """One node: floating-point operations (a multiply-add is two), bytes of values and of constants it works on.

    `weight_reads` is how often it reads its constants, once for each step of a recurrent operator.
    """

    name: str
    op_type: str
    flops: int
    activations: int
    weights: int
    weight_reads: int = 1

    @property
    def weights_time(self) -> int:
        """The time for reading weights, in operations by BALANCE."""
        return BALANCE * self.weights * self.weight_reads

    @property
    def working_set(self) -> int:
        """Bytes that a cache must hold for the node to touch memory once."""
        return self.activations + self.weights


@record
class Demand:
    """One inference of a model. `unknown` counts the nodes whose shapes are open, which are not in `nodes`."""

    nodes: tuple[NodeDemand, ...] = ()
    unknown: int = 0

    @property
    def flops(self) -> int:
        """Floating-point operations of one inference."""
        return sum(node.flops for node in self.nodes)

    @property
    def weights(self) -> int:
        """Bytes of all constants."""
        return sum(node.weights for node in self.nodes)

    @property
    def activations(self) -> int:
        """Bytes of values that one inference reads and writes."""
        return sum(node.activations for node in self.nodes)

    @property
    def is_for_weights(self) -> bool:
        """Whether reading weights, which a batch does once, takes a large part of the time."""
        bound = sum(node.weights_time for node in self.nodes if node.flops < node.weights_time)
        return bound >= SHARE * (bound + sum(node.flops for node in self.nodes if node.flops >= node.weights_time))

    @property
    def largest(self) -> NodeDemand | None:
        """The node with the largest working set."""
        return max(self.nodes, key=lambda node: node.working_set, default=None)


def demand_of(graph: Graph) -> Demand:
    """The demand of a graph, before or after the passes."""
    from cpuruntime.operators.traits import traits_of  # not above: where a demand was stored nobody asks

    found: list[NodeDemand] = []
    unknown = 0
    for node in graph.nodes:
        if traits_of(node).view:
            continue
        values = [value for value in (*node.inputs, *node.outputs) if value is not None and value.name]
        if not all(value.is_static for value in values):
            unknown += 1
            continue
        moved = {value: _nbytes(value) for value in values}
        weights = sum(size for value, size in moved.items() if value.constant is not None)
        count, reads = traits_of(node).multiply_adds, traits_of(node).weight_reads
        results = sum(prod(value.static_shape) for value in node.outputs if value.name)
        flops, repeats = results if count is None else 2 * count(node), 1 if reads is None else reads(node)
        found.append(NodeDemand(node.name, node.op_type, flops, sum(moved.values()) - weights, weights, repeats))
    return Demand(tuple(found), unknown)


def _nbytes(value: Value) -> int:
    # Strings and types without a fixed size are small where they occur.
    return prod(value.static_shape) * (value.element_type.size or 1)
