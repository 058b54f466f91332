"""The stages of a model: planned when the shapes and contents they are for are first seen, and cached."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from cpuruntime.errors import InvalidArgumentError, ModelError
from cpuruntime.graph import Graph, Kind, Node, Type, Value
from cpuruntime.program.pattern import Pattern
from cpuruntime.program.program import Program
from cpuruntime.program.stages.cut import FEW, Cut, cut
from cpuruntime.program.stages.form import form_of
from cpuruntime.program.template import Guards, Template

MOST_TEMPLATES = 32
"""Plans for many shapes that a graph keeps; arbitrary."""

MOST_FAILURES = 4
"""After as many patterns of shapes for which a graph has no plan for many shapes, none is tried; arbitrary."""

STEP = 4096
"""Bytes that a node takes in the interpreter, about."""


class Planning(Protocol):
    """Plans graphs as they were read, under the lock of the stages."""

    def program(self, graph: Graph) -> Program:
        """The program of a graph of static shapes."""

    def template(self, root: Root, pattern: Pattern) -> tuple[Cut, Template | Guards] | None:
        """The parts and a plan for many shapes, which holds for those of the pattern; None where there is none."""

    def checked(self, program: Program) -> Program:
        """The program; OutOfMemoryError when the machine has no memory for it."""


class Root:
    """A graph that is planned for the shapes of its inputs: a model, what waits in a stage, or a body.

    It is not specialised on inputs `varying`. `shaped` gives a copy for inputs of the types and shapes of values;
    values always have the types that the graph states if it `is_typed`. `parameters` are inputs of a few whole numbers
    from which shapes follow; None while that is not known.
    """

    def __init__(
        self, graph: Graph, varying: Collection[int] = (),
        shaped: Callable[[Graph, Sequence[Any]], Graph] | None = None, is_typed: bool = False,
    ) -> None:  # fmt: skip
        self.graph = graph
        self.varying = varying
        self.shaped = shaped or _typed
        self.parameters: tuple[int, ...] | None = None
        self.templates: OrderedDict[Pattern, StageTemplate] = OrderedDict()
        self.failures = 0
        self.dtypes = _dtypes(graph)
        self.is_typed = is_typed and self.dtypes is not None


class Stage:
    """Part of a model for inputs of given shapes; immutable.

    Either it has parameters, and there are stages without these inputs for their contents; or its program runs, then
    its steps, then a stage of what waits. `parts` says what they read. It is for certain contents of its inputs
    `known`. `waiting` counts the nodes behind it that only this stage refers to.
    """

    def __init__(
        self, parts: Cut, program: Program | None, following: Root | None = None, known: Sequence[int] = (),
        waiting: int = 0,
    ) -> None:  # fmt: skip
        self.parts = parts
        self.program = program
        self.known = known
        parts.static = None
        self.following = following
        self.nbytes = STEP * (1 + len(parts.steps) + waiting) + (0 if program is None else program.nbytes)
        self.whole = program if parts.is_static else None
        """The program, if it is all there is: it has the inputs and outputs of the stage."""


class StageTemplate:
    """A plan of a stage for many shapes: what its program does not do is the same for all."""

    def __init__(self, parts: Cut, template: Template | Guards, following: Root | None, known: Sequence[int]) -> None:
        self.parts, self.template, self._following, self._known = parts, template, following, known

    def at(self, extents: Sequence[int]) -> Stage | None:
        """The stage for other extents of the symbols; None where the plan does not hold for them."""
        found = self.template.at(extents)
        program = found if isinstance(found, Program) else None
        return Stage(self.parts, program, self._following, self._known) if found else None


class Stages:
    """The stages of a model, in one cache of `room` bytes: the least recently used is evicted. Thread-safe."""

    def __init__(self, planning: Planning, lock: threading.RLock, room: int) -> None:
        self._planning = planning
        self._lock = lock
        self._cached: OrderedDict[Hashable, Stage] = OrderedDict()
        self._bodies: WeakKeyDictionary[Node, Root] = WeakKeyDictionary()
        self._roots: WeakValueDictionary[Hashable, Root] = WeakValueDictionary()
        self._room = room

    def cached(self) -> list[Stage]:
        """The stages in the cache, the one used last at the end."""
        with self._lock:
            return list(self._cached.values())

    def of_root(self, root: Root) -> list[tuple[Any, Stage]]:
        """The first stages of a graph in the cache, by the shapes of the inputs that they are for."""
        with self._lock:
            keys = [key for key in self._cached if isinstance(key, tuple) and key[0] is root]
            return [(key[1:], self._cached[key]) for key in keys]

    def _find(self, key: Hashable, make: Callable[[], Stage]) -> Stage:
        """The stage under a key, which `make` gives when there is none."""
        if key in self._cached:  # without the lock, which is held while another stage is planned
            try:
                self._cached.move_to_end(key)
                return self._cached[key]
            except KeyError:
                pass  # it was evicted meanwhile
        with self._lock:
            found = self._cached.get(key)
            if found is None:
                found = self._cached[key] = make()
                self._room -= found.nbytes
                while self._room < 0 and len(self._cached) > 1:
                    self._room += self._cached.popitem(last=False)[1].nbytes
            self._cached.move_to_end(key)
            return found

    def body(self, node: Node, make: Callable[[], Root]) -> Root:
        """The root of a node's body, for which `make` gives one when it is first asked for."""
        with self._lock:
            if node not in self._bodies:
                self._bodies[node] = self._shared(make())
            return self._bodies[node]

    def _shared(self, root: Root) -> Root:
        """The root of a graph of the same form, whose plans serve this one, too; else the root itself."""
        return self._roots.setdefault(form_of(root.graph, root.varying), root)

    def _following(self, parts: Cut) -> Root | None:
        """The root of what waits, of which the parts drop their own copy."""
        if parts.rest is None:
            return None
        root = self._shared(Root(parts.rest, parts.varying))
        parts.rest = root.graph
        return root

    def of(self, root: Root, values: Sequence[Any]) -> Stage:
        """The first stage of a graph for inputs like `values`.

        Raises InvalidArgumentError when the graph does not take them.
        """
        parameters = self._parameters(root, values)
        if root.is_typed:
            key: tuple[Any, ...] = (root, *[v.shape for v in values])
        else:
            key = (root, *[(v.shape, v.dtype) if isinstance(v, np.ndarray) else type(v) for v in values])
        if not parameters:
            return self._find(key, lambda: self._first(root, values, []))
        numbers = [values[index].copy() for index in parameters]  # others may write to the values at any time
        return self._find((*key, *[array.tobytes() for array in numbers]), lambda: self._first(root, values, numbers))

    def _parameters(self, root: Root, values: Sequence[Any]) -> Sequence[int]:
        """The inputs whose contents stages are for; none for a graph without plans for many of them."""
        if root.parameters is None:
            with self._lock:
                few = {i for i, value in enumerate(values) if i not in root.varying and _is_few(value)}
                found: tuple[int, ...] = ()
                if few:
                    with suppress(ModelError, InvalidArgumentError):
                        found = cut(root.shaped(root.graph, values), root.varying).parameters
                root.parameters = found if few.issuperset(found) else ()
        return root.parameters if root.failures < MOST_FAILURES else ()

    def _first(self, root: Root, values: Sequence[Any], numbers: Sequence[np.ndarray]) -> Stage:
        before = root.failures
        stage = self._from_template(root, values, numbers)
        if stage is not None:
            return stage
        try:
            return self._cut(root.shaped(root.graph, values), root.varying)
        except InvalidArgumentError:
            root.failures = before  # it is these shapes for which there is no plan
            raise

    def _from_template(self, root: Root, values: Sequence[Any], numbers: Sequence[np.ndarray]) -> Stage | None:
        """The stage by a plan for many shapes, which is made where there is none; None where that cannot be."""
        if root.failures >= MOST_FAILURES or root.dtypes is None:
            return None
        for dtype, value in zip(root.dtypes, values):
            if not isinstance(value, np.ndarray) or value.dtype != dtype:
                return None
        shapes = [value.shape for value in values]
        contents = [array.reshape(-1).tolist() for array in numbers]
        for pattern, template in reversed(root.templates.items()):
            extents = pattern.match(shapes, contents)
            stage = None if extents is None else template.at(extents)
            if stage is not None:
                root.templates.move_to_end(pattern)
                return self._checked(stage)
        pattern = Pattern(root.graph.inputs, shapes, contents)
        found = self._planning.template(root, pattern) if pattern.extents else None
        if found is None:
            root.failures += bool(pattern.extents)
            return None
        made = root.templates[pattern] = StageTemplate(*found, self._following(found[0]), root.parameters or ())
        if len(root.templates) > MOST_TEMPLATES:
            root.templates.popitem(last=False)
        stage = made.at(pattern.extents)
        assert stage is not None
        return self._checked(stage)

    def _checked(self, stage: Stage) -> Stage:
        if stage.program is not None:
            self._planning.checked(stage.program)
        return stage

    def _cut(self, graph: Graph, varying: Collection[int]) -> Stage:
        try:
            parts = cut(graph, varying)
            program = None if parts.static is None else self._planning.program(parts.static)
            waiting = parts.rest or parts.open
            return Stage(parts, program, self._following(parts), waiting=0 if waiting is None else len(waiting.nodes))
        except ModelError as error:
            raise InvalidArgumentError(str(error)) from error

    def specialised(self, stage: Stage, values: Sequence[np.ndarray]) -> Stage:
        """The stage that follows one with parameters, for these contents of its parameters, which nothing changes."""
        parts = stage.parts

        def make() -> Stage:
            assert parts.open is not None
            graph = parts.open.clone()
            for index, value in zip(parts.parameters, values):
                graph.replace(graph.inputs[index], Value.of(graph.inputs[index].name, value))
            kept = [index for index in range(len(graph.inputs)) if index not in parts.parameters]
            graph.inputs = [graph.inputs[index] for index in kept]
            return self._cut(graph, {place for place, index in enumerate(kept) if index in parts.varying})

        return self._find((stage, *((value.shape, value.tobytes()) for value in values)), make)


def _dtypes(graph: Graph) -> list[np.dtype] | None:
    """Those of a graph's inputs; None where some are not known, or not NumPy's numbers."""
    if all(port.kind is Kind.TENSOR and port.element_type.is_static() for port in graph.inputs):
        found = [port.element_type.to_dtype() for port in graph.inputs]
        plain = all(port.element_type == dtype and not dtype.hasobject for port, dtype in zip(graph.inputs, found))
        return found if plain else None
    return None


def _is_few(value: Any) -> bool:
    """Whether a value is a few whole numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size <= FEW


def example_of(value: Any) -> Any:
    """What is noted of an input, to make another like it: its shape, or a copy of a few whole numbers."""
    if not isinstance(value, np.ndarray):
        return None
    return value.copy() if _is_few(value) else value.shape


def _typed(graph: Graph, values: Sequence[Any]) -> Graph:
    """A copy of a graph whose inputs have the types and shapes of `values`."""
    graph = graph.clone()
    for port, value in zip(graph.inputs, values, strict=True):
        if isinstance(value, np.ndarray):
            port.element_type, port.shape, port.kind = Type(value.dtype), value.shape, Kind.TENSOR
    return graph
