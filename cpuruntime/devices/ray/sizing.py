"""How many nodes a load needs, found by simulating clusters of more and more nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from cpuruntime.devices.ray.simulation import SECOND, Outcome, Scenario, simulate
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Graph
from cpuruntime.operators.demand import demand_of

FLOPS_PER_NS, BYTES_PER_NS = 80, 5
"""What a core of a typical server computes, and reads from memory, in a nanosecond: a guess without a measurement."""

OF_DRIVER = 5_000
"""Requests a second that one driver is to send."""

GOOD = 0.99
"""The share of the requests that must be within the target."""

SIMULATED = 5_000
"""Requests in one simulation, at least."""

MOST_NODES = 10_000


@dataclass(frozen=True)
class Size:
    """A cluster that holds the target, and what was simulated with it: all well, and with a node that fails."""

    scenario: Scenario
    outcome: Outcome
    with_failure: Outcome

    def __str__(self) -> str:
        scenario = self.scenario
        lines = [
            f"{scenario.nodes} nodes with a replica each, of {scenario.streams} streams; "
            f"{len(scenario.rates)} drivers",
            f"a request takes {scenario.service / 1e6:.3g} ms and its way {scenario.trip / 1e6:.3g} ms; the streams "
            f"are busy for {sum(scenario.rates) * scenario.service / SECOND / scenario.nodes / scenario.streams:.0%}",
        ]
        for what, outcome in (("simulated", self.outcome), ("with one node failing", self.with_failure)):
            lines.append(
                f"{what}: {outcome.started} requests, p50 {outcome.quantile(0.5) / 1e6:.3g} ms, "
                f"p99 {outcome.quantile(0.99) / 1e6:.3g} ms, {outcome.goodput:.3%} within "
                f"{scenario.target / 1e6:g} ms, {outcome.retries} retries"
            )
        return "\n".join(lines)


def estimated_service(graph: Graph, threads: int) -> int:
    """Nanoseconds of a request on a stream of so many threads, roughly, from its arithmetic and weights.

    Raises InvalidArgumentError where shapes are open, so that the demand is not known.
    """
    demand = demand_of(graph)
    if demand.unknown or not demand.nodes:
        raise InvalidArgumentError("The model's shapes are open: give them by -shape, or request_ms in the file.")
    nodes = demand.nodes
    return max(1, int(sum(max(n.flops / FLOPS_PER_NS / threads, n.weights / BYTES_PER_NS) for n in nodes)))


def drivers_of(rate: float) -> Sequence[float]:
    """The rates of as many drivers as a load needs."""
    count = max(1, ceil(rate / OF_DRIVER))
    return [rate / count] * count


def size_of(rate: float, target: int, streams: int, service: int, trip: int) -> Size:
    """The fewest nodes with which requests that arrive at `rate` a second are within `target` nanoseconds.

    Raises InvalidArgumentError where no number of nodes does.
    """
    if service + trip > target:
        raise InvalidArgumentError(
            f"A request takes {service / 1e6:.3g} ms and its way {trip / 1e6:.3g} ms, more than the latency target of "
            f"{target / 1e6:g} ms, on any number of nodes."
        )
    seconds = max(SIMULATED / rate, 20 * (service + trip) / SECOND)

    def scenario(nodes: int) -> Scenario:
        return Scenario(nodes, streams, service, trip, drivers_of(rate), seconds, target=target)

    def holds(nodes: int) -> bool:
        return simulate(scenario(nodes)).goodput >= GOOD

    low = high = max(1, ceil(rate * service / SECOND / streams))
    while not holds(high):
        low, high = high + 1, high + max(1, high // 2)
        if high > MOST_NODES:
            raise InvalidArgumentError(f"More than {MOST_NODES} nodes do not hold {target / 1e6:g} ms at {rate:g}/s.")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    best = scenario(high)
    return Size(best, simulate(best), simulate(replace(best, failing=1 / high)))
