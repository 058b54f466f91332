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


class Nodes:
    """Nodes, planned, and evaluated on arrays one by one."""

    def __init__(self, *shape: int) -> None:
        self.input = Value("x", Type.f32, shape)
        self.nodes: list[Node] = []

    def __call__(self, op_type: str, *inputs: Value | None, count: int = 1, domain: str = "", **attributes: Any) -> Any:
        outputs = [Value(f"{op_type}{len(self.nodes)}_{index}") for index in range(count)]
        self.nodes.append(Node(op_type, outputs[0].name, inputs, outputs, attributes, domain, 13))
        return outputs[0] if count == 1 else outputs

    def own(self, op_type: str, *inputs: Value, **attributes: Any) -> Value:
        return self(op_type, *inputs, domain=DOMAIN, **attributes)

    def pool(self, x: Value, kernel: int) -> Value:
        window = dict(kernel_shape=[kernel] * 2, strides=[1, 1], dilations=[1, 1], pads=[kernel // 2] * 4)
        return self("MaxPool", x, ceil_mode=0, storage_order=0, **window)

    def quantise(self, x: Value, dtype: Any, zero: int, low: int, high: int) -> Value:
        y = self.own("Quantise", x, y_scale=0.05, y_zero=zero, low=low, high=high)
        y.element_type = Type(dtype)
        return y

    def check(self, x: np.ndarray, layout: str, *outputs: Value) -> None:
        """The layouts of all steps but of the first, and of those that make outputs."""
        arrays = {self.input: x}
        for node in self.nodes:
            results = evaluate(node, [None if v is None else arrays.get(v, v.constant) for v in node.inputs])
            for value, array in zip(node.outputs, results):
                arrays[value] = array
                value.element_type, value.shape = Type(array.dtype), array.shape
        planned = GuardedProgram(Graph("nodes", [self.input], outputs, self.nodes))
        assert layout in {step.layout for step in planned.program.steps if step.node.op_type != "Output"}
        assert {step.layout for step in planned.program.steps} <= {layout, "plain -> blocked", "blocked -> plain"}
        for found, value in zip(planned.run_all(x, threads=2), outputs):
            np.testing.assert_array_equal(found, arrays[value])


@pytest.mark.every_isa
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("shape", [(3, 70), (2, LANES + 3, 5, 7)])
def test_quantise_table_and_back(dtype: Any, shape: tuple[int, ...]) -> None:
    n, limits = Nodes(*shape), np.iinfo(dtype)
    x = n.pool(n.input, 1) if len(shape) == 4 else n.input  # the result of a pool is blocked
    q = n.quantise(x, dtype, int(limits.max) - 100, int(limits.min) + 3, int(limits.max))
    table = np.random.default_rng(0).integers(0, 256, 256).astype(np.uint8).view(dtype)
    looked_up = n.own("ByteTable", q, Value.of("table", table))
    y = n.own("Dequantise", looked_up, x_scale=0.1, x_zero=-7 if dtype is np.int8 else 200)
    x = 4 * np.random.default_rng(1).standard_normal(shape, np.float32)
    x.flat[:5] = np.nan, np.inf, -np.inf, 0.125, 0.375  # the last two lie between two steps
    n.check(x, "blocked" if len(shape) == 4 else "plain", q, looked_up, y)


@pytest.mark.every_isa
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_pool_split_concatenate_and_resize_blocks_of_bytes(dtype: Any) -> None:
    n, limits = Nodes(2, 2 * LANES, 5, 9), np.iinfo(dtype)
    q = n.quantise(n.pool(n.input, 1), dtype, 0, int(limits.min), int(limits.max))
    first, second = n("Split", q, Value.of("sizes", np.array([LANES, LANES])), count=2, axis=1)
    whole = n("Concat", first, n.pool(second, 3), second, axis=1)
    scales = Value.of("scales", np.array([1, 1, 2, 3], np.float32))
    y = n("Resize", whole, None, scales, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    n.check(4 * np.random.default_rng(1).standard_normal((2, 2 * LANES, 5, 9), np.float32), "blocked", second, y)


@pytest.mark.every_isa
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("padding_counts", [0, 1])
def test_average_pools(dtype: Any, padding_counts: int) -> None:
    n, limits = Nodes(2, LANES + 3, 6, 9), np.iinfo(dtype)
    q = n.quantise(n.pool(n.input, 1), dtype, int(limits.max) - 100, int(limits.min), int(limits.max))
    stored = dict(y_zero=int(limits.max) - 30, low=int(limits.min) + 5, high=int(limits.max))
    window = dict(kernel_shape=[3, 2], strides=[2, 1], dilations=[1, 2], pads=[1, 0, 1, 2])
    pooled = n.own(
        "QuantisedAveragePool", q, **window, **stored, x_zero=int(limits.max) - 100, multiplier=1.7,
        count_include_pad=padding_counts,
    )  # fmt: skip
    pooled.element_type = Type(dtype)
    whole = dict(kernel_shape=[3, 9], strides=[1, 1], dilations=[1, 1], pads=[0] * 4)
    y = n.own(
        "QuantisedAveragePool", pooled, **whole, **stored, x_zero=3, multiplier=0.5, count_include_pad=0
    )
    y.element_type = Type(dtype)
    n.check(4 * np.random.default_rng(1).standard_normal((2, LANES + 3, 6, 9), np.float32), "blocked", pooled, y)


@pytest.mark.every_isa
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("op_type", ["Softmax", "LayerNorm", "RmsNorm"])
def test_normalisations_that_write_bytes(dtype: Any, op_type: str) -> None:
    """The bytes that a Quantise behind the same kernel would write, but for ties."""
    limits, width = np.iinfo(dtype), 3 * LANES + 5
    stored = dict(y_scale=0.02, y_zero=int(limits.max) - 100, low=int(limits.min), high=int(limits.max))
    x = 2 * np.random.default_rng(1).standard_normal((2, 7, width), np.float32)
    value = Value("x", Type.f32, x.shape)
    own = {} if op_type == "Softmax" else dict(axis=2, epsilon=1e-5)
    scale = [] if op_type == "Softmax" else [Value.of("scale", np.linspace(0.5, 2, width, dtype=np.float32)), None]
    both = [Value(name, Type(dtype), x.shape) for name in ("at once", "apart")]
    between = Value("between", Type.f32, x.shape)
    nodes = [
        Node(op_type, "one", [value, *scale], [both[0]], own | stored, DOMAIN, 1),
        Node(op_type, "two", [value, *scale], [between], own, "" if op_type == "Softmax" else DOMAIN, 13),
        Node("Quantise", "three", [between], [both[1]], stored, DOMAIN, 1),
    ]
    (expected,) = evaluate(nodes[0], [x, *[each and each.constant for each in scale]])
    at_once, apart = GuardedProgram(Graph("nodes", [value], both, nodes)).run_all(x, threads=2)
    assert np.mean(at_once != apart) < 0.01
    assert np.abs(at_once.astype(int) - expected).max() <= 1
    assert np.mean(at_once != expected) < 0.01
