"""Batch split: a batch runs one sample after the other, so that values stay in the cache from step to step."""

from __future__ import annotations

from cpuruntime.devices.cpu.pipeline import optimise
from cpuruntime.graph import Graph
from cpuruntime.operators.batch_axis import one_sample
from cpuruntime.operators.demand import Demand, demand_of
from cpuruntime.program.lowerings.catalogue import find_lowering

FEWEST = 4
"""Samples of a batch, at least: with two no model was faster."""

CACHE = 2**20
"""Bytes of values in the largest step of a whole batch, at least: about a core's own cache."""

SMALLEST = 2**16
"""Bytes of values in the largest step of one sample, at least; below it the overhead of steps dominates."""

WEIGHTS = 2**26
"""Bytes of weights, at most, since each sample reads them again: about the size of caches.

On Zen 5, 8 samples of squeezenet, mobilenet_v2, shufflenet, densenet121 and efficientnet_b0 (5 to 32 MB) took 6 to 22 %
less time on two threads, and up to 45 % less on two streams; inception_v1 and v2 (28 and 45 MB) took -8 to 4 % more,
vgg19 (574 MB) would take 25 % more.
"""


def by_sample(graph: Graph, optimised: Graph) -> tuple[Graph, int] | None:
    """The graph after the passes for one sample of a batch, and how many there are; None where a batch is better.

    Both graphs are of static shapes: `graph` before the passes, `optimised` after them.
    """
    demand = demand_of(optimised)
    if _largest(demand) <= CACHE or demand.weights > WEIGHTS:
        return None
    found = one_sample(graph)
    if found is None or found[1] < FEWEST:
        return None
    sample = optimise(found[0])
    demand = demand_of(sample)
    has_kernels = not any(isinstance(find_lowering(node), str) for node in sample.nodes)
    suits = _largest(demand) >= SMALLEST and not demand.is_for_weights
    return (sample, found[1]) if has_kernels and suits else None


def _largest(demand: Demand) -> int:
    return max((node.activations for node in demand.nodes), default=0)
