"""Elementwise operators that feed each other become one, which computes an expression in one pass over memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import prod
from typing import NamedTuple

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Extent, Graph, Node, Size, Value, alike, typical
from cpuruntime.ops.fused import INPUTS, NUMBERS, Expression, Instruction
from cpuruntime.ops.tiles import loops
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.fuse.expressions import Earlier, Operand, Spelling, spell
from cpuruntime.passes.fuse.strided_views import Step, Strided, find_view, reshaped
from cpuruntime.passes.operators import internal, is_internal

# A kernel takes a fraction of a second to compile: loops under SHORT need to save SHORT_STEPS - 1 steps.
INSTRUCTIONS, SHORT, SHORT_STEPS = 32, 1024, 3
# What all different kernels of a graph may cost: instructions, and some for each kernel. Models need up to 30.
BUDGET, OVERHEAD = 200, 4
LIMITED = "more different chains of elementwise operators than may have own kernels: the rest runs operator by operator"
# Contiguous elements from which on reading an input in place is faster than a copy.
RUN = 2 * LANES


def run(graph: Graph) -> bool:
    """Merge operators whose results no others read; read transposed, sliced and broadcast inputs in place."""
    editor = Editor(graph)
    order = {node: index for index, node in enumerate(graph.nodes)}
    done: set[Node] = set()
    kernels = _Kernels()
    for node in reversed(graph.nodes):
        if node not in done and (spelling := spell(node)) is not None:
            group = _Group(editor, order, node, spelling)
            group.grow(done)
            done.update(group.members)
            fused = group.fused(kernels)
            if fused is not None:
                for member in group.members:
                    if member is not node:
                        editor.remove(member)
                editor.replace(node, fused)
    changed = editor.finish()
    if kernels.is_exceeded and LIMITED not in graph.notes:
        graph.notes.append(LIMITED)
    return changed


def alone(node: Node) -> Parts:
    """What the kernel of a Quantise or Dequantise that is in no chain computes, reads and takes."""
    writer = _Writer(node.outputs[0].static_shape, lambda value: False)
    for op, operands in spell(node) or ():
        writer.instruction(op, operands, node, [])
    parts = writer.finished()
    assert parts is not None
    return parts


class _Kernels:
    """The different kernels of a graph."""

    def __init__(self) -> None:
        self.known: set[tuple[Expression, tuple[bool, ...]]] = set()
        self.cost = 0
        self.is_exceeded = False

    def take(self, parts: Parts) -> bool:
        """Whether the graph may have this kernel, too."""
        kernel = parts.expression, parts.still
        if kernel in self.known:
            return True
        cost = OVERHEAD + len(parts.expression)
        if self.cost + cost > BUDGET:
            self.is_exceeded = True
            return False
        self.known.add(kernel)
        self.cost += cost
        return True


@dataclass
class _Member:
    """An operator of the group; `views` lead from the shape of its result to that of the group's."""

    spelling: Spelling
    views: list[Step]


@dataclass
class Read:
    """What the kernel reads: offset and strides in elements, or None where they follow from the shape."""

    value: Value
    view: list[int] | None


class Parts(NamedTuple):
    """What a kernel computes, reads and takes; the inputs in `still` repeat one element along the innermost loop."""

    expression: Expression
    inputs: list[Read]
    numbers: list[float]
    still: tuple[bool, ...]


class _Group:
    """Operators that end in `root`, each read by others of the group only."""

    def __init__(self, editor: Editor, order: dict[Node, int], root: Node, spelling: Spelling) -> None:
        self.editor, self.order, self.root = editor, order, root
        self.shape = root.outputs[0].static_shape
        self.members = {root: _Member(spelling, [])}

    def grow(self, taken: set[Node]) -> None:
        """Take in every operator that can be, the last ones first, while the kernel stays within its limits."""
        root = self.members[self.root]
        self._take_all(taken, lambda: True)
        if self._expression() is None:  # one of them does not fit: find out which
            self.members = {self.root: root}
            self._take_all(taken, lambda: self._expression() is not None)

    def _take_all(self, taken: set[Node], fits: Callable[[], bool]) -> None:
        """Add operators to `members`, except those of `taken` and those with which `fits` is false."""
        refused: set[Node] = set()
        readers = [(-self.order[self.root], 0, self.root)]
        count = len(self.members[self.root].spelling)
        while readers:
            *_, reader = heappop(readers)
            for value in reader.inputs:
                found = self._candidate(reader, value)
                if found is None or found[0] in taken or found[0] in refused or found[0] in self.members:
                    continue
                node, member = found
                self.members[node] = member
                if count + len(member.spelling) > INSTRUCTIONS or not fits():
                    del self.members[node]
                    refused.add(node)
                    continue
                count += len(member.spelling)
                heappush(readers, (-self.order[node], len(self.members), node))

    def _candidate(self, reader: Node, value: Value | None) -> tuple[Node, _Member] | None:
        """The operator that makes what `reader` reads, through a Reshape or not, when only members read that."""
        if value is None or value.shape != reader.outputs[0].shape or not self._is_own(value):
            return None
        views = self.members[reader].views
        if is_internal(value.producer, "Reshape"):
            views = [reshaped(value.static_shape), *views]
            value = value.producer.inputs[0]
            if self.editor.sole_user(value) is None:
                return None
        spelling = None if value.producer is None else spell(value.producer)
        return None if spelling is None else (value.producer, _Member(spelling, views))

    def _is_own(self, value: Value) -> bool:
        """Whether only members of the group read `value`, all in the same shape."""
        if self.editor.is_output(value) or not self.editor.is_read_by(value, self.members):
            return False
        users = set(self.editor.users(value))
        return len(users) == 1 or not any(self.members[user].views for user in users)

    def fused(self, kernels: _Kernels) -> Node | None:
        """The one operator; None when it would not be better than what there is, or would need one kernel too many."""
        found = self._expression()
        if found is None:
            return None
        expression, inputs, numbers, _ = found
        saved = self._steps() - 1 + sum(is_input.view is not None for is_input in inputs)
        if not prod(self.shape) or saved < (1 if typical(prod(self.shape)) >= SHORT else SHORT_STEPS - 1):
            return None
        if not kernels.take(found):
            return None
        attributes = {"expression": expression, "numbers": numbers, "views": [each.view for each in inputs]}
        values = [
            self.editor.constant(f"{self.root.name}/factor", each.value.constant) if not each.value.name else each.value
            for each in inputs
        ]
        return internal("Elementwise", self.root, values, self.root.outputs, attributes, self._sorted())

    def _steps(self) -> int:
        """The number of steps of the operators without fusion."""
        return len(self.members) + sum(
            is_internal(node, "Add") and node.attributes["activation"] not in ("", "Relu", "Clip")
            for node in self.members
        )

    def _sorted(self) -> list[Node]:
        return sorted(self.members, key=self.order.__getitem__)

    def _expression(self) -> Parts | None:
        """The instructions, what they read and their numbers; None when a kernel cannot have so many."""
        writer = _Writer(self.shape, self._is_own)
        for node in self._sorted():
            member = self.members[node]
            for op, operands in member.spelling:
                writer.instruction(op, operands, node, member.views)
            if not writer.fits:
                return None
            writer.results[node.outputs[0]] = f"t{len(writer.instructions) - 1}"
        return writer.finished()


@dataclass
class _Writer:
    """Writes the expression of a group."""

    shape: tuple[int, ...]
    is_own: Callable[[Value], bool]
    instructions: list[Instruction] = field(default_factory=list)
    inputs: list[Read] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    results: dict[Value, str] = field(default_factory=dict)
    extended: dict[Value, Value] = field(default_factory=dict)
    fits: bool = True

    def instruction(self, op: str, operands: list[Operand], node: Node, views: list[Step]) -> None:
        """Adds an instruction of `node`."""
        names = []
        for operand in operands:
            if isinstance(operand, Earlier):
                names.append(f"t{len(self.instructions) + operand.index}")
            elif isinstance(operand, float | int):
                names.append(self._number(float(operand)))
            else:
                value = operand if isinstance(operand, Value) else Value.of("", operand)
                names.append(self._result(value) or self._input(value, node, views))
        self.instructions.append((op, tuple(names)))

    def _number(self, number: float) -> str:
        number = float(np.float32(number))
        if number not in self.numbers:
            self.numbers.append(number)
        return f"p{self.numbers.index(number)}"

    def _result(self, value: Value) -> str | None:
        while value not in self.results and is_internal(value.producer, "Reshape"):
            value = value.producer.inputs[0]
        return self.results.get(value)

    def _input(self, value: Value, node: Node, views: list[Step]) -> str:
        found = self._place(value, node.outputs[0].static_shape, views)
        for index, known in enumerate(self.inputs):
            if found is not None and known.value is found.value and known.view == found.view:
                return INPUTS[index]
        if found is None or len(self.inputs) == len(INPUTS):
            self.fits = False
            return ""
        self.inputs.append(found)
        return INPUTS[len(self.inputs) - 1]

    def _place(self, value: Value, own: tuple[int, ...], views: list[Step]) -> Read | None:
        """How an operand of an operator with a result of the shape `own` is read; None when that takes a copy."""

        def spread(array: Strided) -> Strided | None:
            wide = array.broadcast(own)
            for view in views:
                wide = None if wide is None else view(wide)
            return wide

        if self.is_own(value):
            found = find_view(value, spread, lambda strides: _is_readable(self.shape, strides))
            if found is not None and _moves(value, found.base):
                return Read(found.base, found.numbers())
        if own == self.shape:
            return Read(self._of_full_rank(value), None)
        view = spread(Strided.contiguous(value.static_shape))
        if view is None:
            return None
        return Read(value, [0, *(0 if size == 1 else stride for size, stride in zip(view.shape, view.strides))])

    def _of_full_rank(self, value: Value) -> Value:
        """A constant with all axes of the result, which can be read in blocks of channels too."""
        array = value.constant
        if array is None or array.ndim == len(self.shape):
            return value
        if value not in self.extended:
            missing = (1,) * (len(self.shape) - array.ndim)
            self.extended[value] = Value.of("", array.reshape(missing + array.shape))
        return self.extended[value]

    def finished(self) -> Parts | None:
        """The expression, unless a kernel cannot have so many parts or dimensions."""
        if not self.inputs or len(self.numbers) > NUMBERS or len(self.instructions) > INSTRUCTIONS:
            return None
        walks = [each.view[1:] if each.view else _broadcast(each.value, self.shape) for each in self.inputs]
        loop, (_, *steps) = loops.collapse(self.shape, loops.contiguous(self.shape, 1), *walks)
        if len(loop) > loops.DIMENSIONS:
            return None
        still = tuple(not each or each[-1] == 0 for each in steps)
        return Parts(tuple(self.instructions), self.inputs, self.numbers, still)


def _broadcast(value: Value, shape: tuple[int, ...]) -> tuple[int, ...]:
    own = value.static_shape
    return loops.broadcast(own, loops.contiguous(own, 1), shape)


def _moves(value: Value, base: Value) -> bool:
    """Whether something between `base` and `value` is more than another shape of the same memory."""
    while value is not base:
        node = value.producer
        if not is_internal(node, "Reshape"):
            return True
        value = node.inputs[0]
    return False


def _is_readable(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether elements lie side by side: along the rows of the result, or as the channels of an image in blocks.

    An extent that is open counts as many, and not as whole blocks.
    """
    if len(shape) in (3, 4) and strides[1] == 1 and alike(shape[1] % LANES, 0):
        return True
    length = 1
    for size, stride in zip(reversed(shape), reversed(strides)):
        if size > 1 and stride != length:
            break
        length *= size
    return _is_long(length) or (bool(shape) and _is_long(shape[-1]) and strides[-1] == 0)


def _is_long(count: Extent) -> bool:
    return isinstance(count, Size) or count >= RUN
