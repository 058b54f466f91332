"""Plans a graph of static shapes in two steps: decides methods and layouts, then emits the steps of each node."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.errors import UnsupportedError, printable
from cpuruntime.graph import Compressed, Graph, Node, Size, Value
from cpuruntime.host.caches import caches
from cpuruntime.host.memory import check_fits
from cpuruntime.operators.traits import DOMAIN
from cpuruntime.program.plan.choices import choose_layouts, choose_methods
from cpuruntime.program.plan.emitter import Chooser, Emitter, numeric_dtype
from cpuruntime.program.plan.lowering import find_lowering
from cpuruntime.program.plan.step import FallbackStep, Step
from cpuruntime.program.plan.storage import Address, Place, Plain, Storage
from cpuruntime.program.plan.weights import DryWeights, WeightStore

SMALL = 4096
"""Bytes of constants whose content may matter to choices, as that of shapes and axes; arbitrary."""


class Planner(Emitter):
    """Plans one graph for streams of `threads` threads.

    The graph stays as it is; no step refers to the arrays of its constants. With `owned` each constant is dropped from
    the graph after its last reader, so that memory does not hold all of them twice. With `exact` no node is computed by
    the methods of Winograd and Strassen.
    """

    def __init__(
        self, graph: Graph, weights: WeightStore, threads: int = 1, exact: bool = False, tuner: Chooser | None = None,
        owned: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(weights, threads, tuner)
        self.graph = graph = graph if owned else graph.clone()
        self._exact = exact
        self._uses = graph.uses()
        self._is_decided = False
        self._dropped: list[tuple[Value, np.ndarray]] = []
        for value in graph.values():
            if value.is_static and not isinstance(value.nbytes, Size):
                check_fits(value.nbytes, f"the elements of '{printable(value.name)}'")
        self._outputs = {value: index for index, value in reversed(list(enumerate(graph.outputs)))}
        for index, value in enumerate(graph.inputs):
            dtype = numeric_dtype(value)
            storage = Storage(Place.INPUT, prod(value.static_shape) * dtype.itemsize, index=index)
            self._plain[value] = Plain(Address(storage), value.static_shape, dtype)

    def decide(self) -> None:
        """Chooses methods, which may be measured, then layouts."""
        self.methods = choose_methods(self.graph, self._exact, self._tuner)
        self.layouts = choose_layouts(self.graph, self.methods)
        self._is_decided = True

    def plan(self) -> list[Step | FallbackStep]:
        """Decides unless that is done; emits the steps of all nodes, then copies to outputs not written in place."""
        if not self._is_decided:
            self.decide()
        last_reader = {value: node for node in self.graph.nodes for value in node.inputs if value is not None}
        for node in self.graph.nodes:
            self._node, before = node, len(self.steps)
            found = find_lowering(node)
            if isinstance(found, str):
                self._fall_back(node, found)
            else:
                found.emit(self, node)
            emitted = (step for step in self.steps[before:] if isinstance(step, Step))
            self.weights.go_on(kernel for step in emitted for kernel in step.kernels)
            self._drop_constants(node, last_reader)
        for index, value in enumerate(self.graph.outputs):
            self._finish_output(index, value)
        self._join_thread_memory()
        return self.steps

    def _join_thread_memory(self) -> None:
        """Each thread works at one place in all steps, which stays in its caches: no other thread ever writes there."""
        found = [step for step in self.steps if isinstance(step, Step) and self._suits_joining(step)]
        size = max((step.arguments["scratch_size"] for step in found), default=0)
        if self.threads > 1 and len(found) > 1:
            fields = {"scratch": Address(self.scratch(size * self.threads)), "scratch_size": size}
            for step in found:
                step.arguments |= fields

    def _suits_joining(self, step: Step) -> bool:
        scratch, size = (step.arguments.get(name) for name in ("scratch", "scratch_size"))
        is_own = isinstance(scratch, Address) and scratch.storage in self._of_threads
        return is_own and not isinstance(size, Size) and size <= caches().second // 2

    def kernels(self, tuner: Chooser | None) -> list[Kernel]:
        """The kernels that planning and the steps need, by a dry run at any time: nothing is packed or measured.

        `tuner` is one for dry runs.
        """
        weights = DryWeights()
        for value, array in self._dropped:
            value.constant = array
        dry = Planner(self.graph, weights, self.threads, self._exact, tuner)
        for value, _ in self._dropped:
            value.constant = None
        steps = [step for step in dry.plan() if isinstance(step, Step)]
        return list(dict.fromkeys([*weights.kernels, *(kernel for step in steps for kernel in step.kernels)]))

    def _drop_constants(self, node: Node, last_reader: dict[Value, Node]) -> None:
        for value in node.inputs:
            if value is None or value.constant is None or value in self._outputs:
                continue
            if last_reader[value] is node:
                self.weights.release(value.constant)
                self._dropped.append((value, _like(value.constant)))
                value.constant = None

    def _finish_output(self, index: int, value: Value) -> None:
        storage = Storage(Place.OUTPUT, 0, index=index)
        self._node = value.producer or Node("Output", value.name, [value], [])
        source = self.plain(value)
        if (source.address.storage.place, source.address.storage.index) != (Place.OUTPUT, index):
            self.copy(source.address, Address(storage), (source.nbytes,), (1,), (1,), 1)

    def _fall_back(self, node: Node, reason: str) -> None:
        for value in node.outputs:
            if value.name and not value.is_static:
                raise UnsupportedError(
                    f"{node.where}: the shape of its output '{printable(value.name)}' depends on data; the CPU device "
                    "needs shapes that follow from the shapes of the model's inputs."
                )
        if any(isinstance(number, Size) for data in node.attributes.values() for number in _flat(data)):
            node.attributes = {name: _plain_numbers(data) for name, data in node.attributes.items()}
        if node.domain == DOMAIN:  # its evaluation reads shapes
            for value in (*node.inputs, *node.outputs):
                if value is not None:
                    value.shape = tuple(map(int, value.static_shape))
        inputs = [None if v is None else self.plain(v) for v in node.inputs]
        outputs = [self.new_plain(v) if v.name else None for v in node.outputs]
        self.steps.append(FallbackStep(node, inputs, outputs, reason))


def _like(array: np.ndarray) -> np.ndarray:
    """A copy of a small array, else zeros of its type and shape that take no memory."""
    if isinstance(array, Compressed):
        return array.outline()
    return array.copy() if array.nbytes <= SMALL else np.broadcast_to(np.zeros((), array.dtype), array.shape)


def _flat(data: Any) -> list[Any]:
    return data if isinstance(data, list) else [data]


def _plain_numbers(data: Any) -> Any:
    """An attribute of a fallback step, whose evaluation takes plain numbers."""
    if isinstance(data, list):
        return [_plain_numbers(each) for each in data]
    return int(data) if isinstance(data, Size) else data
