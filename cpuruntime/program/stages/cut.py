"""Cuts a graph whose inputs have static shapes: what is planned now, what is run alone, and what waits for results."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from cpuruntime.errors import UnsupportedError
from cpuruntime.graph import Graph, Kind, Node, Size, Type, Value
from cpuruntime.operators.traits import Folded, traits_of
from cpuruntime.passes import resolve

FEW = 16
"""Elements of an input, at most, on whose contents the model is specialised since shapes are computed from it."""

MOST = 1 << 16
"""Elements of a parameter, at most; the evaluator runs nodes with larger ones."""

Source = int | np.ndarray | None
"""Where a value is: in a slot, or it is a constant, or absent."""


@dataclass
class Cut:
    """A graph in parts. Slots hold its inputs, the results of `static`, those of `steps`, then those of `rest`.

    Attributes:
        parameters: the inputs whose contents must be known before `open` can be cut; then there is nothing else.
        static: the nodes of static shapes; `static_inputs` are the slots of its inputs.
        steps: nodes whose results only running them shows, with where their inputs are.
        rest: the nodes that wait for results of steps, or for parameters; `rest_inputs` are the slots of its inputs.
        varying: the inputs of `open` or `rest` on which it must not be specialised.
        outputs: where each output of the graph is.
    """

    parameters: tuple[int, ...] = ()
    open: Graph | None = None
    static: Graph | None = None
    static_inputs: list[int] = field(default_factory=list)
    steps: list[tuple[Node, list[Source]]] = field(default_factory=list)
    rest: Graph | None = None
    rest_inputs: list[int] = field(default_factory=list)
    varying: frozenset[int] = frozenset()
    outputs: list[Source] = field(default_factory=list)

    @cached_property
    def is_static(self) -> bool:
        """Whether `static` is all there is, with the inputs and outputs of the graph."""
        count = len(self.static_inputs)
        alone = not self.steps and self.rest is None and self.open is None
        return alone and self.outputs == list(range(count, count + len(self.outputs)))


def is_whole(graph: Graph) -> bool:
    """Whether one program computes all of a graph: everything has a static shape."""
    return all(map(is_planned, graph.values())) and not any(node.bodies for node in graph.nodes)


def is_planned(value: Value) -> bool:
    """Whether programs can hold the value: a tensor of numbers and of static shape. An absent one needs no memory."""
    is_number = value.element_type is not Type.string and value.element_type.is_static()
    return not value.name or (value.kind is Kind.TENSOR and value.is_static and is_number)


def cut(graph: Graph, varying: Collection[int] = ()) -> Cut:
    """The parts of a graph whose inputs have static shapes; it is used up. It is not specialised on inputs `varying`.

    Raises what `passes.resolve` raises.
    """
    if not is_whole(graph):
        graph = resolve(graph)
    if not is_whole(graph):
        return _Cutter(graph, varying).run()
    return whole(graph)


def cut_open(graph: Graph, varying: Collection[int] = ()) -> Cut:
    """The parts of a graph among whose extents are `Size`s: none is left in steps and in what waits.

    Inputs whose contents are known stand in nodes as values with `sizes`, under their names. Raises what `cut` raises,
    and UnsupportedError for a graph that waits for parameters and one that keeps a size.
    """
    found = cut(graph, varying)
    if found.parameters:
        raise UnsupportedError("what can be planned depends on the contents of inputs.")
    if found.static is not None:
        found.static = found.static.clone()
    late = [node for node, _ in found.steps]
    _forget_sizes(Graph("", [], [], late, graph.opsets))
    if found.rest is not None:
        _forget_sizes(found.rest)
    return found


def _forget_sizes(graph: Graph) -> None:
    for value in graph.values():
        if value.shape is not None:
            value.shape = tuple(None if isinstance(extent, Size) else extent for extent in value.shape)
        value.sizes = None
    for node in graph.nodes:
        for attribute in node.attributes.values():
            if any(isinstance(each, Size) for each in (attribute if isinstance(attribute, list) else [attribute])):
                raise UnsupportedError(f"{node.where} keeps a size.")
        for body in node.bodies.values():
            _forget_sizes(body)


def whole(graph: Graph) -> Cut:
    """A graph that is planned as it is."""
    count = len(graph.inputs)
    outputs: list[Source] = list(range(count, count + len(graph.outputs)))
    return Cut(static=graph, static_inputs=list(range(count)), outputs=outputs)


class _Cutter:
    def __init__(self, graph: Graph, varying: Collection[int]) -> None:
        self.graph = graph
        self.inputs = {value: index for index, value in enumerate(graph.inputs)}
        # Values computed from inputs that vary.
        self.varying = {value for value, index in self.inputs.items() if index in varying}
        self.static: list[Node] = []
        self.late: list[Node] = []

    def run(self) -> Cut:
        self._split()
        parameters = self._parameters()
        if parameters:
            varying = frozenset(index for value, index in self.inputs.items() if value in self.varying)
            return Cut(parameters, self.graph, varying=varying)
        self._read_inputs()
        return self._assembled(*self._steps())

    def _split(self) -> None:
        """Tells the nodes of static shapes that need no others from the rest."""
        made = {value for value in self.graph.inputs if is_planned(value)}
        for node in self.graph.nodes:
            read = [value for value in node.inputs if value is not None]
            if not self.varying.isdisjoint(read):
                self.varying.update(node.outputs)
            known = all(value in made or (_is_known(value) and is_planned(value)) for value in read)
            if known and not node.bodies and all(map(is_planned, node.outputs)):
                self.static.append(node)
                made.update(node.outputs)
            else:
                self.late.append(node)

    def _read_inputs(self) -> None:
        """Late nodes and results are the inputs themselves where their contents are known as sizes."""
        inputs = {value.name: value for value in self.inputs}
        for node in self.late:
            node.inputs = [_as_read(value, inputs) for value in node.inputs]
        self.graph.outputs = [_as_read(value, inputs) for value in self.graph.outputs]

    def _open(self, node: Node) -> list[Value]:
        """The parameters of a late node that are to become constants."""
        values = (node.input(index) for index in traits_of(node).parameters)
        return [value for value in values if value is not None and value.constant is None and self._is_parameter(value)]

    def _is_parameter(self, value: Value) -> bool:
        if not is_planned(value):
            return value.element_type is not Type.string  # it is not made yet
        return prod(value.static_shape) <= MOST and (value not in self.varying or value.element_type is Type.boolean)

    def _parameters(self) -> tuple[int, ...]:
        """The inputs that parameters are, or are computed from by operations on a few numbers."""
        roots = self._roots()
        found: set[int] = set()
        for node in self.late:
            for value in self._open(node):
                found |= {self.inputs[value]} if value in self.inputs else roots.get(value, frozenset())
        return tuple(sorted(found))

    def _roots(self) -> dict[Value, frozenset[int]]:
        """The inputs that values are computed from, where all on the way are a few numbers."""
        roots: dict[Value, frozenset[int]] = {}
        for value, index in self.inputs.items():
            if value.element_type.is_integral() and _is_few(value) and value not in self.varying:
                roots[value] = frozenset([index])
        for node in self.static:
            read = [value for value in node.inputs if value is not None and value.constant is None]
            folded = traits_of(node).folded is not Folded.NEVER and all(value in roots for value in read)
            if folded and all(map(_is_few, node.outputs)):
                roots.update(dict.fromkeys(node.outputs, frozenset[int]().union(*(roots[value] for value in read))))
        return roots

    def _steps(self) -> tuple[list[Node], list[Node]]:
        """The late nodes that can only be run, and those that wait."""
        there = set(self.graph.inputs) | {value for node in self.static for value in node.outputs}
        made: set[Value] = set()
        steps, waiting = [], []
        for node in self.late:
            read = {value for value in node.inputs if value is not None and value.constant is None}
            if not self._open(node) and read <= there | (made if _has_no_numbers(node) else set()):
                steps.append(node)
                made.update(node.outputs)
            else:
                waiting.append(node)
        return steps, waiting

    def _assembled(self, steps: list[Node], waiting: list[Node]) -> Cut:
        outputs = set(self.graph.outputs)
        read = _read_by((*steps, *waiting)) | outputs
        wanted = [value for node in self.static for value in node.outputs if value in read and value.name]
        slots = {value: index for index, value in enumerate((*self.graph.inputs, *wanted))}
        found = Cut()
        if wanted:
            inputs = [value for value in self.graph.inputs if value in _read_by(self.static)]
            found.static_inputs = [slots[value] for value in inputs]
            found.static = Graph(self.graph.name, inputs, wanted, self.static, self.graph.opsets)
        for node in steps:
            found.steps.append((node, [_source(value, slots) for value in node.inputs]))
            slots.update((value, index) for index, value in enumerate(node.outputs, start=len(slots)))
        if waiting:
            self._wait(found, waiting, slots)
        found.outputs = [_source(value, slots) for value in self.graph.outputs]
        return found

    def _wait(self, found: Cut, waiting: list[Node], slots: dict[Value, int]) -> None:
        read = _read_by(waiting)
        before = [value for value in slots if value in read]
        made = {value for node in waiting for value in node.outputs}
        results = list(dict.fromkeys(value for value in self.graph.outputs if value in made))
        inputs = [Value(f"{v.name}/{slots[v]}", v.element_type, v.shape, kind=v.kind) for v in before]
        found.rest_inputs = [slots[value] for value in before]
        found.varying = frozenset(index for index, value in enumerate(before) if value in self.varying)
        found.rest = Graph(self.graph.name, inputs, results, waiting, self.graph.opsets)
        instead = dict(zip(before, inputs))
        for node in waiting:
            node.inputs = [instead.get(value, value) for value in node.inputs]
        slots.update((value, index) for index, value in enumerate(results, start=len(slots)))


def _is_known(value: Value) -> bool:
    """Whether it is a constant, or an input whose contents are known as sizes."""
    return value.constant is not None or (value.sizes is not None and value.producer is None)


def _as_read(value: Value | None, inputs: Mapping[str, Value]) -> Any:
    return value if value is None or value.constant is not None or not _is_known(value) else inputs[value.name]


def _is_few(value: Value) -> bool:
    return is_planned(value) and (not value.name or prod(value.static_shape) <= FEW)


def _has_no_numbers(node: Node) -> bool:
    """Whether sequences, optionals or strings flow through a node."""
    values = (value for value in (*node.inputs, *node.outputs) if value is not None)
    return any(value.kind is not Kind.TENSOR or value.element_type is Type.string for value in values)


def _read_by(nodes: Iterable[Node]) -> set[Value]:
    return {value for node in nodes for value in node.inputs if value is not None}


def _source(value: Value | None, slots: dict[Value, int]) -> Source:
    if value is None or value.constant is None:
        return None if value is None else slots[value]
    return np.asarray(value.constant, order="C")  # folding makes views of one repeated element
