"""Small models to quantise, samples with structure for them, and what other tools make of such models."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from support.judge import Feeds, Net

CHANNELS = 8


def resnet_like(size: int = 12) -> onnx.ModelProto:
    """A residual block, a depthwise convolution behind a Relu with channels of unequal size, pooling, a Gemm."""
    n = Net()
    x = n("Relu", n.norm(n.conv(n.input(1, 3, size, size, name="x"), 3, CHANNELS, pads=[1] * 4), CHANNELS))
    y = n("Relu", n.conv(x, CHANNELS, CHANNELS, pads=[1] * 4))
    x = n("Relu", n("Add", n.conv(y, CHANNELS, CHANNELS, 1), x))
    x = n("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    rows = np.geomspace(0.01, 2, CHANNELS).reshape(-1, 1, 1, 1)
    unequal = n.constant(rows * n.random.standard_normal((CHANNELS, CHANNELS, 1, 1)))
    x = n("Relu", n("Conv", x, unequal, n.constant(rows.ravel() * n.random.standard_normal(CHANNELS))))
    depthwise = n.constant(n.random.standard_normal((CHANNELS, 1, 3, 3)) / rows)
    x = n("Conv", x, depthwise, n.weights(CHANNELS), group=CHANNELS, pads=[1] * 4)
    x = n("Flatten", n("GlobalAveragePool", x))
    n.output(n("Gemm", x, n.weights(5, CHANNELS), n.weights(5), transB=1))
    return n.model()


def bert_like(tokens: int = 6, width: int = 16) -> onnx.ModelProto:
    """A layer of attention and one of two products behind normalisations, one of which has unequal gains."""
    n = Net()
    residual = n.input(1, tokens, width, name="x")
    gains = n.constant(np.geomspace(0.05, 5, width))
    x = n("LayerNormalization", residual, gains, n.weights(width))
    heads = []
    for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        y = n("Add", n("MatMul", x, n.weights(width, width)), n.weights(width))
        heads.append(n("Transpose", n("Reshape", y, n.integers(1, tokens, 2, width // 2)), perm=order))
    scores = n("Softmax", n("Mul", n("MatMul", heads[0], heads[1]), n.constant(0.3)), axis=-1)
    y = n("Transpose", n("MatMul", scores, heads[2]), perm=[0, 2, 1, 3])
    y = n("MatMul", n("Reshape", y, n.integers(1, tokens, width)), n.weights(width, width))
    residual = n("Add", y, residual)
    x = n("LayerNormalization", residual, n.positive(width), n.weights(width))
    x = n("Tanh", n("Add", n.weights(2 * width), n("MatMul", x, n.weights(width, 2 * width))))
    n.output(n("Add", n("MatMul", x, n.weights(2 * width, width)), residual))
    return n.model()


def samples(model: onnx.ModelProto, count: int, seed: int = 5) -> list[Feeds]:
    """Waves of random length and phase with noise, for each float32 input."""
    random = np.random.default_rng(seed)
    return [dict(_waves(model, random)) for _ in range(count)]


def _waves(model: onnx.ModelProto, random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    for info in model.graph.input:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        places = np.indices(shape).reshape(len(shape), -1)
        phase = random.uniform(0.1, 1.0, len(shape)) @ places + random.uniform(0, 6)
        wave = 1.5 * np.sin(phase) + 0.3 * random.standard_normal(phase.shape)
        yield info.name, wave.reshape(shape).astype(np.float32)
