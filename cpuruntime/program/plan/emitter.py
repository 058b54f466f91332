"""The emitter, through which lowerings get views of values, memory and constants, choose kernels and emit steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from math import prod
from typing import Any, Protocol

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.errors import InternalError, UnsupportedError, printable
from cpuruntime.graph import Extent, Node, Size, Type, Value, alike, typical
from cpuruntime.host.memory import ALIGNMENT, check_fits, round_up
from cpuruntime.ops import byte_layouts, reorder
from cpuruntime.ops.movement import NUMBERS, copy_runs, plan_copy, write_numbers
from cpuruntime.program.plan.candidate import Candidate, Chosen, Comparison, Query, T, estimated
from cpuruntime.program.plan.division import rows_together
from cpuruntime.program.plan.layout import LayoutPlan
from cpuruntime.program.plan.step import FallbackStep, KernelChoice, Step
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
from cpuruntime.program.plan.tables import whole_numbers
from cpuruntime.program.plan.weights import WeightStore


class Chooser(Protocol):
    """Decides where candidates are close: it may emit the steps of each with an emitter of its own, and run them."""

    def choose(
        self, node: Node, query: Query, candidates: Sequence[Candidate[T]], emit: Callable[[Emitter, T], None],
        threads: int,
    ) -> Chosen[T]:  # fmt: skip
        """One of the candidates, cheapest first, which give the same bits, for a stream of `threads` threads."""

    def choose_method(
        self, node: Node, query: Query, candidates: Sequence[Candidate[T]], emit: Callable[[Emitter, T], None]
    ) -> Chosen[T]:
        """One of the candidates, ways whose results differ in the last bits: the same for any number of threads."""


class Emitter:
    """Emits the steps of nodes for streams of `threads` threads; used by one thread at a time.

    Where candidates are close, `tuner` decides; without one the estimate does.

    Attributes:
        methods: the method of each node that can be computed by several. Memory safety rests on it: the halo of a value
            and the kernel that reads it are derived from the same entry, so none is ever chosen again.
        faults: the messages of the rules that kernels check.
    """

    def __init__(
        self, weights: WeightStore, threads: int = 1, tuner: Chooser | None = None, node: Node | None = None
    ) -> None:
        self.weights = weights
        self.threads = threads
        self.methods: Mapping[Node, Chosen[Any]] = {}
        self.layouts = LayoutPlan()
        self.steps: list[Step | FallbackStep] = []
        self.faults: list[tuple[str | Extent, ...]] = []
        self._tuner = tuner
        self._node = node
        self._blocked: dict[Value, Blocked] = {}
        self._plain: dict[Value, Plain] = {}
        self._roots: dict[Value, Blocked] = {}
        self._outputs: dict[Value, int] = {}
        self._of_threads: set[Storage] = set()
        self._uses: Mapping[Value, list[tuple[Node, int]]] = {}
        self._comparisons: tuple[Comparison, ...] = ()

    # Views of inputs. A view in another layout than the value's own is made once, by a conversion step.

    def plain(self, value: Value) -> Plain:
        """The value row by row."""
        if value not in self._plain:
            if value.constant is not None:
                check_fits(value.constant.nbytes, f"the elements of constant '{printable(value.name)}'")
                address = self.constant(value.constant)
                self._plain[value] = Plain(address, value.static_shape, numeric_dtype(value))
            elif value.sizes is not None:
                self._write_sizes(value)
            else:
                self._plain[value] = self._blocked_to_plain(value)
        return self._plain[value]

    def blocked(self, value: Value) -> Blocked:
        """The value in blocks of channels, with the halo its readers need."""
        if value not in self._blocked:
            source = self.plain(value)
            target = self._blocked[value] = self._new_root(value)
            fields = {**_image_fields(source, "source"), **target.fields("target")}
            kernel = reorder.to_blocked if target.itemsize == 4 else byte_layouts.to_blocked_bytes
            self.emit(kernel, "plain -> blocked", **fields, **_sizes(target))
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
        view = Interleaved(origin, height * row, row)
        for start, count in ((Address(storage), left), (origin + width * channels * 4, right)):
            if count:
                zero, shape = self.constant(np.zeros(1, np.float32)), (batch * height, count * channels)
                self.copy(zero, start, shape, (0, 0), (row, 4), 4, "halo")
        sizes = dict(batch=batch, channels=channels, height=height, width=width)
        self.emit(
            reorder.to_pixels, "plain -> interleaved", **_image_fields(source, "source"), **view.fields("target"),
            **sizes,
        )  # fmt: skip
        return view

    def copy(
        self, source: Address, target: Address, shape: Sequence[int], source_strides: Sequence[int],
        target_strides: Sequence[int], element: int, layout: str = "plain",
    ) -> None:  # fmt: skip
        """Emits a strided copy of `shape` elements of `element` bytes; nothing for an empty one."""
        if prod(shape):
            kernel, fields = plan_copy(shape, source_strides, target_strides, element)
            moved = 2 * prod(shape) * element if kernel is copy_runs else None
            self.emit(kernel, layout, moved=moved, source=source, target=target, **fields)

    def readers(self, value: Value) -> list[Node]:
        """The nodes that read a value, each as often as it does."""
        return [node for node, _ in self._uses.get(value, ())]

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
        dtype = numeric_dtype(value)
        size = prod(value.static_shape) * dtype.itemsize
        index = self._outputs.get(value)
        storage = self.scratch(size) if index is None else Storage(Place.OUTPUT, size, index=index)
        view = self._plain[value] = Plain(Address(storage), value.static_shape, dtype)
        return view

    def alias_plain(self, value: Value, view: Plain) -> None:
        """`value` is `view`'s memory under another shape."""
        self._plain[value] = Plain(view.address, value.static_shape, view.dtype)

    def scratch(self, size: int) -> Storage:
        """Memory of the arena; alive from the first to the last step that names it."""
        return Storage(Place.ARENA, size if isinstance(size, Size) else max(size, ALIGNMENT))

    def thread_memory(self, size: int) -> dict[str, Any]:
        """The fields of a kernel that works in `size` bytes of its own for each thread; no two threads share a line."""
        size = round_up(size)
        storage = self.scratch(size * self.threads)
        self._of_threads.add(storage)
        return {"scratch": Address(storage), "scratch_size": size}

    def fault(self, *message: str | Extent) -> Address:
        """An int64 that a kernel sets to 1 when the data break a rule; the inference then ends with the message, given
        in pieces."""
        self.faults.append(message)
        return Address(Storage(Place.FAULT, 8, index=len(self.faults) - 1))

    # Constants, choices, steps.

    def constant(self, array: np.ndarray) -> Address:
        """A row-major copy of `array`, shared by all that need one of the same content."""
        return self.weights.constant(self.weights.identity(array), array)

    def table(self, make: Callable[..., np.ndarray], *numbers: Extent) -> Address:
        """A table of which the content depends on numbers: `make` of them."""
        if any(isinstance(number, Size) for number in numbers):
            return Address(Storage(Place.FIXED, 0, table=(make, numbers)))
        return self.constant(make(*numbers))

    def rows(self, rows: Sequence[Sequence[Extent]]) -> Address:
        """A table of records of int64."""
        return self.table(whole_numbers, *chain.from_iterable(rows))

    def emit_fastest(
        self, query: Query, candidates: Sequence[Candidate[T]], emit: Callable[[Emitter, T], None],
        is_ready: Callable[[T], bool] = lambda choice: False,
    ) -> None:  # fmt: skip
        """Emits the steps by one of the candidates, cheapest first: ways to do the same work with the same bits.

        Where none is measured one that is ready goes first: its weights are packed already, for other shapes.
        """
        if self._tuner is None:
            chosen = estimated([each for each in candidates if is_ready(each.choice)] or candidates)
        else:
            chosen = self._tuner.choose(self.node, query, candidates, emit, self.threads)
        method = [self.methods[self.node]] if self.node in self.methods else []
        self._comparisons = tuple(choice.comparison for choice in (*method, chosen))
        emit(self, chosen.choice)
        self._comparisons = ()

    def fastest_method(
        self, query: Query, candidates: Sequence[Candidate[T]], emit: Callable[[Emitter, T], None]
    ) -> T:
        """One of the candidates, ways whose results differ in the last bits: the same for any number of threads."""
        if self._tuner is None:
            return candidates[0].choice
        return self._tuner.choose_method(self.node, query, candidates, emit).choice

    def emit(
        self, kernel: Kernel | KernelChoice, layout: str, *, flops: int = 0, notes: str = "",
        moved: Extent | None = None, **arguments: Any,
    ) -> None:  # fmt: skip
        """Appends a step of the node being lowered; fields of the argument block that are not given are zero."""
        unknown = arguments.keys() - set(kernel.arguments.names or ())
        if unknown:
            raise InternalError(f"{kernel.name} has no argument {', '.join(sorted(unknown))}.")
        comparisons = self._comparisons if typical(flops) else ()
        self.steps.append(Step(kernel, arguments, self.node, layout, flops, notes, comparisons, moved))

    @property
    def node(self) -> Node:
        """The node being lowered."""
        if self._node is None:
            raise InternalError("a step is emitted while no node is being lowered.")
        return self._node

    def _blocked_to_plain(self, value: Value) -> Plain:
        source = self._blocked.get(value)
        if source is None:
            raise InternalError(f"value '{printable(value.name)}' is read before it is written.")
        if alike(source.height * source.width, 1) and (source.batch == 1 or source.channels % LANES == 0):
            tight = source.batch == 1 or source.batch_stride == source.channels * source.itemsize
            if source.block_stride == source.pixel and tight and value not in self._outputs:
                return Plain(source.address, value.static_shape, numeric_dtype(value))
        target = self.new_plain(value)
        fields = {**source.fields("source"), **_image_fields(target, "target")}
        kernel = reorder.from_blocked if source.itemsize == 4 else byte_layouts.from_blocked_bytes
        self.emit(kernel, "blocked -> plain", **fields, **_sizes(source))
        return target

    def _write_sizes(self, value: Value) -> None:
        """The elements of a value that follows from shapes, written by steps."""
        assert value.sizes is not None
        view, numbers = self.new_plain(value), value.numbers or []
        for start in range(0, len(numbers), NUMBERS):
            some = numbers[start : start + NUMBERS]
            self.emit(
                write_numbers(view.dtype.name), "plain", target=view.address + start * view.dtype.itemsize,
                count=len(some), numbers=some + [0] * (NUMBERS - len(some)),
            )  # fmt: skip

    def _new_root(self, value: Value) -> Blocked:
        """The blocked memory of a value that is not part of a concatenation; clears its halo."""
        if value in self._roots:
            return self._roots[value]
        left, right = self.layouts.halos.get(value, (0, 0))
        size = value.element_type.size
        view = self._roots[value] = blocked_view(self.scratch(0), value.static_shape, left, right, size)
        if left or right:
            if view.itemsize != 4:
                raise InternalError(f"'{printable(value.name)}' has a halo and is not float32.")
            chunk = rows_together(value, view.height, self.threads)
            fields = {**view.fields("target"), **view.sizes()}
            self.emit(reorder.zero_halo, "halo", left=left, right=right, chunk=chunk, **fields)
        return view


def numeric_dtype(value: Value) -> np.dtype:
    """The value's dtype; UnsupportedError for strings, whose characters lie outside the tensor's memory."""
    if value.element_type == Type.string:
        raise UnsupportedError(
            f"'{printable(value.name)}' is a tensor of strings; the CPU device computes with numbers only. Use "
            "device REFERENCE."
        )
    return np.dtype(value.element_type.to_dtype())


def _image_fields(plain: Plain, name: str) -> dict[str, Address | int]:
    """The fields of a plain image: address and byte strides of images, channels and rows."""
    _, channels, height, width = image_shape(plain.shape)
    strides = {"batch": channels * height * width, "channel": height * width, "row": width}
    size = plain.dtype.itemsize
    return {name: plain.address, **{f"{name}_{key}": size * stride for key, stride in strides.items()}}


def _sizes(view: Blocked) -> dict[str, int]:
    return dict(batch=view.batch, channels=view.channels, height=view.height, width=view.width)
