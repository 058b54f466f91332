"""Small transformers from ONNX to results: each computes what ONNX Runtime does, for any number of threads."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import onnx
import pytest
from support.judge import Net, compare, random_inputs

import cpuruntime as ov

TOKENS, HEADS, WIDTH = 19, 3, 8
CHANNELS = HEADS * WIDTH


def linear(n: Net, x: str, channels: int, out: int) -> str:
    return n("Add", n("MatMul", x, n.weights(channels, out)), n.weights(out))


def layer_norm(n: Net, x: str) -> str:
    distance = n("Sub", x, n("ReduceMean", x, axes=[-1]))
    variance = n("ReduceMean", n("Pow", distance, n.constant(2.0)), axes=[-1])
    y = n("Div", distance, n("Sqrt", n("Add", variance, n.constant(1e-12))))
    return n("Add", n("Mul", y, n.positive(CHANNELS)), n.weights(CHANNELS))


def rms_norm(n: Net, x: str) -> str:
    mean = n("ReduceMean", n("Pow", x, n.constant(2.0)), axes=[-1])
    factor = n("Reciprocal", n("Sqrt", n("Add", mean, n.constant(1e-6))))
    return n("Mul", n.positive(CHANNELS), n("Mul", x, factor))


def gelu(n: Net, x: str) -> str:
    inner = n("Add", n("Erf", n("Div", x, n.constant(sqrt(2)))), n.constant(1.0))
    return n("Mul", n("Mul", x, inner), n.constant(0.5))


def gelu_tanh(n: Net, x: str) -> str:
    cube = n("Mul", n("Pow", x, n.constant(3.0)), n.constant(0.044715))
    inner = n("Tanh", n("Mul", n("Add", x, cube), n.constant(sqrt(2 / pi))))
    return n("Mul", n("Mul", x, n.constant(0.5)), n("Add", inner, n.constant(1.0)))


def heads(n: Net, x: str, *order: int) -> str:
    return n("Transpose", n("Reshape", x, n.integers(0, 0, HEADS, WIDTH)), perm=order or (0, 2, 1, 3))


def joined(n: Net, x: str) -> str:
    return n("Reshape", n("Transpose", x, perm=[0, 2, 1, 3]), n.integers(0, 0, CHANNELS))


def weights(n: Net, scores: str) -> str:
    return n("Softmax", n("Div", scores, n.constant(sqrt(WIDTH))), axis=-1)


def separate_attention(n: Net, x: str, mask: str = "") -> str:
    """BERT's: three projections."""
    query, key, value = (linear(n, x, CHANNELS, CHANNELS) for _ in range(3))
    scores = n("Div", n("MatMul", heads(n, query), heads(n, key, 0, 2, 3, 1)), n.constant(sqrt(WIDTH)))
    scores = n("Add", scores, mask) if mask else scores
    return joined(n, n("MatMul", n("Softmax", scores, axis=-1), heads(n, value)))


def joint_attention(n: Net, x: str, tokens: int) -> str:
    """GPT-2's: one projection, and a causal mask."""
    packed = linear(n, x, CHANNELS, 3 * CHANNELS)
    query, key, value = n.many(3, "Split", packed, n.integers(*[CHANNELS] * 3), axis=2)
    scores = n("MatMul", heads(n, query), heads(n, key, 0, 2, 3, 1))
    seen = n.constant(np.tril(np.ones((1, 1, tokens, tokens))), np.bool_)
    scores = n("Where", seen, scores, n.constant(-3.4e38))
    return joined(n, n("MatMul", weights(n, scores), heads(n, value)))


def vit_attention(n: Net, x: str) -> str:
    """The three parts taken by Gather from an axis of their own."""
    packed = n("Reshape", linear(n, x, CHANNELS, 3 * CHANNELS), n.integers(0, 0, 3, HEADS, WIDTH))
    packed = n("Transpose", packed, perm=[2, 0, 3, 1, 4])
    query, key, value = (n("Gather", packed, n.constant(i, np.int64), axis=0) for i in range(3))
    key = n("Transpose", key, perm=[0, 1, 3, 2])
    scores = n("MatMul", n("Mul", query, n.constant(WIDTH**-0.5)), key)
    return joined(n, n("MatMul", n("Softmax", scores, axis=-1), value))


def encoder(batch: int = 2) -> onnx.ModelProto:
    n = Net()
    x = n.input(batch, TOKENS, CHANNELS)
    mask = n("Mul", n("Cast", n("Less", n.input(batch, 1, 1, TOKENS), n.constant(0.0)), to=1), n.constant(-3.4e38))
    for _ in range(2):
        x = layer_norm(n, n("Add", linear(n, separate_attention(n, x, mask), CHANNELS, CHANNELS), x))
        y = linear(n, gelu(n, linear(n, x, CHANNELS, 4 * CHANNELS)), 4 * CHANNELS, CHANNELS)
        x = layer_norm(n, n("Add", y, x))
    n.output(x, n("Tanh", n("Gemm", n("Gather", x, n.constant(0, np.int64), axis=1), n.weights(CHANNELS, 7))))
    return n.model()


def decoder() -> onnx.ModelProto:
    n = Net()
    tokens = n("Mod", n("Abs", n.input(1, TOKENS, dtype=np.int64)), n.constant(50, np.int64))
    x = n("Gather", n.weights(50, CHANNELS), tokens)
    for _ in range(2):
        x = n("Add", linear(n, joint_attention(n, rms_norm(n, x), TOKENS), CHANNELS, CHANNELS), x)
        rows = n("Reshape", layer_norm(n, x), n.integers(-1, CHANNELS))
        y = n("Gemm", rows, n.weights(CHANNELS, 4 * CHANNELS), n.weights(4 * CHANNELS))
        y = gelu_tanh(n, n("Reshape", y, n.integers(1, TOKENS, 4 * CHANNELS)))
        x = n("Add", x, linear(n, y, 4 * CHANNELS, CHANNELS))
    n.output(n("MatMul", x, n.weights(CHANNELS, 50)))
    return n.model()


def vision() -> onnx.ModelProto:
    n = Net()
    x = n.conv(n.input(2, 3, 16, 12), 3, CHANNELS, 4, strides=[4, 4])
    x = n("Transpose", n("Reshape", x, n.integers(0, CHANNELS, -1)), perm=[0, 2, 1])
    x = n("Add", x, n.weights(1, 12, CHANNELS))
    x = n("Add", x, linear(n, vit_attention(n, layer_norm(n, x)), CHANNELS, CHANNELS))
    n.output(n("LayerNormalization", x, n.positive(CHANNELS), n.weights(CHANNELS)))
    return n.model()


MODELS = {"encoder": encoder, "decoder": decoder, "vision": vision}


@pytest.mark.parametrize("name", MODELS)
def test_whole_models(name: str) -> None:
    compiled = compare(MODELS[name](), tolerance=1e-4)
    kinds = [row.op_type for row in compiled.explain().rows]
    assert "Attention" in kinds
    assert {"LayerNorm", "RmsNorm"} & set(kinds)
    assert not {"Softmax", "MatMul", "Erf", "Tanh", "ReduceMean"} & set(kinds[:-1])


@pytest.mark.parametrize("name", MODELS)
def test_threads_and_streams_do_not_show_in_results(name: str) -> None:
    model = MODELS[name]()
    feeds = random_inputs(model)
    results = []
    for config in ({"INFERENCE_NUM_THREADS": 1}, {"INFERENCE_NUM_THREADS": 2}, {"NUM_STREAMS": 2}):
        compiled = ov.Core().compile_model(model, "CPU", config)
        found = compiled(dict(feeds))
        results.append([found[index].tobytes() for index in range(len(compiled.outputs))])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("turned", [False, True])
def test_one_query_reads_keys_where_they_lie(turned: bool) -> None:
    n = Net(opset=18)
    query, value = n.input(2, HEADS, 1, WIDTH), n.input(2, HEADS, TOKENS, WIDTH)
    key = n.input(2, HEADS, WIDTH, TOKENS) if turned else n.input(2, HEADS, TOKENS, WIDTH)
    scores = n("MatMul", query, key if turned else n("Transpose", key, perm=[0, 1, 3, 2]))
    n.output(n("MatMul", weights(n, scores), value))
    model = n.model()
    kernels = [row.kernel for row in compare(model).explain().rows]
    assert [kernel for kernel in kernels if kernel.endswith("_single")]
