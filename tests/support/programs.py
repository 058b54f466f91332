"""Graphs, planned as in a compiled model and run step by step in guarded memory.

Everything that a program does not write itself is NaN: a halo that was not cleared, or an element that nobody wrote,
shows in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.program.lowerings.catalogue import find_lowering
from cpuruntime.program.plan.candidate import Candidate, T
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import Step
from cpuruntime.program.plan.storage import Blocked, Place
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.program import Instance, Program
from cpuruntime.program.whole import assemble

from .kernels import UNWRITTEN, guarded, holding

PAD_LANE = 7.0
Prepare = Callable[[Planner, Node], None]


def activation(name: str, shape: Sequence[int]) -> Value:
    """A float32 tensor that flows between nodes."""
    return Value(name, Type.f32, shape)


class GuardedInstance:
    """A program of native steps in guarded memory."""

    def __init__(self, program: Program) -> None:
        assert all(segment.fallback is None for segment in program.segments)
        self.program = program
        self._arena = guarded((program.arena_size,), np.uint8)
        self._instance = Instance(program, arena=self._arena.array)

    def load(self, program: Program) -> None:
        """Makes it an instance of another program of the same key."""
        self._instance.load(program)
        self.program = program

    def run_all(self, *inputs: np.ndarray, threads: int = 1) -> list[np.ndarray]:
        """All outputs of the graph. The lanes beyond the channels of blocked inputs hold `PAD_LANE`."""
        self.program.show()
        self._arena.erase()
        held = [holding(x) for x in inputs]
        results = [guarded(shape, dtype) for shape, dtype in self.program.image.outputs]
        for place, arrays in ((Place.INPUT, held), (Place.OUTPUT, results)):
            for index, array in enumerate(arrays):
                self._instance.bind(place, index, array.address)
        for step, block in zip(self.program.steps, self._instance.blocks):
            self._run_step(step, block, threads)
        for array in (*held, *results):
            array.check()
        self._arena.check()
        return [result.array for result in results]

    def _run_step(self, step: Step, block: int, threads: int) -> None:
        for thread in range(threads):
            step.kernel.entry(block, thread, threads)


class GuardedProgram(GuardedInstance):
    """The program of an optimised graph in guarded memory; `exact` plans do without Winograd's method."""

    def __init__(
        self,
        graph: Graph,
        *,
        threads: int = 1,
        prepare: Callable[[Planner], None] | None = None,
        weights: WeightStore | None = None,
        exact: bool = True,
    ) -> None:
        missing = [found for found in map(find_lowering, graph.nodes) if isinstance(found, str)]
        assert not missing, missing
        self.graph = graph
        self.planner = Planner(graph, weights or WeightStore(), threads, exact, owned=True)
        self.planner.decide()
        if prepare:
            prepare(self.planner)
        self.planner.plan()
        super().__init__(assemble(self.planner))


class NodeProgram(GuardedProgram):
    """The program of a graph of one node; `watched` are its steps by the kernel families that a test is about.

    `prepare` may change the planner's layouts before it plans. Each watched step is checked to write all of its target,
    pad lanes included, and nothing else but its scratch memory.
    """

    def __init__(
        self, node: Node, *, watched: Sequence[str] = (), prepare: Prepare | None = None, **options: Any
    ) -> None:
        self.node = node
        inputs = [v for v in node.inputs if v is not None and v.constant is None]
        graph = Graph("one node", inputs, node.outputs, [node])
        super().__init__(graph, prepare=prepare and (lambda planner: prepare(planner, node)), **options)
        self.watched = [step for step in self.program.steps if step.kernel.name.startswith(tuple(watched))]
        assert self.watched or not watched

    @property
    def kernels(self) -> list[str]:
        """Names of the watched steps' kernels."""
        return [step.kernel.name for step in self.watched]

    def run(self, *inputs: np.ndarray, threads: int = 1) -> np.ndarray:
        """The node's first output."""
        return self.run_all(*inputs, threads=threads)[0]

    def _run_step(self, step: Step, block: int, threads: int) -> None:
        if any(step is one for one in self.watched) and "target_block" in step.arguments:
            self._run_watched(step, block, threads)
        else:
            super()._run_step(step, block, threads)

    def _run_watched(self, step: Step, block: int, threads: int) -> None:
        """Runs a step that writes the node's output in the arena."""
        self._fill_pad_lanes(step)
        view = self.planner.blocked(self.node.outputs[0])
        owned = np.zeros(self._arena.array.shape, bool)
        self._elements(owned, view)[...] = True
        self._arena.array[owned] = UNWRITTEN
        before = self._arena.array.copy()
        super()._run_step(step, block, threads)
        if "scratch" in step.arguments:
            scratch = step.arguments["scratch"].storage
            owned[scratch.offset : scratch.offset + scratch.size] = True
        changed = np.flatnonzero((self._arena.array != before) & ~owned)
        assert not changed.size, f"{step.kernel.name} wrote {changed.size} bytes outside of its target"
        written = np.ascontiguousarray(self._elements(self._arena.array, view)).view(np.uint32)
        assert (written != 0xFFFFFFFF).all(), f"{step.kernel.name} left elements unwritten"

    def _elements(self, memory: np.ndarray, view: Blocked) -> np.ndarray:
        """The bytes of a blocked tensor in the arena, [N, blocks, H, W, bytes of a pixel]."""
        start = view.address.storage.offset + view.address.offset
        shape = (view.batch, view.blocks, view.height, view.width, 4 * LANES)
        strides = (view.batch_stride, view.block_stride, view.row_stride, 4 * LANES, 1)
        return as_strided(memory[start:], shape, strides)

    def _fill_pad_lanes(self, step: Step) -> None:
        for field, value in zip(("source", "residual"), self.planner.graph.inputs):
            if f"{field}_block" in step.arguments and self.planner.blocked(value).channels % LANES:
                view = self.planner.blocked(value)
                floats = np.full(LANES - view.channels % LANES, PAD_LANE, np.float32)
                self._elements(self._arena.array, view)[:, -1, :, :, -floats.nbytes :] = floats.view(np.uint8)


def only(choice: T) -> tuple[Candidate[T]]:
    """The one candidate there is, in place of those a lowering ranks."""
    return (Candidate(choice, str(choice), 1.0),)


def random_array(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Normally distributed float32."""
    return np.random.default_rng([seed, prod(shape)]).standard_normal(tuple(shape), np.float32)


def same_for_threads(planned: NodeProgram, *inputs: np.ndarray) -> np.ndarray:
    """The result, which 1, 2 and 3 threads have to agree on bit by bit."""
    first, *others = (planned.run(*inputs, threads=count) for count in (1, 2, 3))
    for other in others:
        assert other.tobytes() == first.tobytes()
    return first


def assert_close(actual: np.ndarray, expected: np.ndarray, terms: int, slack: float = 1.0) -> None:
    """float32 sums of `terms` products of normal numbers, against float64; `slack` is for methods that lose digits."""
    np.testing.assert_allclose(actual, expected, rtol=1e-5 * slack, atol=2e-6 * slack * max(1.0, terms**0.5))
