"""Templates: a graph planned once for many shapes, from which programs are made by filling in sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from cpuruntime.errors import OutOfMemoryError
from cpuruntime.graph import LARGEST_EXTENT, Extent, Formulas, Scope, Size, Value, typical
from cpuruntime.host.memory import allocate, round_up
from cpuruntime.program.link import RELOCATION, Image
from cpuruntime.program.plan.arena import assign_slots
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import FallbackStep, Step
from cpuruntime.program.plan.storage import Address, Place, Plain, Storage
from cpuruntime.program.program import (
    Assembly,
    Compiling,
    Program,
    Segment,
    compile_kernels,
    live_storages,
    segments_of,
)


class Template:
    """The program of a planner that has planned its graph, in which numbers may be `Size`s of a scope.

    Compiles its kernels and closes the scope. May be used from several threads.
    """

    def __init__(self, planner: Planner, scope: Scope, compiling: Compiling = lambda done, total: None) -> None:
        self._planned = planner.steps
        self._segments = segments_of(planner.steps)
        self._faults = planner.faults
        steps = [step for step in planner.steps if isinstance(step, Step)]
        compile_kernels(steps, compiling)
        self._formulas = Formulas(scope)
        storages = live_storages(planner.steps)
        slots = assign_slots(storages)
        self._slot_of = {storage: index for index, slot in enumerate(slots) for storage in slot}
        self._sizes = [self._formulas.row(storage.size) for slot in slots for storage in slot]
        self._starts = [0, *accumulate(len(slot) for slot in slots)][:-1]
        assembled = _Formed(self._formulas, self._slot_of, round_up(16 * len(steps)))
        for index, step in enumerate(steps):
            assembled.add_step(index, step, assembled.add_block(step, 0))
        self._words, self._relocations = assembled.words(), np.array(assembled.relocations, RELOCATION)
        places = assembled.filled, assembled.moved, assembled.in_slots
        self._filled, self._moved, self._in_slots = (np.array(pairs, np.int64).reshape(-1, 2).T for pairs in places)
        self._steps = len(steps)
        self._kernels = tuple(kernel.symbol for kernel in assembled.kernels)
        self._by_kind = {kind: np.flatnonzero(self._relocations["kind"] == kind) for kind in Place}
        self._kernel_addresses = np.array([kernel.address for kernel in assembled.kernels], np.int64)
        self._weights = list(assembled.weights)
        self._fixed = None if any(storage.table for storage in self._weights) else _owned(self._weights)
        addresses = None if self._fixed is None else [weights.ctypes.data for weights in self._fixed]
        self._weight_addresses = None if addresses is None else np.array(addresses, np.int64)
        for storage in self._weights:
            if storage.table is not None:
                self._rows(storage.table[1])
        ports = planner.graph.inputs, planner.graph.outputs
        self._ports = [[(self._rows(v.static_shape), v.element_type.to_dtype()) for v in values] for values in ports]
        bound = (Place.INPUT, Place.OUTPUT)
        rows = enumerate(assembled.relocations)
        self._bound = [(Place(kind), symbol, where, i) for i, (where, kind, symbol, _) in rows if kind in bound]
        for segment in self._segments:
            if segment.fallback is not None:
                for view in (*segment.fallback.inputs, *segment.fallback.outputs):
                    self._note(view)
        for message in self._faults:
            self._rows([piece for piece in message if not isinstance(piece, str)])
        scope.is_open = False
        self._scope = scope

    def _rows(self, numbers: Sequence[Extent]) -> list[int]:
        return [self._formulas.row(number) for number in numbers]

    def _note(self, view: Plain | None) -> None:
        if view is not None:
            self._rows([view.address.offset, *view.shape])

    def at(self, extents: Sequence[int]) -> Program | None:
        """The program for other extents of the symbols; None where the template does not hold for them.

        OutOfMemoryError for sizes beyond all memory.
        """
        try:
            found = self._formulas.at(extents)
        except OverflowError:
            raise OutOfMemoryError("the sizes of the inputs are too large: those of values overflow 53 bits.") from None
        if found is None:
            return None
        largest = np.maximum.reduceat(found[self._sizes], self._starts) if self._starts else np.zeros(0, np.int64)
        ends = np.cumsum(-(-largest // 64) * 64)
        offsets = np.concatenate([[0], ends])
        words, relocations = self._words.copy(), self._relocations.copy()
        words[self._filled[0]] = found[self._filled[1]]
        moved = relocations["offset"]
        moved[self._moved[0]] = found[self._moved[1]]
        moved[self._in_slots[0]] += offsets[self._in_slots[1]]
        number = _Numbers(self._formulas, found)
        inputs, outputs = (
            tuple((tuple(found[rows].tolist()), dtype) for rows, dtype in ports) for ports in self._ports
        )
        faults = tuple(
            "".join(piece if isinstance(piece, str) else str(number(piece)) for piece in message)
            for message in self._faults
        )
        weights = self._fixed or tuple(_filled_table(storage, number) for storage in self._weights)
        image = Image(
            words, relocations, self._steps, self._kernels, weights, int(offsets[-1]), faults, inputs, outputs
        )
        bound: dict[tuple[Place, int], list[tuple[int, int]]] = {}
        for place, symbol, where, row in self._bound:
            bound.setdefault((place, symbol), []).append((where, int(moved[row])))
        # What is the same for all programs of the template.
        vars(image).update(bindings=bound, rows=self._by_kind, kernel_addresses=self._kernel_addresses)
        if self._weight_addresses is not None:
            vars(image)["weight_addresses"] = self._weight_addresses
        segments = self._segments
        if any(segment.fallback is not None for segment in segments):
            segments = [self._concrete(segment, number, offsets) for segment in segments]
        unshared = int(found[self._sizes].sum())
        return Program(self._planned, segments, image, 1, unshared, partial(self._scope.choose, extents))

    def _concrete(self, segment: Segment, number: _Numbers, offsets: np.ndarray) -> Segment:
        """The segment with the views of a fallback step at these sizes."""
        step = segment.fallback
        if step is None:
            return segment

        def view(plain: Plain | None) -> Plain | None:
            if plain is None:
                return None
            storage = plain.address.storage
            if storage.place is Place.ARENA:
                storage = Storage(Place.ARENA, number(storage.size), offset=int(offsets[self._slot_of[storage]]))
            return Plain(Address(storage, number(plain.address.offset)), tuple(map(number, plain.shape)), plain.dtype)

        inputs, outputs = [list(map(view, views)) for views in (step.inputs, step.outputs)]
        return replace(segment, fallback=FallbackStep(step.node, inputs, outputs, step.reason))


class _Numbers:
    """The value of a number at some sizes."""

    def __init__(self, formulas: Formulas, found: np.ndarray) -> None:
        self._formulas, self._found = formulas, found

    def __call__(self, number: Extent) -> int:
        return int(self._found[self._formulas.row(number)]) if isinstance(number, Size) else number


def _owned(storages: Sequence[Storage]) -> tuple[np.ndarray, ...]:
    return tuple(storage.owner for storage in storages if storage.owner is not None)


def _filled_table(storage: Storage, number: _Numbers) -> np.ndarray:
    """The memory of a fixed storage."""
    if storage.table is None:
        assert storage.owner is not None
        return storage.owner
    make, numbers = storage.table
    content = np.ascontiguousarray(make(*map(number, numbers))).reshape(-1).view(np.uint8)
    memory = allocate(content.nbytes)
    memory[:] = content
    return memory


class _Formed(Assembly):
    """Blocks with places to fill in.

    `filled` has (word, row of the formulas), `moved` (relocation, row) and `in_slots` (relocation, slot of the arena).
    """

    def __init__(self, formulas: Formulas, slot_of: dict[Storage, int], start: int) -> None:
        super().__init__({}, start)
        self.filled: list[tuple[int, int]] = []
        self.moved: list[tuple[int, int]] = []
        self.in_slots: list[tuple[int, int]] = []
        self._formulas, self._slot_of = formulas, slot_of

    def number(self, word: int, argument: Any) -> Any:
        if isinstance(argument, Size):
            self.filled.append((word, self._formulas.row(argument)))
        elif isinstance(argument, (list, tuple)):
            return [self.number(word + index, each) for index, each in enumerate(argument)]
        return typical(argument)

    def add_address(self, word: int, address: Address, row: int) -> None:
        storage, offset = address.storage, address.offset
        index = len(self.relocations)
        if isinstance(offset, Size):
            self.moved.append((index, self._formulas.row(offset)))
            offset = 0
        if storage.place is Place.FIXED:
            symbol = self.weights.setdefault(storage, len(self.weights))
        elif storage.place is Place.ARENA:
            symbol = 0
            self.in_slots.append((index, self._slot_of[storage]))
        elif storage.place is Place.FAULT:
            symbol, offset = 0, 8 * storage.index + offset
        else:
            symbol = storage.index
        self.relocations.append((word, storage.place, symbol, offset))


class Pattern:
    """Which extents of a model's inputs are symbols.

    Open extents that are alike share a symbol, which is a guess that later shapes confirm or not; one of 0 or 1 is a
    plain number.
    """

    def __init__(self, values: Sequence[Value], shapes: Sequence[Sequence[int]]) -> None:
        self.extents: list[int] = []
        self._shapes: list[tuple[int | str, ...]] = []
        for value, shape in zip(values, shapes, strict=True):
            declared = value.shape or (None,) * len(shape)
            self._shapes.append(tuple(
                extent if known is not None or not 2 <= extent <= LARGEST_EXTENT else self._symbol(extent)
                for known, extent in zip(declared, shape)
            ))  # fmt: skip

    def _symbol(self, extent: int) -> str:
        if extent not in self.extents:
            self.extents.append(extent)
        return f"s{self.extents.index(extent)}"

    def sizes(self) -> tuple[Scope, list[tuple[Extent, ...]]]:
        """A scope for the symbols, and the shapes with sizes in place of them."""
        scope = Scope(self.extents)
        sizes = {f"s{index}": size for index, size in enumerate(scope.sizes())}
        return scope, [tuple(sizes.get(e, e) for e in shape) for shape in self._shapes]  # type: ignore[call-overload]

    def match(self, shapes: Sequence[Sequence[int]]) -> list[int] | None:
        """The extents of the symbols for shapes of the same ranks; None where these shapes follow another pattern."""
        found: dict[str, int] = {}
        for pattern, shape in zip(self._shapes, shapes):
            if len(pattern) != len(shape):
                return None
            for expected, extent in zip(pattern, shape):
                if isinstance(expected, int):
                    if expected != extent:
                        return None
                elif found.setdefault(expected, extent) != extent or not 2 <= extent <= LARGEST_EXTENT:
                    return None
        return [found[f"s{index}"] for index in range(len(self.extents))]
