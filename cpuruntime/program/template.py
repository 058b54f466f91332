"""Templates: a graph planned once for many shapes, from which programs are made by filling in sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from cpuruntime.graph import Extent, Scope
from cpuruntime.program import native
from cpuruntime.program.formulas import Formulas
from cpuruntime.program.frame import Filled
from cpuruntime.program.framing import frame_of
from cpuruntime.program.plan.arena import assign_slots
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import FallbackStep, Step
from cpuruntime.program.plan.storage import Address, Place, Plain, Storage
from cpuruntime.program.program import Program, Segment
from cpuruntime.program.whole import Compile, compile_here, kernels_of, live_storages, segments_of


class Guards:
    """What holds for the shapes of a stage without a program. Closes the scope; thread-safe."""

    def __init__(self, scope: Scope, compile: Compile = compile_here) -> None:
        compile([native.evaluate])
        self._evaluation = Formulas(scope).finish()

    def at(self, extents: Sequence[int]) -> bool:
        """Whether other extents of the symbols keep the guards. OutOfMemoryError for sizes beyond all memory."""
        return self._evaluation.at(extents) is not None


class Template:
    """The program of a planner that has planned its graph, in which numbers may be `Size`s of a scope.

    Compiles its kernels and closes the scope. May be used from several threads.

    Attributes:
        planned: its steps.
        falls_back: whether the reference evaluator runs some.
        formulas, evaluation, frame: what its programs are made by.
        arena_size, unshared: registers of sizes.
    """

    def __init__(self, planner: Planner, scope: Scope, compile: Compile = compile_here) -> None:
        self.planned = planner.steps
        self._segments = segments_of(planner.steps)
        self.falls_back = any(segment.fallback is not None for segment in self._segments)
        steps = [step for step in planner.steps if isinstance(step, Step)]
        compile([*kernels_of(steps), native.evaluate, native.fill])
        storages = live_storages(planner.steps)
        slots = assign_slots(storages)
        formulas = self.formulas = Formulas(scope)
        self.unshared = formulas.row(sum((storage.size for storage in storages), 0))
        places = formulas.places([[storage.size for storage in slot] for slot in slots])
        self._slots = {storage: place for slot, place in zip(slots, places) for storage in slot}
        self.frame, self.arena_size = frame_of(steps, planner, formulas, self._slots), places[-1]
        for segment in self._segments:
            if segment.fallback is not None:
                for view in (*segment.fallback.inputs, *segment.fallback.outputs):
                    self._note(view)
        self.evaluation = formulas.finish()
        self._scope = scope

    def _note(self, view: Plain | None) -> None:
        for number in () if view is None else (view.address.storage.size, view.address.offset, *view.shape):
            self.formulas.row(number)

    def at(self, extents: Sequence[int]) -> Program | None:
        """The program for other extents of the symbols; None where the template does not hold for them.

        OutOfMemoryError for sizes beyond all memory.
        """
        values = self.evaluation.at(extents)
        if values is None:
            return None
        image = Filled(self.frame, values, self.arena_size)
        segments = self._segments
        if self.falls_back:
            segments = [self._concrete(segment, image) for segment in segments]
        return Program(
            self.planned, segments, image, 1, image.numbers[self.unshared], partial(self.show, extents),
            None if self.falls_back else self.frame,
        )  # fmt: skip

    def show(self, extents: Sequence[int]) -> None:
        """Makes the numbers in `planned` those of other extents."""
        self._scope.choose(extents)

    def _concrete(self, segment: Segment, image: Filled) -> Segment:
        """The segment with the views of a fallback step at these sizes."""
        step = segment.fallback
        if step is None:
            return segment

        def number(formula: Extent) -> int:
            return image.numbers[self.formulas.row(formula)]

        def view(plain: Plain | None) -> Plain | None:
            if plain is None:
                return None
            storage = plain.address.storage
            if storage.place is Place.ARENA:
                storage = Storage(Place.ARENA, number(storage.size), offset=image.numbers[self._slots[storage]])
            return Plain(Address(storage, number(plain.address.offset)), tuple(map(number, plain.shape)), plain.dtype)

        inputs, outputs = [list(map(view, views)) for views in (step.inputs, step.outputs)]
        return replace(segment, fallback=FallbackStep(step.node, inputs, outputs, step.reason))
