"""Models whose tensors have no elements: batches of nothing, sequences of length 0."""

from __future__ import annotations

import numpy as np
import pytest
from support.judge import Net, compare

import cpuruntime as ov
from cpuruntime.errors import ModelError


def test_a_convolutional_network_of_no_images() -> None:
    net = Net()
    x = net("Relu", net.norm(net.conv(net.input(0, 3, 9, 9), 3, 8), 8))
    x = net("MaxPool", net.conv(x, 8, 8), kernel_shape=[2, 2])
    x = net("Flatten", net("GlobalAveragePool", net("Add", x, net.conv(x, 8, 8, 1))))
    net.output(net("Softmax", net("Gemm", x, net.weights(8, 5), net.weights(5))))
    compare(net.model())


def test_attention_over_no_rows() -> None:
    net = Net()
    x = net.input(2, 0, 8)
    scores = net("Softmax", net("MatMul", x, net("Transpose", x, perm=[0, 2, 1])))
    net.output(net("LayerNormalization", net("MatMul", scores, x), net.weights(8), net.weights(8)))
    compare(net.model())


def test_parts_of_nothing_join_others() -> None:
    net = Net()
    x, y = net.input(2, 0), net.input(2, 3)
    net.output(net("Concat", x, y, axis=1), net("ReduceSum", x, net.integers(1)), net("Neg", x))
    compare(net.model())


def test_the_largest_of_nothing_is_below_all_numbers() -> None:
    net = Net(opset=20)
    net.output(net("ReduceMax", net.input(2, 0), net.integers(1)))
    found = compare(net.model())({"x0": np.zeros((2, 0), np.float32)})
    assert np.isneginf(found[0]).all()


def test_nothing_along_an_axis() -> None:
    net = Net()
    x = net.input(3, 0)
    net.output(net("Hardmax", x), net("Softmax", x), net("CumSum", x, net.integers(1)), net("NonZero", x))
    compare(net.model())


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
def test_nothing_has_no_largest_place(operator: str) -> None:
    net = Net()
    net.output(net(operator, net.input(3, 0), axis=1))
    with pytest.raises(ModelError, match=f"{operator} .* axis 1 has no elements"):
        ov.Core().compile_model(net.model(), "CPU")([np.zeros((3, 0), np.float32)])
