"""Random graphs of operators that the passes rewrite compute the same after them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.graphs import Builder, kinds, optimise

from cpuruntime import passes
from cpuruntime.graph import Graph, Value

Step = Callable[[Builder, Value, Value], Value]
C, H = 4, 4


def clip(b: Builder, x: Value, low: float, high: float) -> Value:
    return b("Clip", x, b.constant(low), b.constant(high))


# each keeps the shape [N, C, H, H]; the second operand is another value of that shape
STEPS: list[Step] = [
    lambda b, x, y: b("Conv", x, b.weights(C, C, 1, 1)),
    lambda b, x, y: b("Conv", x, b.weights(C, C, 3, 3), b.weights(C), auto_pad="SAME_LOWER"),
    lambda b, x, y: b("Conv", x, b.weights(C, 1, 3, 3), pads=[1, 1, 1, 1], group=C),
    lambda b, x, y: b("Conv", b("Pad", x, b.integers(0, 0, 1, 1, 0, 0, 1, 1)), b.weights(C, 2, 3, 3), group=2),
    lambda b, x, y: b("MatMul", x, b.weights(H, H)),
    lambda b, x, y: b("MatMul", x, y),
    lambda b, x, y: b.norm(x, C),
    lambda b, x, y: b("Mul", x, b.weights(C, 1, 1)),
    lambda b, x, y: b("Add", b.weights(1, C, 1, 1), x),
    lambda b, x, y: b("Sub", b.constant(0.5), x),
    lambda b, x, y: b("Div", x, b.constant([2.0])),
    lambda b, x, y: b("Mul", x, b.weights(H)),
    lambda b, x, y: b("Add", x, y),
    lambda b, x, y: b("Sum", x, y, x),
    lambda b, x, y: b("Mul", x, b("Sigmoid", x)),
    lambda b, x, y: b("Mul", x, b("Sigmoid", y)),
    lambda b, x, y: b("Div", b("Mul", x, clip(b, b("Add", x, b.constant(3.0)), 0, 6)), b.constant(6.0)),
    lambda b, x, y: b("Relu", x),
    lambda b, x, y: b("Relu", b("Concat", x, y, axis=1)),
    lambda b, x, y: clip(b, x, -1, 1),
    lambda b, x, y: b("Max", x, b.constant(-0.5)),
    lambda b, x, y: b("LeakyRelu", x),
    lambda b, x, y: b("Tanh", x),
    lambda b, x, y: b("Identity", x),
    lambda b, x, y: b("Dropout", x),
    lambda b, x, y: b("Mul", x, b.constant(1.0)),
    lambda b, x, y: b("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    lambda b, x, y: b("AveragePool", x, kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
    lambda b, x, y: b("Mul", x, b("ReduceMean", x, axes=[2, 3])),
    lambda b, x, y: b("Transpose", b("Transpose", x, perm=[0, 1, 3, 2]), perm=[0, 1, 3, 2]),
    lambda b, x, y: b("Transpose", x, perm=[0, 1, 3, 2]),
    lambda b, x, y: b("Reshape", b("Flatten", x), b.integers(-1, C, H, H)),
    lambda b, x, y: b(
        "Reshape",
        b("Transpose", b("Reshape", x, b.integers(0, 2, 2, H, H)), perm=[0, 2, 1, 3, 4]),
        b.integers(0, C, H, H),
    ),
    lambda b, x, y: b("Softmax", x, axis=3),
]


def random_graph(seed: int) -> Graph:
    b = Builder(opset=13, seed=seed)
    values = [b.input(2, C, H, H), b.input(2, C, H, H)]
    for _ in range(b.random.integers(4, 24)):
        recent = values[-min(len(values), int(b.random.integers(1, 4))) :]
        x, y = recent[b.random.integers(len(recent))], values[b.random.integers(len(values))]
        value = STEPS[b.random.integers(len(STEPS))](b, x, y)
        if b.random.random() < 0.1:
            b.output(value)
        joined = value.producer is not None and value.producer.inputs[0].producer is not None
        if joined and value.producer.inputs[0].producer.op_type == "Concat":
            value = b("Conv", value, b.weights(C, 2 * C, 1, 1))
        values.append(b("Tanh", value) if b.random.random() < 0.3 else value)
    outputs = [value for value in values[2:] if b.random.random() < 0.15]
    return b.graph(*outputs, values[-1])


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed: int) -> None:
    with np.errstate(all="ignore"):
        after = optimise(random_graph(seed))
    assert kinds(passes.run(after)) == kinds(after)
