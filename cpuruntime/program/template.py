"""Templates: a graph planned once for many shapes, from which programs are made by filling in sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod

from cpuruntime.graph import LARGEST_EXTENT, Extent, Scope, Value
from cpuruntime.program import native
from cpuruntime.program.formulas import Formulas
from cpuruntime.program.frame import Filled, Frame
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
        self._formulas = Formulas(scope)
        self._formulas.finish()

    def at(self, extents: Sequence[int]) -> bool:
        """Whether other extents of the symbols keep the guards. OutOfMemoryError for sizes beyond all memory."""
        return self._formulas.at(extents) is not None


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
        values = self._formulas.at(extents)
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


_SYMBOL = -1 << 64  # a row has the symbol with number n as _SYMBOL - n, below all numbers


class Pattern:
    """Which extents of a model's inputs are symbols, and which numbers in inputs whose contents are known.

    Open extents that are alike share a symbol, which is a guess that later shapes confirm or not; a number in contents
    shares one with extents only. One below 2 is a plain number.
    """

    def __init__(
        self, values: Sequence[Value], shapes: Sequence[Sequence[int]], contents: Sequence[Sequence[int]] = ()
    ) -> None:
        self.extents: list[int] = []
        self._shapes = len(shapes)
        declared = [value.shape or (None,) * len(shape) for value, shape in zip(values, shapes, strict=True)]
        self._rows = [self._row(known, shape, self.extents) for known, shape in zip(declared, shapes)]
        alike = list(self.extents)
        self._rows += [self._row([None] * len(row), row, alike) for row in contents]

    def _row(self, known: Sequence[int | None], numbers: Sequence[int], alike: list[int]) -> tuple[int, ...]:
        """Numbers with symbols in place of open ones, those of `extents` for numbers that are `alike`."""
        row = []
        for one, number in zip(known, numbers):
            if one is None and 2 <= number <= LARGEST_EXTENT:
                symbol = alike.index(number) if number in alike else len(self.extents)
                if symbol == len(self.extents):
                    self.extents.append(number)
                number = _SYMBOL - symbol
            row.append(number)
        return tuple(row)

    def sizes(self) -> tuple[Scope, list[tuple[Extent, ...]], list[tuple[Extent, ...]]]:
        """A scope for the symbols, and the shapes and the contents with sizes in place of them."""
        scope = Scope(self.extents)
        sizes = scope.sizes()
        rows = [tuple(each if each > _SYMBOL else sizes[_SYMBOL - each] for each in row) for row in self._rows]
        scope.volume = sum(map(prod, rows[: self._shapes]))
        return scope, rows[: self._shapes], rows[self._shapes :]

    def match(self, shapes: Sequence[Sequence[int]], contents: Sequence[Sequence[int]] = ()) -> list[int] | None:
        """The extents of the symbols for other shapes and contents; None where these follow another pattern."""
        found = [0] * len(self.extents)
        for pattern, row in zip(self._rows, [*shapes, *contents]):
            if len(pattern) != len(row):
                return None
            for expected, number in zip(pattern, row):
                if expected > _SYMBOL:
                    if expected != number:
                        return None
                elif found[_SYMBOL - expected]:
                    if found[_SYMBOL - expected] != number:
                        return None
                elif 2 <= number <= LARGEST_EXTENT:
                    found[_SYMBOL - expected] = number
                else:
                    return None
        return found
