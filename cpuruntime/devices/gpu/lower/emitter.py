"""What lowerings write to: places of values, constants, scratch memory, launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TypeVar

import numpy as np

from cpuruntime.devices.gpu.kernels.prelude import VECTOR
from cpuruntime.devices.gpu.lower.tuning import Tuning
from cpuruntime.errors import InternalError
from cpuruntime.gpu_runtime.interface import Buffer, KernelSource, Launch
from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.passes import is_internal

SLACK = 8 * VECTOR
"""Bytes behind own memory that vectors may read."""
LARGE = 4096
"""Elements from which on constants are stored as values are."""

T = TypeVar("T")

DTYPES = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16)}


@dataclass(frozen=True)
class Place:
    """Where a tensor lies, in rows, and the type of its elements in memory; `begin` counts elements."""

    buffer: Buffer
    element_type: str
    shape: tuple[int, ...]
    begin: int = 0

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)


@dataclass
class Lowered:
    """A program before its memory is planned.

    Attributes:
        launches: in order.
        nodes: that which each launch belongs to.
        constants: what each constant buffer holds.
        values: where each value of the graph lies; inputs and outputs of the graph are in buffers of their size.
    """

    launches: list[Launch] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[Buffer, np.ndarray] = field(default_factory=dict)
    values: dict[Value, Place] = field(default_factory=dict)


class Emitter:
    """Collects what the nodes of a graph become. Not thread-safe."""

    def __init__(self, graph: Graph, tuning: Tuning, precision: str) -> None:
        self.graph, self.tuning, self.precision = graph, tuning, precision
        self.lowered = Lowered()
        self.node: Node = None  # type: ignore[assignment]
        self._root: dict[Value, Value] = {}
        self._scratches = 0
        self._packed: dict[tuple[object, ...], Buffer] = {}
        self.copied: set[Value] = set()
        self._owner = self._owners()
        for value in graph.inputs:
            self.lowered.values[value] = self._memory(value)

    def _owners(self) -> dict[Value, Value]:
        """The outputs in whose memory values of the graph lie, of which they are views or which they are."""
        outside = {*self.graph.inputs}
        for node in self.graph.nodes:
            if is_view(node):
                self._root[node.outputs[0]] = self.root(node.inputs[0])
        owner: dict[Value, Value] = {}
        for value in dict.fromkeys(self.graph.outputs):
            root = self.root(value)
            if root in outside or root.constant is not None or root in owner:
                self.copied.add(value)
            else:
                owner[root] = value
        return owner

    def root(self, value: Value) -> Value:
        """The value that a view, or a view of a view, shows."""
        return self._root.get(value, value)

    def is_outside(self, value: Value) -> bool:
        """Whether users may see the memory of the value: nothing can be read behind its end."""
        root = self.root(value)
        return root in self.graph.inputs or root in self._owner

    def choose(self, what: str, ways: tuple[T, ...]) -> T:
        """One of the ways to compute a part of the node, as the tuning says."""
        return ways[0] if len(ways) == 1 else self.tuning.choose(self.node, self.precision, what, ways)

    def element_type(self, value: Value) -> str:
        """The type in memory of a value that the node computes."""
        return self._memory(self._owner.get(value, value)).element_type

    def _memory(self, value: Value) -> Place:
        """The memory of an input of the graph, of an output, or of a value between."""
        outside = value in self.graph.inputs or value in self.graph.outputs
        name = value.element_type.get_type_name()
        if name == "f32" and not outside:
            name = self.precision
        size = prod(value.static_shape)
        itemsize = DTYPES[name].itemsize if name in DTYPES else value.element_type.size
        nbytes = max(size * itemsize, 1) if outside else -(-size * itemsize // 64) * 64 + SLACK
        return Place(Buffer(value, nbytes, "value"), name, value.static_shape)

    def place(self, value: Value) -> Place:
        """Where a value or constant lies."""
        root = self.root(value)
        known = self.lowered.values.get(root)
        if known is None:
            if root.constant is None:
                raise InternalError(f"{self.node.where}: {value} was not computed before.")
            known = self.lowered.values[root] = self.constant(root.data, (root,), self._constant_type(root))
        return Place(known.buffer, known.element_type, value.static_shape, known.begin)

    def _constant_type(self, value: Value) -> str:
        name = value.element_type.get_type_name()
        return self.precision if name == "f32" and prod(value.static_shape) >= LARGE else name

    def new(self, value: Value) -> Place:
        """Memory for a value that the node computes."""
        place = self._memory(self._owner.get(value, value))
        place = Place(place.buffer, place.element_type, value.static_shape)
        self.lowered.values[value] = place
        return place

    def constant(self, array: np.ndarray, key: tuple[object, ...], element_type: str | None = None) -> Place:
        """Memory with numbers that are known; equal keys are the same memory."""
        array = np.asarray(array)
        name = element_type or Type(array.dtype).get_type_name()
        return self.packed((*key, name), array.shape, name, lambda: array)

    def packed(
        self, key: tuple[object, ...], shape: Sequence[int], element_type: str, make: Callable[[], np.ndarray]
    ) -> Place:
        """Memory with an array that is made unless the same was before."""
        buffer = self._packed.get(key)
        if buffer is None:
            array = np.ascontiguousarray(make()).reshape(-1)
            if array.dtype == bool:
                array = array.view(np.uint8)
            if element_type in DTYPES and array.dtype != DTYPES[element_type]:
                array = array.astype(DTYPES[element_type])
            array = np.concatenate([array, np.zeros(SLACK // array.itemsize, array.dtype)])
            buffer = self._packed[key] = Buffer(key, array.nbytes, "constant")
            self.lowered.constants[buffer] = array
        return Place(buffer, element_type, tuple(shape))

    def scratch(self, size: int, element_type: str | None = None) -> Place:
        """Memory for the node alone, with room for vectors behind its end."""
        name = element_type or self.precision
        itemsize = DTYPES[name].itemsize if name in DTYPES else Type(name).size
        self._scratches += 1
        buffer = Buffer(("scratch", self._scratches), -(-size * itemsize // 64) * 64 + SLACK, "scratch")
        return Place(buffer, name, (size,))

    def launch(
        self, kernel: KernelSource, arguments: Sequence[Buffer | int | float], groups: Sequence[int],
        group: Sequence[int],
    ) -> None:  # fmt: skip
        """Run a kernel in so many work groups."""
        sizes = tuple(count * size for count, size in zip(groups, group))
        self.lowered.launches.append(Launch(kernel, tuple(arguments), sizes, tuple(group)))
        self.lowered.nodes.append(self.node)

    def each(self, kernel: KernelSource, arguments: Sequence[Buffer | int | float], count: int) -> None:
        """Run a kernel of which each work item computes an element."""
        if count:
            self.launch(kernel, arguments, (-(-count // self.tuning.group),), (self.tuning.group,))

    def rows(self, kernel: KernelSource, arguments: Sequence[Buffer | int | float], count: int) -> None:
        """Run a kernel of which each work group computes a row."""
        if count:
            self.launch(kernel, arguments, (count,), (self.tuning.row_group,))


def is_view(node: Node) -> bool:
    """Whether a node moves nothing."""
    if is_internal(node, "Reshape"):
        return True
    return node.domain == "" and node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
