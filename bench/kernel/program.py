"""Programs taken apart: every step of a planned graph can be run on its own, in the order of the program."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from unittest.mock import patch

import numpy as np

from cpuruntime import passes
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.program.convolution import direct
from cpuruntime.program.lowerings.catalogue import find_lowering
from cpuruntime.program.plan.candidate import Candidate
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import Step
from cpuruntime.program.plan.storage import Address, Place
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.program import Instance
from cpuruntime.program.tuning.tiles import Tiling
from cpuruntime.program.whole import assemble


class Runnable:
    """A graph of static shapes as steps for one thread; `exact` does without Winograd's method.

    Its inputs are `feeds` or else random.
    """

    def __init__(self, graph: Graph, exact: bool = False, feeds: Mapping[str, np.ndarray] | None = None) -> None:
        slow = [node.where for node in graph.nodes if isinstance(find_lowering(node), str)]
        assert not slow, f"no kernels for {', '.join(slow)}"
        planner = Planner(graph, WeightStore(), exact=exact)
        planner.plan()
        self.program = assemble(planner)
        self.steps: list[Step] = self.program.steps
        self.instance = Instance(self.program)
        generator = np.random.default_rng(0)
        self._inputs = [feeds[v.name] if feeds else _random(v, generator) for v in graph.inputs]
        self._outputs = [np.empty(v.static_shape, v.element_type.to_dtype()) for v in graph.outputs]
        for place, arrays in ((Place.INPUT, self._inputs), (Place.OUTPUT, self._outputs)):
            for index, array in enumerate(arrays):
                self.instance.bind(place, index, array.ctypes.data)
        self.calls = [_call(step.kernel, block) for step, block in zip(self.steps, self.instance.blocks)]
        self.run()

    def run(self) -> None:
        """All steps once, so that the inputs of each hold what they hold in an inference."""
        for call in self.calls:
            call()


def _call(kernel: Kernel, block: int) -> Callable[[], None]:
    entry = kernel.entry
    return lambda: entry(block, 0, 1)


def _random(value: Value, generator: np.random.Generator) -> np.ndarray:
    dtype = value.element_type.to_dtype()
    if value.element_type == Type.f32:
        return generator.standard_normal(value.static_shape, np.float32)
    return np.zeros(value.static_shape, dtype)


def same_work(step: Step) -> Hashable:
    """Equal for steps that do the same work on other memory."""
    sizes = {k: 0 if isinstance(v, Address) else v for k, v in step.arguments.items()}
    residual = isinstance(step.arguments.get("residual"), Address)
    hashable = ((k, tuple(v) if isinstance(v, list) else v) for k, v in sizes.items())
    return (step.kernel, step.layout, residual, tuple(sorted(hashable)))


def optimised(graph: Graph) -> Graph:
    """The graph as the CPU device plans it."""
    return passes.run(graph)


def one_convolution(channels: int, outputs: int, extent: int, kernel: int, tiling: Tiling) -> Runnable:
    """A square convolution of stride 1 that keeps the image's size, with a tile of the caller's choice."""
    generator = np.random.default_rng(0)
    x, y = (Value(name, Type.f32, (1, c, extent, extent)) for name, c in (("x", channels), ("y", outputs)))
    scale = np.float32((channels * kernel * kernel) ** -0.5)
    weights = generator.standard_normal((outputs, channels, kernel, kernel), np.float32) * scale
    attributes = {
        "kernel_shape": [kernel, kernel],
        "strides": [1, 1],
        "dilations": [1, 1],
        "pads": [kernel // 2] * 4,
        "group": 1,
        "activation": "Relu",
        "activation_arguments": [],
    }
    node = Node("Conv", "conv", [x, Value.of("w", weights), None, None], [y], attributes, "cpuruntime")
    only = (Candidate(tiling, str(tiling), 1.0),)
    with patch.object(direct, "rank_tilings", lambda *sizes: only):
        return Runnable(Graph("one convolution", [x], [y], [node]), exact=True)
