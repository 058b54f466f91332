"""Where the elements of a value lie in another one that it is a view of: offset and strides, counted in elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpuruntime.graph import Extent, Node, Value
from cpuruntime.operators.movement_shapes import bound_of_slice
from cpuruntime.passes.operators import is_internal, is_onnx, scalar
from cpuruntime.records import record


@record
class StridedView:
    """`factor` times elements of `base`, counted row by row: `offset` is the first, `strides` has one for each axis."""

    base: Value
    offset: Extent
    strides: tuple[Extent, ...]
    factor: float = 1.0

    def numbers(self) -> list[Extent]:
        """Offset and strides, as attributes hold them."""
        return [self.offset, *self.strides]


@record
class Strided:
    """An array as NumPy sees one: its element at a position lies `offset` + the sum of position * stride."""

    shape: tuple[Extent, ...]
    strides: tuple[Extent, ...]
    offset: Extent = 0

    @classmethod
    def contiguous(cls, shape: Sequence[Extent]) -> Strided:
        """Row by row."""
        strides: list[Extent] = []
        step: Extent = 1
        for extent in reversed(shape):
            strides.append(step)
            step = step * extent
        return cls(tuple(shape), tuple(reversed(strides)))

    def transpose(self, perm: Sequence[int] | None) -> Strided:
        """Its axes in another order, by default the opposite one."""
        order = range(len(self.shape))[::-1] if perm is None else perm
        axes = [axis % len(self.shape) for axis in order]
        return Strided(
            tuple(self.shape[axis] for axis in axes), tuple(self.strides[axis] for axis in axes), self.offset
        )

    def piece(self, axis: int, first: Extent, count: Extent) -> Strided:
        """`count` elements along an axis."""
        axis %= len(self.shape)
        shape = (*self.shape[:axis], count, *self.shape[axis + 1 :])
        return Strided(shape, self.strides, self.offset + first * self.strides[axis])

    def pick(self, axis: int, index: int) -> Strided:
        """One position of an axis, which goes."""
        axis %= len(self.shape)
        index = index + self.shape[axis] if index < 0 else index
        shape, strides = ((*n[:axis], *n[axis + 1 :]) for n in (self.shape, self.strides))
        return Strided(shape, strides, self.offset + index * self.strides[axis])

    def broadcast(self, shape: Sequence[Extent]) -> Strided | None:
        """Repeated along axes of extent 1 and new leading ones; None where it does not fit."""
        missing = len(shape) - len(self.shape)
        if missing < 0:
            return None
        strides: list[Extent] = [0] * missing
        for have, wanted, stride in zip(self.shape, shape[missing:], self.strides):
            if have != wanted and have != 1:
                return None
            strides.append(stride if have == wanted else 0)
        return Strided(tuple(shape), tuple(strides), self.offset)

    def reshape(self, shape: Sequence[Extent]) -> Strided | None:
        """The same elements under another shape of as many; None where they would have to move."""
        old = [(extent, stride) for extent, stride in zip(self.shape, self.strides) if extent != 1]
        strides: list[Extent] = [0] * len(shape)
        taken = first = 0
        while taken < len(old) and first < len(shape):
            (before, stride), after = old[taken], shape[first]
            last, taken = first, taken + 1
            while before != after:
                if after < before:
                    last += 1
                    after = after * shape[last]
                else:
                    extent, inner = old[taken]
                    if stride != extent * inner:
                        return None
                    before, stride, taken = before * extent, inner, taken + 1
            for axis in range(last, first - 1, -1):
                strides[axis] = stride
                stride = stride * shape[axis]
            first = last + 1
        return Strided(tuple(shape), tuple(strides), self.offset)


Step = Callable[[Strided], "Strided | None"]
Accept = Callable[[tuple[Extent, ...]], bool]


def find_view(value: Value, last: Step, accept: Accept, with_factor: bool = False) -> StridedView | None:
    """The furthest value that `value`, after the step `last`, is a view of with strides that `accept` takes; None when
    it does not take those of `value` itself. `with_factor` allows products with numbers on the way."""
    candidates: list[tuple[Value, float]] = [(value, 1.0)]
    steps: list[Step] = [last]
    best = _try(candidates[0], steps, accept)
    while True:
        base, factor = candidates[-1]
        node = base.producer
        found = _step(node, base) if node is not None else None
        if found is not None:
            source, step = found
            steps.append(step)
        elif with_factor and is_onnx(node, "Mul", "Div"):
            product = scaled(node)
            if product is None or product[0].shape != base.shape:
                return best
            source, factor = product[0], factor * product[1]
        else:
            return best
        candidates.append((source, factor))
        best = _try(candidates[-1], steps, accept) or best


def _try(candidate: tuple[Value, float], steps: list[Step], accept: Accept) -> StridedView | None:
    base, factor = candidate
    if not base.is_static or 0 in base.static_shape:
        return None
    view = Strided.contiguous(base.static_shape)
    for step in reversed(steps):
        moved = step(view)
        if moved is None:
            return None
        view = moved
    strides = tuple(0 if extent == 1 else stride for extent, stride in zip(view.shape, view.strides))
    return StridedView(base, view.offset, strides, factor) if accept(strides) else None


def reshaped(shape: Sequence[Extent]) -> Step:
    """The step that gives another shape."""
    return lambda array: array.reshape(shape)


def scaled(node: Node) -> tuple[Value, float] | None:
    """The value that a Mul or Div multiplies by a number, and that number."""
    left, right = node.inputs
    number = scalar(right)
    if number:
        return left, number if node.op_type == "Mul" else 1 / number
    number = scalar(left)
    return (right, number) if number and node.op_type == "Mul" else None


def _step(node: Node, output: Value) -> tuple[Value, Step] | None:
    """What `node` reads, and how `output` is a view of that."""
    source = node.inputs[0] if node.inputs else None
    if source is None or not source.is_static or not output.is_static:
        return None
    if is_internal(node, "Reshape"):
        return source, reshaped(output.static_shape)
    make = _STEPS.get(node.op_type) if node.domain == "" else None
    step = None if make is None else make(node, output)
    return None if step is None else (source, step)


def _transpose(node: Node, output: Value) -> Step:
    perm = node.attributes.get("perm")
    return lambda array: array.transpose(perm)


def _split(node: Node, output: Value) -> Step | None:
    sizes = node.input(1)
    if sizes is None or sizes.constant is None:
        return None
    first = int(sizes.constant[: node.outputs.index(output)].sum())
    axis = node.attributes.get("axis", 0)
    return lambda array: array.piece(axis, first, output.static_shape[axis])


def _slice(node: Node, output: Value) -> Step | None:
    numbers = [None if value is None else value.numbers for value in node.inputs[1:]]
    starts, _, axes, steps = (*numbers, None, None)[:4]
    if starts is None or any(v is not None and v.numbers is None for v in node.inputs[1:]):
        return None
    if axes is None or len(axes) != 1 or (steps is not None and steps[0] != 1):
        return None
    axis = int(axes[0])
    start = bound_of_slice(node.inputs[0].static_shape[axis], starts[0], 1, True)
    return lambda array: array.piece(axis, start, output.static_shape[axis])


def _pick(node: Node, output: Value) -> Step | None:
    index, axis = node.inputs[1].constant, node.attributes.get("axis", 0)
    if index is None or index.ndim:
        return None
    place = int(index)
    return lambda array: array.pick(axis, place)


def _expand(node: Node, output: Value) -> Step:
    return lambda array: array.broadcast(output.static_shape)


_STEPS: dict[str, Callable[[Node, Value], Step | None]] = {
    "Expand": _expand,
    "Gather": _pick,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
