"""The runtime's own evaluation of the operators that passes make, against the tests' interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from support.interpreter import OPERATORS, run_node

from cpuruntime.errors import InternalError
from cpuruntime.graph import Node, Type, Value
from cpuruntime.operators.traits import DOMAIN, TRAITS
from cpuruntime.passes import evaluate

ARGUMENTS = {"min": -0.5, "max": 0.75, "alpha": 0.3, "beta": 0.4}


def internal(op_type: str, *shapes: tuple[int, ...] | None, **attributes: object) -> tuple[Node, list]:
    random = np.random.default_rng(0)
    arrays = [None if shape is None else random.standard_normal(shape, np.float32) for shape in shapes]
    inputs = [None if shape is None else Value(f"x{i}", Type.f32, shape) for i, shape in enumerate(shapes)]
    output = Value("y", Type.f32, (4, 6))
    return Node(op_type, "n", inputs, [output], attributes, DOMAIN, 1), arrays


def check(op_type: str, *shapes: tuple[int, ...] | None, **attributes: object) -> None:
    node, arrays = internal(op_type, *shapes, **attributes)
    (found,), (expected,) = evaluate(node, arrays), run_node(node, arrays, OPERATORS)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, 1e-5, 1e-5)


EPILOGUES = {name: row.epilogue for rows in TRAITS.values() for name, row in rows.items() if row.epilogue is not None}


@pytest.mark.parametrize("activation", ["", *EPILOGUES])
def test_every_activation(activation: str) -> None:
    arguments = [ARGUMENTS[name] for name in EPILOGUES.get(activation, ())]
    check("Add", (2, 3, 4), (3, 1), activation=activation, activation_arguments=arguments)


PLAIN = {"activation": "", "activation_arguments": []}


@pytest.mark.parametrize("bias", [None, (4,)])
@pytest.mark.parametrize("residual", [None, (1, 4, 3, 5)])
@pytest.mark.parametrize("group", [1, 2])
def test_convolution(bias: tuple[int, ...] | None, residual: tuple[int, ...] | None, group: int) -> None:
    window = {"kernel_shape": [3, 2], "strides": [2, 1], "dilations": [1, 2], "pads": [1, 0, 0, 1], "group": group}
    check("Conv", (1, 2, 6, 6), (4, 2 // group, 3, 2), bias, residual, **window, **PLAIN)


@pytest.mark.parametrize("bias", [None, (4,)])
@pytest.mark.parametrize("residual", [None, (2, 5, 4)])
def test_product(bias: tuple[int, ...] | None, residual: tuple[int, ...] | None) -> None:
    check("FullyConnected", (2, 5, 3), (3, 4), bias, residual, **PLAIN)


def test_the_others() -> None:
    check("ScaleShift", (2, 3, 4, 5), (3,), (3,), **PLAIN)
    check("Silu", (2, 3))
    check("Reshape", (2, 3, 4))
    check("ChannelShuffle", (2, 6, 3, 2), group=3)
    views = {"mask": [0, 0, 0, 2, 1]} | {name: [0, 12, 6, 3, 1] for name in ("query", "key", "value", "target")}
    sizes = dict(batch=2, heads=2, queries=2, keys=2, depth=3, width=3, scale=0.5, causal=1, offset=0)
    check("Attention", (24,), (24,), (24,), (4,), **views, **sizes)
    for op_type in ("LayerNorm", "RmsNorm"):
        check(op_type, (2, 3, 4), (3, 4), (3, 4), axis=1, epsilon=1e-5)
        check(op_type, (2, 3, 4), None, None, axis=2, epsilon=1e-3)
    check("ChannelShuffle", (2, 6, 3), group=2)


def test_onnx_operators() -> None:
    node = Node("Neg", "n", [Value("x", Type.f32)], [Value("y", Type.f32)], {}, "", 13)
    assert evaluate(node, [np.ones(2, np.float32)])[0].tolist() == [-1, -1]


def test_unknown_operators() -> None:
    node, arrays = internal("Nonsense", (1,))
    with pytest.raises(InternalError, match="Nonsense 'n'"):
        evaluate(node, arrays)
