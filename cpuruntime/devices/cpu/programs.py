"""The stages of a CPU model: planned for the shapes of its inputs, cached, with packed weights that all share."""

from __future__ import annotations

import json
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import numpy as np

from cpuruntime.compiler import build, pool
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.devices.cpu import guesses
from cpuruntime.devices.cpu.batch_split import by_sample
from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.pipeline import optimise
from cpuruntime.devices.cpu.progress import CompileProgress
from cpuruntime.devices.cpu.workforce import workforce
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import Error, InvalidArgumentError, UnsupportedError, nearest, printable
from cpuruntime.graph import Graph, Kind, PartialShape, graph_digest
from cpuruntime.hints import StreamPlan
from cpuruntime.host.memory import check_fits
from cpuruntime.host.sysfs import processor_name
from cpuruntime.operators.shape_inference import reshape, with_shapes
from cpuruntime.program.common_sections import Parts, Sections
from cpuruntime.program.image import Image
from cpuruntime.program.pattern import Pattern
from cpuruntime.program.plan.packing import Recipe
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import FallbackStep, Step
from cpuruntime.program.plan.weights import DryWeights
from cpuruntime.program.program import Program
from cpuruntime.program.stages.cut import Cut, cut_open, is_whole, whole
from cpuruntime.program.stages.loops import plan_bodies
from cpuruntime.program.stages.stage import Root, Stage, Stages
from cpuruntime.program.template import Guards, Template
from cpuruntime.program.tuning.tuner import Tuner, create_tuner
from cpuruntime.program.whole import assemble, kernels_of
from cpuruntime.streams.native.needed import KERNELS
from cpuruntime.trace.recorder import span

log = logging.getLogger("cpuruntime")

MOST_STORED = 100
"""Parts of a model in stages whose plans a process stores, those that it planned first; arbitrary."""


class StoredParts(Protocol):
    """Plans that were stored, by the graphs that they are for, and what they are stored with again."""

    programs: dict[Any, Program]
    templates: dict[str, Any]
    parts: Parts

    def plans(self) -> tuple[Sections, dict[str, list[Any]]]:
        """The sections of programs and templates, and the facts about them, in new lists."""


class Programs:
    """Plans stages for the streams of `plan` and caches them; a model of static shapes is planned at once.

    May be used from several threads. `profiled` says whether each step of an inference is timed, `notes` what passes
    decided for any of the programs. `made` are the plans of parts of a model in stages that are to be stored, with the
    extents that they were made for, by the graphs that they are for, beside those that were `stored`; `when_planned` is
    called when there are more plans to be stored. `ran` are the stages of the latest inference that had several, and
    `latest` is what `example_of` noted of its inputs.
    """

    def __init__(
        self, compilation: Compilation, plan: StreamPlan, tuner: Tuner | None = None,
        stored: StoredParts | None = None,
    ) -> None:  # fmt: skip
        graph, settings = compilation.graph, compilation.settings
        self.name = graph.name
        self.inputs, self.outputs = PortInfo.inputs_of(graph), PortInfo.outputs_of(graph)
        self.is_static = compilation.is_static
        self.profiled: bool = settings.times_steps
        self._states = [] if self.is_static else guesses.states_of(graph)
        # The faster methods have weights of their own: a model that generates has steps of few rows, and needs none.
        self._exact: bool = settings.value("EXECUTION_MODE_HINT") == "ACCURACY" or bool(self._states)
        self._streams = plan
        self._force = workforce(compilation.topology)
        now = partial(_compile_now, self._force)
        self._compile = compilation.compile or now
        self._check = compilation.compile if compilation.starts_fast else None
        self._arenas, self._users = max(1, len(plan.streams)), f"the streams of model '{printable(self.name)}'"
        self._weights = compilation.weights
        budget, eager = settings.value("TUNING_BUDGET_MS") / 1000, not compilation.starts_fast
        self._tuner = tuner or create_tuner(budget, processor_name(), graph, eager)
        self._lock = threading.RLock()
        self.notes: list[str] = []
        self.ran: Sequence[Stage] = ()
        self.latest: Sequence[Any] | None = None
        self.stages = Stages(weakref.proxy(self), self._lock, settings.value("PROGRAM_CACHE_MB") << 20)
        self.stored = stored
        self.when_planned: Callable[[], None] | None = None
        self.made: dict[str, tuple[Program | Template, Sequence[int]]] = {}
        self._is_noted = stored is not None or bool(settings.value("CACHE_DIR"))
        self._root = Root(graph.clone(), shaped=_reshaped, is_typed=True) if compilation.optimised is None else None
        self._only: Stage | None = None
        self._again: tuple[Graph, int] | None = None
        if compilation.optimised is not None:
            again = by_sample(graph, compilation.optimised) or (compilation.optimised, 1)
            self._only = Stage(whole(graph), self.plan(*again, owned=eager and not compilation.is_shared))
            if self._tuner is not None and self._tuner.is_open and not eager:
                self._again = again
            else:
                self._weights.forget_sources()
        elif all(value.is_static for value in graph.inputs):
            self._plan_first()
        else:
            self._warm_up(settings.value("WARMUP_SHAPES"))
        self._compile(KERNELS)
        self._compile, self._check = now, None
        if not self.is_in_stages:
            self._is_noted &= self._root is not None and not self.stages.cached()
            self.made.clear()

    def _plan_first(self) -> None:
        """Plan what is known when the shapes of the inputs are; what is wrong is the model's fault."""
        zeros = [np.zeros((), info.dtype) for info in self.inputs]
        shapes = [info.partial_shape.to_shape() for info in self.inputs]
        try:
            values = [np.broadcast_to(zero, shape) for zero, shape in zip(zeros, shapes)]
            plan_bodies(self.stages, self.of(values))
            self.of(values)  # the one used last
        except InvalidArgumentError as error:
            raise error.__cause__ or error from None

    def _warm_up(self, wanted: Any) -> None:
        """Plan a model of dynamic shapes for the shapes wanted, or for guesses, which it need not take."""
        if wanted == "NONE" or any(info.kind is not Kind.TENSOR for info in self.inputs):
            return
        names = [info.name for info in self.inputs]
        for given in wanted:
            for name, _ in given:
                if name not in names:
                    hint = nearest(name, names)
                    raise InvalidArgumentError(f"WARMUP_SHAPES: the model has no input '{printable(name)}'.{hint}")
            rest = [guesses.extents(info.partial_shape, (1,)) for info in self.inputs]
            self._plan_for([dict(given).get(info.name) or guess for info, guess in zip(self.inputs, rest)])
        if not wanted:
            self._plan_guesses()

    def _plan_guesses(self) -> None:
        if not self._states and len(self.inputs) == 1 and guesses.is_image(self.inputs[0].partial_shape):
            for guess, is_more in guesses.images(self.inputs):
                if not is_more or (self._root and self._root.templates):
                    self._can_plan(guess)
            return
        sets = guesses.texts(self.inputs, self._states) if self._states else guesses.batches(self.inputs)
        for shapes in sets:
            any(self._can_plan(guess) for guess in shapes)

    def _can_plan(self, guess: Sequence[Sequence[int]]) -> bool:
        with suppress(Error):
            self._plan_for(guess)
            return True
        return False

    def _plan_for(self, shapes: Sequence[Sequence[int]]) -> None:
        for info, shape in zip(self.inputs, shapes):
            if not info.partial_shape.compatible(PartialShape(list(shape))):
                raise InvalidArgumentError(
                    f"WARMUP_SHAPES: input '{printable(info.name)}' {info.partial_shape} cannot have the shape "
                    f"{list(shape)}."
                )
        zeros = [np.zeros((), info.element_type.to_dtype()) for info in self.inputs]
        self.of([np.broadcast_to(zero, shape) for zero, shape in zip(zeros, shapes)])

    def of(self, values: Sequence[np.ndarray]) -> Stage:
        """The first stage for inputs of the shapes of `values` (lists for sequences), planned when they are new.

        Raises InvalidArgumentError when the model does not take them.
        """
        if self._only is not None:
            return self._only
        assert self._root is not None
        return self.stages.of(self._root, values)

    def template(self, root: Root, pattern: Pattern) -> tuple[Cut, Template | Guards] | None:
        """The parts of a graph as it was read, and a plan of them for many shapes; None where that cannot be."""
        try:
            scope, shapes, contents = pattern.sizes()
            known = root.parameters or ()
            graph = with_shapes(root.graph, shapes, dict(zip(known, contents)))
            parts = whole(graph) if is_whole(graph) else cut_open(graph, root.varying)
            is_model = root is self._root and parts.is_static
            key = None if is_model or parts.static is None else self._key(parts.static, pattern.facts())
            template = None if key is None or self.stored is None else self.stored.templates.get(key)
            if parts.static is None:
                template = Guards(scope, self._compile)
            elif template is None:
                planner = self._planner(optimise(parts.static), tuner=None, owned=True)
                template = Template(planner, scope, self._compile)
                self._note(key, template, pattern.extents)
        except Error as error:
            log.debug("model '%s' has no plan for many shapes: %s", printable(self.name), error)
            return None
        program = template.at(pattern.extents)
        if isinstance(program, Program):
            self._report(program)
        return parts, template

    def program(self, graph: Graph) -> Program:
        """A program of a graph of static shapes, as it was read."""
        key = self._key(graph)
        found = None if key is None or self.stored is None else self.stored.programs.get(key)
        if found is None:
            found = self._planned(graph, optimise(graph))
            self._note(key, found, ())
        return found

    def _note(self, key: str | None, made: Program | Template, extents: Sequence[int]) -> None:
        if key is not None:
            self.made[key] = made, extents
        if self.when_planned is not None:
            self.when_planned()

    def _key(self, graph: Graph, *facts: Any) -> str | None:
        """What a plan is stored under; None where it is not to be."""
        is_noted = self._is_noted and len(self.made) < MOST_STORED
        return json.dumps([graph_digest(graph), *facts]) if is_noted else None

    @property
    def is_in_stages(self) -> bool:
        """Whether inferences are more than one program."""
        root = self._root
        if root is None:
            return False
        stages = [stage.parts for _, stage in self.stages.of_root(root)]
        stages += [template.parts for template in root.templates.values()]
        return not root.is_typed or bool(root.parameters) or not all(parts.is_static for parts in stages)

    @property
    def is_open(self) -> bool:
        """Whether estimates decided between candidates that `measure` would run; of models of static shapes."""
        return self._again is not None

    def measure(self, clock: Callable[[], float]) -> None:
        """Measure what estimates decided, where `is_open`, and plan the model again if that changes what is chosen.

        What the clock raises ends it.
        """
        if self._again is None or self._only is None or self._tuner is None:
            return
        (graph, samples), tuner = self._again, self._tuner.later(clock)
        planner = Planner(graph, DryWeights(), self._streams.threads, self._exact, tuner)
        with build.when_missing(partial(self._compile_ahead, planner, tuner)):
            planner.plan()
        if tuner.has_changed:
            old, self._tuner = self._only, tuner
            self._only = Stage(old.parts, self.plan(graph, samples))
            assert old.program is not None
            old.program.is_retired = True
        self._again = None
        self._weights.forget_sources()

    def cached(self) -> list[Program]:
        """The programs in the cache, the one used last at the end."""
        stages = [self._only] if self._only is not None else self.stages.cached()
        return [stage.program for stage in stages if stage.program is not None]

    def planned(self) -> list[tuple[Any, Program]]:
        """The programs in the cache that are not of `templates`, by the shapes of the inputs that they are for.

        Inferences are one program. Raises UnsupportedError where none is planned.
        """
        if self._only is not None:
            return [((), program) for program in self.cached()]
        assert self._root is not None
        stages = self.stages.of_root(self._root)
        if not stages:
            raise UnsupportedError("it was planned for no shapes yet.")
        programs = [(shapes, stage.whole) for shapes, stage in stages if stage.whole is not None]
        return [(shapes, program) for shapes, program in programs if isinstance(program.image, Image)]

    def templates(self) -> list[tuple[Pattern, Template]]:
        """The plans for many shapes of a model of which inferences are one program; none of static shapes."""
        with self._lock:
            stages = {} if self._root is None else self._root.templates
            planned = [(pattern, stage.template) for pattern, stage in stages.items()]
        return [(pattern, template) for pattern, template in planned if isinstance(template, Template)]

    def shown(self) -> Sequence[Stage]:
        """The stages of the latest inference, or what is planned already."""
        return [self._only] if self._only is not None else self.ran or self.stages.cached()[-1:]

    def weights_nbytes(self) -> int:
        """Bytes of the packed weights; waits while a program is planned."""
        with self._lock:
            return self._weights.nbytes

    def recipes(self) -> dict[int, Recipe]:
        """How to pack weights again from the model's file, by their addresses."""
        return self._weights.recipes()

    def _planned(self, graph: Graph, optimised: Graph, owned: bool = True) -> Program:
        """The program of a graph of static shapes, given before and after the passes."""
        split = by_sample(graph, optimised)
        return self.plan(optimised, owned=owned) if split is None else self.plan(*split)

    def plan(self, optimised: Graph, samples: int = 1, owned: bool = True) -> Program:
        """A new program of a graph of static shapes after the passes, for each of `samples` samples; it is not cached.

        The graph loses its constants if it is `owned`.
        """
        with span("plan"):
            planner = self._planner(optimised, self._tuner, owned)
            program = assemble(planner, samples)
        self._report(program)
        return self.checked(program)

    def _compile_ahead(self, planner: Planner, tuner: Tuner | None) -> None:
        """Compile all that planning and the model's streams need, when a kernel was found missing."""
        dry = None if tuner is None else tuner.dry()
        kernels = planner.kernels(dry)
        if tuner is not None and dry is not None:
            kernels += dry.kernels
            tuner.spend(dry.spent)
        self._compile([*kernels, *KERNELS])

    def _planner(self, optimised: Graph, tuner: Tuner | None, owned: bool) -> Planner:
        for note in optimised.notes:
            if note not in self.notes:
                self.notes.append(note)
                log.warning("model '%s': %s", printable(self.name), note)
        planner = Planner(optimised, self._weights, self._streams.threads, self._exact, tuner, owned)
        missing = build.when_missing(partial(self._compile_ahead, planner, tuner))
        with missing, self._weights.packing(self._force.workers, self._check):
            steps = [step for step in planner.plan() if isinstance(step, Step)]
            self._compile([*kernels_of(steps), *KERNELS])  # before the weights are packed, which takes longer
        if owned:
            self._weights.forget_sources()
        return planner

    def _report(self, program: Program) -> None:
        for step in program.planned:
            if isinstance(step, FallbackStep):
                log.warning("%s runs in the reference evaluator, slowly: %s", step.node.where, step.reason)

    def checked(self, program: Program) -> Program:
        """The program; OutOfMemoryError when the machine has no memory for it."""
        check_fits(program.arena_size * self._arenas, self._users)
        return program


def _reshaped(graph: Graph, values: Sequence[np.ndarray]) -> Graph:
    tensors = [(port, array) for port, array in zip(graph.inputs, values) if port.kind is Kind.TENSOR]
    return reshape(graph, {port.name: PartialShape(list(array.shape)) for port, array in tensors})


def _compile_now(force: pool.Workforce, kernels: Sequence[Kernel]) -> None:
    with span("compile kernels"), CompileProgress() as progress:
        pool.compile_all(kernels, force, progress)
