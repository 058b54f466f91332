"""Shapes of its inputs for which a dynamic model is planned before any is known; the numbers are arbitrary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from cpuruntime.devices.ports import PortInfo
from cpuruntime.graph import Graph, PartialShape, Value

BATCHES, EXTENT = (8, 1), 64
SIGNALS = (1024, 16384)
"""Extents for models whose windows and strides leave nothing of shorter ones."""

COUNTS, IMAGES = (2, 1), ((64, 96), (320, 480))
MOVES = {"Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators through which a state may go on its way to an output."""

MOST_FREE = 4
"""Inputs beside states and the first one, of which each may be as long as a text or as a step, at most."""

Shapes = list[list[int]]


def states_of(graph: Graph) -> list[int]:
    """The inputs of a model that an output continues: by a Concat, and else by moving elements."""
    readers, ends = graph.uses(), set(graph.outputs)

    def grows(state: Value) -> bool:
        # Values with elements of the state, and whether others are behind them.
        found = [(state, False)]
        for value, is_longer in found:
            if is_longer and value in ends:
                return True
            for node, index in readers.get(value, ()):
                joins = node.op_type == "Concat"
                if node.domain == "" and node.op_type in MOVES and (index == 0 or joins):
                    reached = [(output, is_longer or joins) for output in node.outputs]
                    found += [each for each in reached if each not in seen]
                    seen.update(reached)
        return False

    states = []
    for index, value in enumerate(graph.inputs):
        seen: set[tuple[Value, bool]] = set()
        if value.shape and not value.is_static and grows(value):
            states.append(index)
    return states


def images(inputs: Sequence[PortInfo]) -> Iterator[tuple[Shapes, bool]]:
    """Shapes of an image's input, of several images and of one; and whether others for as many come before."""
    for pixels in IMAGES:
        for batch in COUNTS:
            yield [extents(inputs[0].partial_shape, (batch, 1, *pixels))], pixels != IMAGES[0]


def batches(inputs: Sequence[PortInfo]) -> Iterator[list[Shapes]]:
    """Shapes of several samples, then of one: longer and longer ones, of which the first serves that fits the model."""
    for batch in BATCHES:
        each = [[extents(info.partial_shape, (batch,), rest) for info in inputs] for rest in (EXTENT, *SIGNALS)]
        yield [shapes for index, shapes in enumerate(each) if shapes not in each[:index]]


def texts(inputs: Sequence[PortInfo], states: Sequence[int]) -> Iterator[list[Shapes]]:
    """Shapes for the beginning of a text, then for a step that continues it: several, of which the first fits that can.

    The first input that is no state has the new tokens alone; the others may have all of the text.
    """
    shapes = [inputs[index].partial_shape for index in states]
    has_batch = any(shape[0].is_dynamic and _last_open(shape) > 0 for shape in shapes)
    others = [index for index, info in enumerate(inputs) if index not in states and info.partial_shape.is_dynamic]
    for past, tokens in ((0, EXTENT), (EXTENT - 1, 1)):
        free = others[1 : 1 + MOST_FREE]
        lengths = [dict(zip(free, chosen)) for chosen in product(sorted({EXTENT, tokens})[::-1], repeat=len(free))]
        yield [
            [
                _state(info.partial_shape, past)
                if index in states
                else extents(info.partial_shape, (1,) * has_batch, each.get(index, tokens))
                for index, info in enumerate(inputs)
            ]
            for each in lengths
        ]


def _state(shape: PartialShape, past: int) -> list[int]:
    return extents(shape, [1] * _last_open(shape), past)


def _last_open(shape: PartialShape) -> int:
    return max(axis for axis, one in enumerate(shape) if one.is_dynamic)


def is_image(shape: PartialShape) -> bool:
    """Whether shapes are those of images of open height and width."""
    return not shape.rank.is_dynamic and [one.is_dynamic for one in shape][1:] == [False, True, True]


def extents(shape: PartialShape, first: Sequence[int], rest: int = EXTENT) -> list[int]:
    """Extents for open ones, within their bounds: `first` ones, then `rest`."""
    if shape.rank.is_dynamic:
        return []
    guesses = [*first, *[rest] * len(shape)]
    most = [guess if one.max_length == -1 else min(guess, one.max_length) for guess, one in zip(guesses, shape)]
    return [max(guess, one.min_length) for guess, one in zip(most, shape)]
