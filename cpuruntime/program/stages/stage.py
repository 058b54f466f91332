"""The stages of a model: planned when the shapes and contents they are for are first seen, and cached."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from cpuruntime.errors import InvalidArgumentError, ModelError
from cpuruntime.graph import Graph, Kind, Node, Type, Value
from cpuruntime.program.program import Program
from cpuruntime.program.stages.cut import Cut, cut, whole
from cpuruntime.program.template import Pattern, Template

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

    def template(self, graph: Graph, pattern: Pattern) -> Template | None:
        """A plan for many shapes, which holds for those the pattern was made from; None where there is none."""

    def checked(self, program: Program) -> Program:
        """The program; OutOfMemoryError when the machine has no memory for it."""


class Root:
    """A graph that is planned for the shapes of its inputs: a model, what waits in a stage, or a body.

    It is not specialised on inputs `varying`. `shaped` gives a copy for inputs of the types and shapes of values.
    """

    def __init__(
        self, graph: Graph, varying: Collection[int] = (), shaped: Callable[[Graph, Sequence[Any]], Graph] | None = None
    ) -> None:
        self.graph = graph
        self.varying = varying
        self.shaped = shaped or _typed
        self.templates: OrderedDict[Pattern, Template] = OrderedDict()
        self.failures = MOST_FAILURES if any(node.bodies for node in graph.nodes) else 0
        self.dtypes = _dtypes(graph)
        self.whole = whole(graph)
        self.whole.static = None


class Stage:
    """Part of a model for inputs of given shapes; immutable.

    Either it has parameters, and there are stages without these inputs for their contents; or its program runs, then
    its steps, then a stage of what waits. `parts` says what they read.
    """

    def __init__(self, parts: Cut, program: Program | None) -> None:
        self.parts = parts
        self.program = program
        parts.static = None
        self.following = None if parts.rest is None else Root(parts.rest, parts.varying)
        waiting = parts.rest or parts.open
        self.nbytes = STEP * (1 + len(parts.steps) + len(waiting.nodes if waiting is not None else ()))
        self.nbytes += 0 if program is None else program.nbytes
        count = len(parts.static_inputs)
        is_whole = parts.outputs == list(range(count, count + len(parts.outputs))) and not parts.steps
        self.whole = program if is_whole and waiting is None else None
        """The program, if it is all there is: it has the inputs and outputs of the stage."""


class Stages:
    """The stages of a model, in one cache of `room` bytes: the least recently used is evicted. Thread-safe."""

    def __init__(self, planning: Planning, lock: threading.RLock, room: int) -> None:
        self._planning = planning
        self._lock = lock
        self._cached: OrderedDict[Hashable, Stage] = OrderedDict()
        self._bodies: WeakKeyDictionary[Node, Root] = WeakKeyDictionary()
        self._room = room

    def cached(self) -> list[Stage]:
        """The stages in the cache, the one used last at the end."""
        with self._lock:
            return list(self._cached.values())

    def _find(self, key: Hashable, make: Callable[[], Stage]) -> Stage:
        """The stage under a key, which `make` gives when there is none."""
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
        """The root of a node's body, which `make` gives when it is first asked for."""
        with self._lock:
            if node not in self._bodies:
                self._bodies[node] = make()
            return self._bodies[node]

    def of(self, root: Root, values: Sequence[Any]) -> Stage:
        """The first stage of a graph for inputs like `values`.

        Raises InvalidArgumentError when the graph does not take them.
        """
        return self._find((root, *map(_signature, values)), lambda: self._first(root, values))

    def _first(self, root: Root, values: Sequence[Any]) -> Stage:
        before = root.failures
        program = self._from_template(root, values)
        if program is not None:
            return Stage(root.whole, program)
        try:
            return self._cut(root.shaped(root.graph, values), root.varying)
        except InvalidArgumentError:
            root.failures = before  # it is these shapes for which there is no plan
            raise

    def _from_template(self, root: Root, values: Sequence[Any]) -> Program | None:
        """The program by a plan for many shapes, which is made where there is none; None where that cannot be."""
        if root.failures >= MOST_FAILURES or root.dtypes is None:
            return None
        for dtype, value in zip(root.dtypes, values):
            if not isinstance(value, np.ndarray) or value.dtype != dtype:
                return None
        shapes = [value.shape for value in values]
        for pattern, template in reversed(root.templates.items()):
            extents = pattern.match(shapes)
            program = None if extents is None else template.at(extents)
            if program is not None:
                root.templates.move_to_end(pattern)
                return self._planning.checked(program)
        pattern = Pattern(root.graph.inputs, shapes)
        made = self._planning.template(root.graph, pattern) if pattern.extents else None
        if made is None:
            root.failures += bool(pattern.extents)
            return None
        root.templates[pattern] = made
        if len(root.templates) > MOST_TEMPLATES:
            root.templates.popitem(last=False)
        program = made.at(pattern.extents)
        assert program is not None
        return self._planning.checked(program)

    def _cut(self, graph: Graph, varying: Collection[int]) -> Stage:
        try:
            parts = cut(graph, varying)
            return Stage(parts, None if parts.static is None else self._planning.program(parts.static))
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


def _signature(value: Any) -> Hashable:
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype
    return type(value)


def _typed(graph: Graph, values: Sequence[Any]) -> Graph:
    """A copy of a graph whose inputs have the types and shapes of `values`."""
    graph = graph.clone()
    for port, value in zip(graph.inputs, values, strict=True):
        if isinstance(value, np.ndarray):
            port.element_type, port.shape, port.kind = Type(value.dtype), value.shape, Kind.TENSOR
    return graph
