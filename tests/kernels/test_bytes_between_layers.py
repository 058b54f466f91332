"""Values of bytes between kernels, plain and in blocks of channels: the bits that the evaluation on arrays gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.kernels import LANES
from support.programs import GuardedProgram

from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.operators.traits import DOMAIN
from cpuruntime.passes import evaluate


class Chain:
    """Operators that follow each other, planned, and evaluated on arrays one by one."""

    def __init__(self, *shape: int) -> None:
        self.values = [Value("x", Type.f32, shape)]
        self.nodes: list[Node] = []

    def add(self, op_type: str, dtype: Any, *more: Value, domain: str = DOMAIN, **attributes: Any) -> None:
        x = self.values[-1]
        y = Value(f"y{len(self.nodes)}", Type(dtype), x.static_shape)
        self.nodes.append(Node(op_type, y.name, [x, *more], [y], attributes, domain, 12))
        self.values.append(y)

    def check(self, x: np.ndarray, layout: str) -> None:
        outputs = [value for value in self.values[1:] if value.element_type is not Type.f32] + self.values[-1:]
        arrays = {self.values[0]: x}
        for node in self.nodes:
            (arrays[node.outputs[0]],) = evaluate(node, [arrays.get(v, v.constant) for v in node.inputs])
        planned = GuardedProgram(Graph("chain", self.values[:1], dict.fromkeys(outputs), self.nodes))
        layouts = [step.layout for step in planned.program.steps if step.node.domain == DOMAIN]
        assert layouts.count(layout) == len([node for node in self.nodes if node.domain == DOMAIN])
        for found, value in zip(planned.run_all(x, threads=2), dict.fromkeys(outputs)):
            np.testing.assert_array_equal(found, arrays[value])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("shape", [(3, 70), (2, LANES + 3, 5, 7)])
def test_quantise_table_and_back(dtype: Any, shape: tuple[int, ...]) -> None:
    limits, zero = np.iinfo(dtype), int(np.iinfo(dtype).max) - 100
    chain = Chain(*shape)
    if len(shape) == 4:  # whose result is blocked
        window = dict(kernel_shape=[1, 1], strides=[1, 1], dilations=[1, 1], pads=[0] * 4, ceil_mode=0, storage_order=0)
        chain.add("MaxPool", np.float32, domain="", **window)
    chain.add("Quantise", dtype, y_scale=0.05, y_zero=zero, low=int(limits.min) + 3, high=int(limits.max))
    table = np.random.default_rng(0).integers(0, 256, 256).astype(np.uint8).view(dtype)
    chain.add("ByteTable", dtype, Value.of("table", table))
    chain.add("Dequantise", np.float32, x_scale=0.1, x_zero=-7 if dtype is np.int8 else 200)
    x = 4 * np.random.default_rng(1).standard_normal(shape, np.float32)
    x.flat[:5] = np.nan, np.inf, -np.inf, 0.125, 0.375  # the last two lie between two steps
    chain.check(x, "blocked" if len(shape) == 4 else "plain")
