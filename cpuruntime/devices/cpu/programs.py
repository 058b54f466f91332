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
from cpuruntime.errors import Error, printable
from cpuruntime.graph import Graph, PartialShape
from cpuruntime.hints import StreamPlan
from cpuruntime.host.memory import check_fits
from cpuruntime.host.sysfs import processor_name
from cpuruntime.operators.shape_inference import reshape, with_shapes
from cpuruntime.program.plan.emitter import Chooser
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import FallbackStep
from cpuruntime.program.program import Program, assemble
from cpuruntime.program.template import Pattern, Template
from cpuruntime.program.tuning.tuner import create_tuner

log = logging.getLogger("cpuruntime")

Shapes = tuple[tuple[int, ...], ...]

MOST_TEMPLATES = 32
"""How many plans of a dynamic model are cached, each of which serves many shapes; arbitrary."""


class Programs:
    """Plans programs for the streams of `plan` and caches them; a model of static shapes is planned at once.

    A dynamic model is planned once for many shapes; then the program for new shapes takes filling in sizes. Programs
    are cached up to PROGRAM_CACHE_MB, the least recently used is evicted. May be used from several threads. `profiled`
    says whether each step of an inference is timed, `notes` what passes decided for any of the programs.
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
        self._templates: OrderedDict[Pattern, Template] = OrderedDict()
        self._room: int = settings.value("PROGRAM_CACHE_MB") << 20
        self._lock = threading.Lock()
        self.notes: list[str] = []
        if compilation.optimised is not None:
            shapes = tuple(value.static_shape for value in graph.inputs)
            self._cached[shapes] = self._planned(graph, compilation.optimised, not compilation.is_shared)

    def of(self, shapes: Shapes) -> Program:
        """The program for inputs of these shapes, planned when they are new; the least recently used is evicted."""
        with self._lock:
            found = self._cached.get(shapes)
            if found is None:
                found = self._cached[shapes] = self._from_template(shapes) or self._from_graph(shapes)
                self._room -= found.nbytes
                while self._room < 0 and len(self._cached) > 1:
                    self._room += self._cached.popitem(last=False)[1].nbytes
            self._cached.move_to_end(shapes)
            return found

    def _from_template(self, shapes: Shapes) -> Program | None:
        """The program by a plan for many shapes, which is made where there is none; None where that cannot be."""
        for pattern, template in reversed(self._templates.items()):
            extents = pattern.match(shapes)
            program = None if extents is None else template.at(extents)
            if program is not None:
                self._templates.move_to_end(pattern)
                return self._checked(program)
        assert self._graph is not None
        pattern = Pattern(self._graph.inputs, shapes)
        if not pattern.extents:
            return None
        try:
            scope, sizes = pattern.sizes()
            planner = self._planner(optimise(with_shapes(self._graph, sizes)), tuner=None, owned=True)
            with CompileProgress() as progress:
                template = Template(planner, scope, progress)
        except Error as error:
            log.debug("model '%s' is planned for the shapes %s alone: %s", self.name, shapes, error)
            return None
        self._templates[pattern] = template
        if len(self._templates) > MOST_TEMPLATES:
            self._templates.popitem(last=False)
        program = template.at(pattern.extents)
        assert program is not None
        self._report(program)
        return self._checked(program)

    def _from_graph(self, shapes: Shapes) -> Program:
        """The program of a plan for these shapes alone."""
        assert self._graph is not None
        bound = {value.name: PartialShape(list(s)) for value, s in zip(self._graph.inputs, shapes)}
        graph = reshape(self._graph, bound)
        return self._planned(graph, optimise(graph))

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
        planner = self._planner(optimised, self._tuner, owned)
        with CompileProgress() as progress:
            program = assemble(planner, progress, samples)
        self._report(program)
        return self._checked(program)

    def _planner(self, optimised: Graph, tuner: Chooser | None, owned: bool) -> Planner:
        for note in optimised.notes:
            if note not in self.notes:
                self.notes.append(note)
                log.warning("model '%s': %s", printable(self.name), note)
        planner = Planner(optimised, self._weights, self._streams.threads, self._exact, tuner, owned)
        planner.plan()
        self._weights.forget_sources()
        return planner

    def _report(self, program: Program) -> None:
        for step in program.planned:
            if isinstance(step, FallbackStep):
                log.warning("%s runs in the reference evaluator, slowly: %s", step.node.where, step.reason)

    def _checked(self, program: Program) -> Program:
        needed = program.arena_size * max(1, len(self._streams.streams))
        check_fits(needed, f"the streams of model '{printable(self.name)}'")
        return program
