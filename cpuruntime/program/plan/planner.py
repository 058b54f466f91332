"""From a graph of static shapes to the steps of a program: memory for values, conversions, each node's kernels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.errors import InternalError, UnsupportedError
from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.host.memory import ALIGNMENT, check_fits
from cpuruntime.ops import reorder
from cpuruntime.ops.movement import plan_copy
from cpuruntime.program.plan.layout import LayoutPlan, choose_layouts
from cpuruntime.program.plan.lowering import find
from cpuruntime.program.plan.storage import (
    Address,
    Blocked,
    Interleaved,
    Place,
    Plain,
    Storage,
    blocked_view,
    image_shape,
)
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.tuning.candidate import Candidate, Chosen, Comparison, T, estimated

if TYPE_CHECKING:
    from cpuruntime.program.tuning.tuner import Tuner


@dataclass
class Step:
    """One kernel call; `arguments` are the fields of its argument block, with memory and kernels as objects."""

    kernel: Kernel
    arguments: dict[str, Any]
    node: Node
    layout: str
    flops: int = 0
    notes: str = ""
    comparisons: tuple[Comparison, ...] = ()

    @property
    def kernels(self) -> list[Kernel]:
        """The kernel and those it calls."""
        return [self.kernel, *(a for a in self.arguments.values() if isinstance(a, Kernel))]


@dataclass
class FallbackStep:
    """A node that the reference evaluator runs; `reason` says why it has no kernel."""

    node: Node
    inputs: list[Plain | None]
    outputs: list[Plain | None]
    reason: str


@dataclass
class Planner:
    """Plans one graph for streams of `threads` threads. Lowerings use it to get views and emit steps.

    With `exact` every convolution is computed directly, without Winograd's method. Where candidates are close, `tuner`
    decides; without one the estimate does.
    """

    graph: Graph
    weights: WeightStore
    threads: int = 1
    exact: bool = False
    tuner: Tuner | None = None
    steps: list[Step | FallbackStep] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layouts: LayoutPlan = choose_layouts(self.graph, self)
        self._node: Node | None = None
        self._blocked: dict[Value, Blocked] = {}
        self._plain: dict[Value, Plain] = {}
        self._roots: dict[Value, Blocked] = {}
        self._outputs = {value: index for index, value in reversed(list(enumerate(self.graph.outputs)))}
        for index, value in enumerate(self.graph.inputs):
            dtype = _dtype(value)
            storage = Storage(Place.INPUT, prod(value.static_shape) * dtype.itemsize, index=index)
            self._plain[value] = Plain(Address(storage), value.static_shape, dtype)

    def plan(self) -> list[Step | FallbackStep]:
        """Emits the steps of all nodes, then those that bring the remaining outputs to their memory.

        Constants are dropped from the graph after the last node that reads them, so that memory does not hold all of
        them twice.
        """
        last_reader = {value: node for node in self.graph.nodes for value in node.inputs if value is not None}
        for node in self.graph.nodes:
            self._node = node
            found = find(node)
            if isinstance(found, str):
                self._fall_back(node, found)
            else:
                found.emit(self, node)
            self._drop_constants(node, last_reader)
        for index, value in enumerate(self.graph.outputs):
            self._finish_output(index, value)
        return self.steps

    def _drop_constants(self, node: Node, last_reader: dict[Value, Node]) -> None:
        for value in node.inputs:
            if value is None or value.constant is None or value in self._outputs:
                continue
            if last_reader[value] is node:
                self.weights.release(value.constant)
                value.constant = None

    # Views of inputs. A view in another layout than the value's own is made once, by a conversion step.

    def plain(self, value: Value) -> Plain:
        """The value row by row."""
        if value not in self._plain:
            if value.constant is not None:
                self._plain[value] = self._constant(value)
            else:
                self._plain[value] = self._blocked_to_plain(value)
        return self._plain[value]

    def blocked(self, value: Value) -> Blocked:
        """The value in blocks of channels, with the halo its readers need."""
        if value not in self._blocked:
            source = self.plain(value)
            target = self._new_root(value)
            self._blocked[value] = target
            fields = {**_image_fields(source, "source"), **target.fields("target")}
            self.emit(reorder.to_blocked, "plain -> blocked", **fields, **_sizes(target))
        return self._blocked[value]

    def is_blocked(self, value: Value) -> bool:
        """Whether the value's own layout is blocked."""
        return value in self.layouts.blocked

    def interleaved(self, value: Value, left: int, right: int) -> Interleaved:
        """An image of few channels, pixel by pixel, with a halo of `left` and `right` pixels."""
        source = self.plain(value)
        batch, channels, height, width = image_shape(source.shape)
        row = (left + width + right) * channels * 4
        storage = self.scratch(batch * height * row)
        origin = Address(storage, left * channels * 4)
        view = Interleaved(origin, channels, height * row, row)
        self._clear_pixels(Address(storage), batch * height, row, left * channels)
        self._clear_pixels(origin + width * channels * 4, batch * height, row, right * channels)
        sizes = dict(batch=batch, channels=channels, height=height, width=width)
        self.emit(
            reorder.to_pixels, "plain -> interleaved", **_image_fields(source, "source"), **sizes,
            target=origin, target_batch=view.batch_stride, target_row=row,
        )  # fmt: skip
        return view

    def _clear_pixels(self, start: Address, rows: int, row: int, count: int) -> None:
        """Zeros in `count` floats of each row."""
        if count:
            zero = np.zeros(1, np.float32)
            source = self.weights.constant(self.weights.identity(zero), zero)
            self.copy(source, start, (rows, count), (0, 0), (row, 4), 4, "halo")

    def copy(
        self, source: Address, target: Address, shape: Sequence[int], source_strides: Sequence[int],
        target_strides: Sequence[int], element: int, layout: str = "plain",
    ) -> None:  # fmt: skip
        """Emits a strided copy of `shape` elements of `element` bytes; nothing for an empty one."""
        if prod(shape):
            kernel, fields = plan_copy(shape, source_strides, target_strides, element)
            self.emit(kernel, layout, source=source, target=target, **fields)

    # Memory for outputs.

    def new_blocked(self, value: Value) -> Blocked:
        """Where a node writes its blocked result: memory of its own or a slice of the concatenation it ends in."""
        if value not in self._blocked:
            root, channel = self.layouts.root(value)
            channels = image_shape(value.static_shape)[1]
            self._blocked[value] = self._new_root(root).slice(channel // LANES, channels)
        return self._blocked[value]

    def new_plain(self, value: Value) -> Plain:
        """Where a node writes its plain result: the output of the request, or the arena."""
        dtype = _dtype(value)
        size = prod(value.static_shape) * dtype.itemsize
        if value in self._outputs:
            storage = Storage(Place.OUTPUT, size, index=self._outputs[value])
        else:
            storage = self.scratch(size)
        self._plain[value] = Plain(Address(storage), value.static_shape, dtype)
        return self._plain[value]

    def alias_plain(self, value: Value, view: Plain) -> None:
        """`value` is `view`'s memory under another shape."""
        self._plain[value] = Plain(view.address, value.static_shape, view.dtype)

    def scratch(self, size: int) -> Storage:
        """Memory of the arena; alive from the first to the last step that names it."""
        return Storage(Place.ARENA, max(size, ALIGNMENT))

    def fault(self, message: str) -> Address:
        """An int64 that a kernel sets to 1 when the data break a rule; the inference then ends with `message`."""
        self.faults.append(message)
        return Address(Storage(Place.FAULT, 8, index=len(self.faults) - 1))

    # Choices.

    def choose(
        self, family: str, sizes: Hashable, candidates: Sequence[Candidate[T]], emit: Callable[[Planner, T], None]
    ) -> Chosen[T]:
        """One of the candidates, which come cheapest first: ways to do the same work with the same bits.

        `emit` emits the step by one of them, `family` names the kernels' module, `sizes` all that its time depends on.
        """
        if self.tuner is None:
            return estimated(candidates)
        assert self._node is not None
        return self.tuner.choose(self._node, family, sizes, candidates, emit, self.threads)

    def choose_method(
        self, node: Node, sizes: Hashable, candidates: Sequence[Candidate[T]], emit: Callable[[Planner, T], None]
    ) -> Chosen[T]:
        """One of the candidates, ways whose results differ in the last bits: the same for any number of threads."""
        if self.tuner is None:
            return estimated(candidates)
        return self.tuner.choose_method(node, sizes, candidates, emit)

    def emit(
        self, kernel: Kernel, layout: str, *, flops: int = 0, notes: str = "",
        comparisons: tuple[Comparison, ...] = (), **arguments: Any,
    ) -> None:  # fmt: skip
        """Appends a step of the node being lowered; fields of the argument block that are not given are zero."""
        assert self._node is not None
        unknown = arguments.keys() - set(kernel.arguments.names or ())
        if unknown:
            raise InternalError(f"{kernel.name} has no argument {', '.join(sorted(unknown))}.")
        self.steps.append(Step(kernel, arguments, self._node, layout, flops, notes, comparisons))

    def _constant(self, value: Value) -> Plain:
        assert value.constant is not None
        check_fits(value.constant.nbytes, f"the elements of constant '{value.name}'")
        address = self.weights.constant(self.weights.identity(value.constant), value.constant)
        return Plain(address, value.static_shape, _dtype(value))

    def _blocked_to_plain(self, value: Value) -> Plain:
        source = self._blocked.get(value)
        if source is None:
            raise InternalError(f"value '{value.name}' is read before it is written.")
        if source.height * source.width == 1 and (source.batch == 1 or source.channels % LANES == 0):
            tight = source.batch == 1 or source.batch_stride == source.channels * 4
            if source.block_stride == VECTOR_BYTES and tight and value not in self._outputs:
                return Plain(source.address, value.static_shape, np.dtype(np.float32))
        target = self.new_plain(value)
        fields = {**source.fields("source"), **_image_fields(target, "target")}
        self.emit(reorder.from_blocked, "blocked -> plain", **fields, **_sizes(source))
        return target

    def _new_root(self, value: Value) -> Blocked:
        """The blocked memory of a value that is not part of a concatenation; clears its halo."""
        if value in self._roots:
            return self._roots[value]
        left, right = self.layouts.halos.get(value, (0, 0))
        view = blocked_view(self.scratch(0), value.static_shape, left, right)
        self._roots[value] = view
        if left or right:
            sizes = dict(batch=view.batch, blocks=view.blocks, height=view.height, width=view.width)
            self.emit(reorder.zero_halo, "halo", left=left, right=right, **view.fields("target"), **sizes)
        return view

    def _finish_output(self, index: int, value: Value) -> None:
        storage = Storage(Place.OUTPUT, 0, index=index)
        if value in self._blocked and value not in self._plain:
            self._node = value.producer
            self.plain(value)
        source = self.plain(value)
        if source.address.storage.place is Place.OUTPUT and source.address.storage.index == index:
            return
        self._node = value.producer or Node("Output", value.name, [value], [])
        self.copy(source.address, Address(storage), (source.nbytes,), (1,), (1,), 1)

    def _fall_back(self, node: Node, reason: str) -> None:
        for value in node.outputs:
            if value.name and not value.is_static:
                raise UnsupportedError(
                    f"{node.where}: the shape of its output '{value.name}' depends on data; the CPU device needs "
                    "shapes that follow from the shapes of the model's inputs."
                )
        inputs = [None if v is None else self.plain(v) for v in node.inputs]
        outputs = [self.new_plain(v) if v.name else None for v in node.outputs]
        self.steps.append(FallbackStep(node, inputs, outputs, reason))


def _dtype(value: Value) -> np.dtype:
    """The value's dtype; UnsupportedError for strings, whose characters lie outside the tensor's memory."""
    if value.element_type == Type.string:
        raise UnsupportedError(
            f"'{value.name}' is a tensor of strings; the CPU device computes with numbers only. Use device REFERENCE."
        )
    return np.dtype(value.element_type.to_dtype())


def _image_fields(plain: Plain, name: str) -> dict[str, Address | int]:
    """The fields of a plain image: address and byte strides of images, channels and rows."""
    _, channels, height, width = image_shape(plain.shape)
    strides = {"batch": channels * height * width, "channel": height * width, "row": width}
    return {name: plain.address, **{f"{name}_{key}": 4 * stride for key, stride in strides.items()}}


def _sizes(view: Blocked) -> dict[str, int]:
    return dict(batch=view.batch, channels=view.channels, height=view.height, width=view.width)
