"""The streams that compiling a model would make, from what is known without compiling and measuring."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from cpuruntime.devices.cpu.streams.calibration import Trials, recall
from cpuruntime.devices.cpu.streams.effects import tries_other_streams
from cpuruntime.devices.cpu.streams.placement import foresee, unreserved
from cpuruntime.graph import Graph
from cpuruntime.hints import StreamPlan, alternatives, plan_streams
from cpuruntime.host.ledger import EMPTY, Ledger
from cpuruntime.host.topology import Topology
from cpuruntime.operators.demand import demand_of
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.properties import Settings


def forecast(graph: Graph, optimised: Graph | None, settings: Settings, topology: Topology | None) -> StreamPlan:
    """The plan, with a sentence for each property whose effect is only known after measuring.

    Args:
        graph: the model.
        optimised: of a model of static shapes the graph after the passes.
        settings: parsed.
        topology: another machine, on which nothing else runs; None for this one, with the processors that models have
            pinned now and what was measured here before.

    Raises:
        DeviceUnavailableError: processors are reserved for other models, or cannot be for this one.
    """
    demand = demand_of(optimised or graph)
    target, budget = settings.value("LATENCY_TARGET_MS"), settings.value("STREAMS_CALIBRATION_MS")
    measured = optimised if budget and not target else None
    left = here = Topology.read() if topology is None else topology
    chosen = None
    if measured is not None and topology is None:
        left, _ = unreserved(here, Ledger().holders())
        chosen = recall(Trials(graph, measured, WeightStore(), settings, left, demand))
    planner = partial(plan_streams, settings, demand=demand, sizes=chosen)
    if topology is None:
        with Ledger().open() as snapshot:
            plan = foresee(planner, settings, here, snapshot)
    else:
        plan = foresee(planner, settings, here, EMPTY)
    unknown = []
    if measured is not None and chosen is None and len(alternatives(settings, left, demand)) > 1:
        unknown.append(f"STREAMS_CALIBRATION_MS is {budget}: compiling measures other streams, too, and takes the best")
    if tries_other_streams(settings, optimised is not None):
        unknown.append(
            f"LATENCY_TARGET_MS is {target:g}: compiling measures streams of other sizes on these processors, too, and "
            "the load decides which are used"
        )
    return replace(plan, reasons=(*plan.reasons, *unknown))
