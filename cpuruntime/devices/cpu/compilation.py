"""What compiling a model starts from, and all that its streams and programs depend on."""

from __future__ import annotations

from cpuruntime.devices.cpu.pipeline import optimise
from cpuruntime.devices.cpu.weight_storage import weight_storage
from cpuruntime.graph import Graph
from cpuruntime.host.topology import Topology
from cpuruntime.operators.demand import Demand, demand_of
from cpuruntime.passes import compress, resolve
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.stages.cut import is_whole
from cpuruntime.program.whole import Compile
from cpuruntime.properties import Settings
from cpuruntime.records import record
from cpuruntime.trace.recorder import span


@record
class Compilation:
    """A model to compile: as it was read, after the passes (None unless all shapes are known), and the processors.

    `weights` are packed and shared by all programs of the model. Planning takes the constants out of `optimised`,
    unless several models are planned from it (`is_shared`). `compile`, if it is given, compiles the kernels of what is
    planned at once. With `starts_fast` candidates that no kernel has to be compiled for are measured later.
    """

    graph: Graph
    optimised: Graph | None
    settings: Settings
    topology: Topology
    demand: Demand
    weights: WeightStore
    is_shared: bool = False
    compile: Compile | None = None
    starts_fast: bool = False

    @classmethod
    def of(
        cls, graph: Graph, settings: Settings, topology: Topology | None = None, compile: Compile | None = None,
        starts_fast: bool = False,
    ) -> Compilation:  # fmt: skip
        """Run the passes on a graph, for a machine like `topology` or for all of this one as it is now."""
        optimised = None
        graph = compress(graph, weight_storage(settings))
        if all(value.is_static for value in graph.inputs):
            with span("passes"):
                settled = graph if is_whole(graph) else resolve(graph)
                optimised = optimise(settled) if is_whole(settled) else None
        is_measured = settings.value("STREAMS_CALIBRATION_MS") or settings.value("LATENCY_TARGET_MS")
        weights = WeightStore(planned_once=optimised is not None and not is_measured)
        topology = topology or Topology.read()
        demand = demand_of(optimised or graph)
        return cls(graph, optimised, settings, topology, demand, weights, compile=compile, starts_fast=starts_fast)

    @property
    def name(self) -> str:
        """The model's."""
        return self.graph.name

    @property
    def is_static(self) -> bool:
        """Whether all shapes are known, so that there is one program."""
        return self.optimised is not None
