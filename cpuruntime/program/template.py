"""Templates: a graph planned once for many shapes, from which programs are made by filling in sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod

from cpuruntime.errors import OutOfMemoryError
from cpuruntime.graph import LARGEST_EXTENT, Extent, Scope, Value
from cpuruntime.program import native
from cpuruntime.program.formulas import Formulas
from cpuruntime.program.frame import Filled, Frame
from cpuruntime.program.plan.arena import assign_slots
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import FallbackStep, Step
from cpuruntime.program.plan.storage import Address, Place, Plain, Storage
from cpuruntime.program.program import (
    Compile,
    Program,
    Segment,
    compile_here,
    kernels_of,
    live_storages,
    segments_of,
)


class Template:
    """The program of a planner that has planned its graph, in which numbers may be `Size`s of a scope.

    Compiles its kernels and closes the scope. May be used from several threads.
    """

    def __init__(self, planner: Planner, scope: Scope, compile: Compile = compile_here) -> None:
        self._planned = planner.steps
        self._segments = segments_of(planner.steps)
        self._falls_back = any(segment.fallback is not None for segment in self._segments)
        steps = [step for step in planner.steps if isinstance(step, Step)]
        compile([*kernels_of(steps), native.evaluate, native.fill])
        storages = live_storages(planner.steps)
        slots = assign_slots(storages)
        formulas = self._formulas = Formulas(scope)
        self._unshared = formulas.row(sum((storage.size for storage in storages), 0))
        places = formulas.places([[storage.size for storage in slot] for slot in slots])
        self._slots = {storage: place for slot, place in zip(slots, places) for storage in slot}
        self._frame, self._arena_size = Frame(steps, planner, formulas, self._slots), places[-1]
        for segment in self._segments:
            if segment.fallback is not None:
                for view in (*segment.fallback.inputs, *segment.fallback.outputs):
                    self._note(view)
        formulas.finish()
        self._scope = scope

    def _note(self, view: Plain | None) -> None:
        for number in () if view is None else (view.address.storage.size, view.address.offset, *view.shape):
            self._formulas.row(number)

    def at(self, extents: Sequence[int]) -> Program | None:
        """The program for other extents of the symbols; None where the template does not hold for them.

        OutOfMemoryError for sizes beyond all memory.
        """
        try:
            values = self._formulas.at(extents)
        except OverflowError:
            raise OutOfMemoryError("the sizes of the inputs are too large: those of values overflow 53 bits.") from None
        if values is None:
            return None
        image = Filled(self._frame, values, self._arena_size)
        segments = self._segments
        if self._falls_back:
            segments = [self._concrete(segment, image) for segment in segments]
        return Program(
            self._planned, segments, image, 1, image.numbers[self._unshared], partial(self._scope.choose, extents),
            None if self._falls_back else self._frame,
        )  # fmt: skip

    def _concrete(self, segment: Segment, image: Filled) -> Segment:
        """The segment with the views of a fallback step at these sizes."""
        step = segment.fallback
        if step is None:
            return segment

        def number(formula: Extent) -> int:
            return image.numbers[self._formulas.row(formula)]

        def view(plain: Plain | None) -> Plain | None:
            if plain is None:
                return None
            storage = plain.address.storage
            if storage.place is Place.ARENA:
                storage = Storage(Place.ARENA, number(storage.size), offset=image.numbers[self._slots[storage]])
            return Plain(Address(storage, number(plain.address.offset)), tuple(map(number, plain.shape)), plain.dtype)

        inputs, outputs = [list(map(view, views)) for views in (step.inputs, step.outputs)]
        return replace(segment, fallback=FallbackStep(step.node, inputs, outputs, step.reason))


class Pattern:
    """Which extents of a model's inputs are symbols.

    Open extents that are alike share a symbol, which is a guess that later shapes confirm or not; one of 0 or 1 is a
    plain number.
    """

    def __init__(self, values: Sequence[Value], shapes: Sequence[Sequence[int]]) -> None:
        self.extents: list[int] = []
        self._shapes: list[tuple[int, ...]] = []  # a symbol is ~ its number
        for value, shape in zip(values, shapes, strict=True):
            declared = value.shape or (None,) * len(shape)
            self._shapes.append(tuple(
                extent if known is not None or not 2 <= extent <= LARGEST_EXTENT else ~self._symbol(extent)
                for known, extent in zip(declared, shape)
            ))  # fmt: skip

    def _symbol(self, extent: int) -> int:
        if extent not in self.extents:
            self.extents.append(extent)
        return self.extents.index(extent)

    def sizes(self) -> tuple[Scope, list[tuple[Extent, ...]]]:
        """A scope for the symbols, and the shapes with sizes in place of them."""
        scope = Scope(self.extents)
        sizes = scope.sizes()
        shapes = [tuple(extent if extent >= 0 else sizes[~extent] for extent in shape) for shape in self._shapes]
        scope.volume = sum(map(prod, shapes))
        return scope, shapes

    def match(self, shapes: Sequence[Sequence[int]]) -> list[int] | None:
        """The extents of the symbols for shapes of the same ranks; None where these shapes follow another pattern."""
        found = [0] * len(self.extents)
        for pattern, shape in zip(self._shapes, shapes):
            if len(pattern) != len(shape):
                return None
            for expected, extent in zip(pattern, shape):
                if expected >= 0:
                    if expected != extent:
                        return None
                elif found[~expected]:
                    if found[~expected] != extent:
                        return None
                elif 2 <= extent <= LARGEST_EXTENT:
                    found[~expected] = extent
                else:
                    return None
        return found
