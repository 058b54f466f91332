"""The programs of a CPU model: planned for the shapes of its inputs, cached, with packed weights that all share."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict

from cpuruntime.devices.cpu.batch_split import by_sample
from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.pipeline import optimise
from cpuruntime.devices.cpu.progress import CompileProgress
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import printable
from cpuruntime.graph import Graph, PartialShape
from cpuruntime.hints import StreamPlan
from cpuruntime.host.memory import check_fits
from cpuruntime.host.sysfs import processor_name
from cpuruntime.operators.shape_inference import reshape
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import FallbackStep
from cpuruntime.program.program import Program
from cpuruntime.program.tuning.tuner import create_tuner

log = logging.getLogger("cpuruntime")

Shapes = tuple[tuple[int, ...], ...]

MOST = 16
"""How many input shapes of a dynamic model stay planned; arbitrary."""


class Programs:
    """Plans programs for the streams of `plan` and caches them; a model of static shapes is planned at once.

    May be used from several threads. `profiled` says whether each step of an inference is timed.
    """

    def __init__(self, compilation: Compilation, plan: StreamPlan) -> None:
        graph, settings = compilation.graph, compilation.settings
        self.name = graph.name
        self.inputs, self.outputs = PortInfo.inputs_of(graph), PortInfo.outputs_of(graph)
        self.is_static = compilation.is_static
        self.profiled: bool = settings.value("PERF_COUNT")
        self._exact: bool = settings.value("EXECUTION_MODE_HINT") == "ACCURACY"
        self._streams = plan
        self._weights = compilation.weights
        self._tuner = create_tuner(settings.value("TUNING_BUDGET_MS") / 1000, processor_name(), graph)
        self._graph = None if self.is_static else graph.clone()
        self._cached: OrderedDict[Shapes, Program] = OrderedDict()
        self._lock = threading.Lock()
        if compilation.optimised is not None:
            shapes = tuple(value.static_shape for value in graph.inputs)
            self._cached[shapes] = self._planned(graph, compilation.optimised, not compilation.is_shared)

    def of(self, shapes: Shapes) -> Program:
        """The program for inputs of these shapes, planned when they are new; the least recently used is evicted."""
        with self._lock:
            found = self._cached.get(shapes)
            if found is None:
                assert self._graph is not None
                bound = {value.name: PartialShape(list(s)) for value, s in zip(self._graph.inputs, shapes)}
                graph = reshape(self._graph, bound)
                found = self._cached[shapes] = self._planned(graph, optimise(graph))
                while len(self._cached) > MOST:
                    self._cached.popitem(last=False)
            self._cached.move_to_end(shapes)
            return found

    def cached(self) -> list[Program]:
        """The programs in the cache, the one used last at the end."""
        with self._lock:
            return list(self._cached.values())

    def weights_nbytes(self) -> int:
        """Bytes of the packed weights; waits while a program is planned."""
        with self._lock:
            return self._weights.nbytes

    def _planned(self, graph: Graph, optimised: Graph, owned: bool = True) -> Program:
        """The program of a graph of static shapes, given before and after the passes."""
        split = by_sample(graph, optimised)
        return self.plan(optimised, owned=owned) if split is None else self.plan(*split)

    def plan(self, optimised: Graph, samples: int = 1, owned: bool = True) -> Program:
        """A new program of a graph of static shapes after the passes, for each of `samples` samples; it is not cached.

        The graph loses its constants if it is `owned`.
        """
        planner = Planner(optimised, self._weights, self._streams.threads, self._exact, self._tuner, owned)
        planner.plan()
        with CompileProgress() as progress:
            program = Program(planner, progress, samples)
        for step in program.planned:
            if isinstance(step, FallbackStep):
                log.warning("%s runs in the reference evaluator, slowly: %s", step.node.where, step.reason)
        self._weights.forget_sources()
        needed = program.arena_size * max(1, len(self._streams.streams))
        check_fits(needed, f"the streams of model '{printable(self.name)}'")
        return program
