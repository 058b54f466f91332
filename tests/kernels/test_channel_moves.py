"""Concatenations, shuffles and splits of blocked channels in a row: one gather, whoever reads what is between."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import Builder, random_inputs
from support.programs import GuardedProgram

from cpuruntime import passes
from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Value
from cpuruntime.program.plan.step import Step

pytestmark = pytest.mark.every_isa

SIZE = 8  # of images; pools halve it


class Moves:
    """A graph and, step by step, what its values have to be."""

    def __init__(self, batch: int) -> None:
        self.b = Builder()
        self.batch = batch
        self.expected: dict[Value, np.ndarray] = {}

    def pool(self, channels: int) -> Value:
        """A blocked value, made from an input."""
        x = self.b.input(self.batch, channels, SIZE, SIZE)
        data = random_inputs(self.b.graph())[x.name]
        halved = data.reshape(self.batch, channels, SIZE // 2, 2, SIZE // 2, 2).max((3, 5))
        return self._made(self.b("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), halved)

    def join(self, *parts: Value) -> Value:
        whole = np.concatenate([self.expected[part] for part in parts], axis=1)
        return self._made(self.b("Concat", *parts, axis=1), whole)

    def shuffle(self, x: Value, group: int) -> Value:
        apart = self.batch, group, self.expected[x].shape[1] // group, SIZE // 2, SIZE // 2
        y = self.b("Transpose", self.b("Reshape", x, self.b.integers(*apart)), perm=[0, 2, 1, 3, 4])
        y = self.b("Reshape", y, self.b.integers(*self.expected[x].shape))
        return self._made(y, self.expected[x].reshape(apart).swapaxes(1, 2).reshape(self.expected[x].shape))

    def split(self, x: Value, *channels: int) -> list[Value]:
        parts = self.b.many(len(channels), "Split", x, self.b.integers(*channels), axis=1)
        arrays = np.split(self.expected[x], np.cumsum(channels)[:-1], axis=1)
        return [self._made(part, array) for part, array in zip(parts, arrays)]

    def widened(self, x: Value) -> Value:
        """The largest of neighbours: what keeps a value blocked, reads all of it and wants a halo."""
        padded = np.pad(self.expected[x], [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
        largest = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3)).max((-2, -1))
        return self._made(self.b("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4), largest)

    def check(self, *outputs: Value) -> list[str]:
        """Compares results for 1, 2 and 3 threads; the kernels that move blocked channels."""
        graph = passes.run(self.b.graph(*outputs))
        inputs = random_inputs(graph).values()
        for threads in (1, 2, 3):
            program = GuardedProgram(graph.clone(), threads=threads)
            results = program.run_all(*inputs, threads=threads)
            for value, result in zip(self.b.outputs, results):
                np.testing.assert_array_equal(result, self.expected[value])
        names = [step.kernel.name for step in program.planner.steps if isinstance(step, Step)]
        moving = "gather_channels", "copy", "from_blocked", "to_blocked"
        return [name for name in names if name.startswith(moving)]

    def _made(self, value: Value, array: np.ndarray) -> Value:
        self.expected[value] = array
        return value


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("half", [3, LANES - 1, LANES, 2 * LANES + 5])
def test_units_of_a_shufflenet_take_one_gather_for_each_part(half: int, batch: int) -> None:
    m = Moves(batch)
    kept, worked = m.pool(half), m.pool(half)
    for _ in range(2):
        kept, worked = m.split(m.shuffle(m.join(kept, worked), 2), half, half)
        worked = m.widened(worked)
    moved = m.check(m.widened(m.shuffle(m.join(kept, worked), 2)))
    assert moved == ["to_blocked"] * 2 + ["gather_channels"] * 5 + ["from_blocked"]


@pytest.mark.parametrize("channels", [(1, 2 * LANES - 1), (LANES, LANES), (5, LANES, 3), (LANES, 3, LANES + 1)])
def test_parts_are_gathered_or_in_place(channels: tuple[int, ...]) -> None:
    m = Moves(2)
    parts = m.split(m.pool(sum(channels)), *channels)
    moved = m.check(*map(m.widened, parts))
    gathers = 0 if channels == (LANES, LANES) else len(channels)
    assert moved.count("gather_channels") == gathers
    assert moved.count("from_blocked") == len(channels)


def test_what_others_read_as_well_is_in_memory() -> None:
    m = Moves(1)
    whole = m.join(m.pool(5), m.pool(7))
    shuffled = m.shuffle(whole, 3)
    parts = m.split(shuffled, 4, 8)
    m.check(m.widened(shuffled), whole, *parts, m.widened(parts[1]), m.join(parts[1], shuffled))


def test_whole_blocks_of_what_is_gathered() -> None:
    m = Moves(2)
    whole = m.join(m.pool(3), m.pool(2 * LANES - 3))
    first, second = m.split(whole, LANES, LANES)
    m.check(m.widened(first), m.widened(m.join(second, first)))


@pytest.mark.parametrize("seed", range(20))
def test_random_moves(seed: int) -> None:
    random = np.random.default_rng(seed)
    m = Moves(int(random.integers(1, 3)))
    values = [m.pool(int(random.integers(1, 3 * LANES))) for _ in range(3)]
    for _ in range(10):
        x = values[random.integers(len(values))]
        channels = m.expected[x].shape[1]
        match random.integers(4):
            case 0 if channels < 6 * LANES:
                values.append(m.join(x, values[random.integers(len(values))], x))
            case 1:
                groups = [n for n in range(1, channels + 1) if channels % n == 0]
                values.append(m.shuffle(x, int(random.choice(groups))))
            case 2 if channels > 1:
                at = int(random.integers(1, channels))
                values += m.split(x, at, channels - at)
            case _:
                values.append(m.widened(x))
    m.check(values[-1], *values[:: int(random.integers(2, 5))])
