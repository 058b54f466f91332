"""Small models, a few a family of GPU kernels, with extents that fill no tile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from support.judge import Net

Case = Callable[[Net], None]


def products(n: Net) -> None:
    x = n.input(1, 7, 19)
    y = n("Relu", n("Add", n("MatMul", x, n.weights(19, 37)), n.weights(37)))
    n.output(n("Add", n("MatMul", y, n.weights(37, 19)), x), n("MatMul", n.input(1, 5), n.weights(5, 3)))


def batched_products(n: Net) -> None:
    a, b, c = n.input(2, 3, 5, 7), n.input(2, 3, 7, 9), n.input(3, 7, 9)
    n.output(n("MatMul", a, b), n("MatMul", a, c), n("MatMul", a, n.weights(2, 1, 7, 4)))


def attention(n: Net) -> None:
    x, mask = n.input(2, 21, 24), n.input(2, 1, 1, 21)
    shape, back, root = n.integers(0, 0, 3, 8), n.integers(0, 0, 24), n.constant(0.35)
    query, key, value = (
        n("Transpose", n("Reshape", n("MatMul", x, n.weights(24, 24)), shape), perm=[0, 2, 1, 3]) for _ in range(3)
    )
    causal = n.constant(np.triu(np.full((1, 1, 21, 21), -1e9), 1))
    for added in (None, mask, causal):
        scores = n("Mul", n("MatMul", query, n("Transpose", key, perm=[0, 1, 3, 2])), root)
        weights = n("Softmax", scores if added is None else n("Add", scores, added), axis=-1)
        n.output(n("Reshape", n("Transpose", n("MatMul", weights, value), perm=[0, 2, 1, 3]), back))


def convolutions(n: Net) -> None:
    x = n.input(2, 5, 13, 11)
    y = n("Relu", n.conv(x, 5, 8, 3, pads=[1, 1, 1, 1]))
    z = n.conv(y, 8, 14, 3, strides=[2, 2], pads=[1, 0, 1, 2])
    n.output(z, n("Add", n.conv(y, 8, 8, 1), y), n.conv(y, 8, 10, 1, strides=[2, 3]))
    n.output(n.conv(y, 8, 6, (3, 2), dilations=[2, 3], strides=[1, 2], pads=[2, 0, 0, 3]), n.conv(y, 8, 3, 3))


def winograd(n: Net) -> None:
    x = n.input(2, 16, 13, 11)
    y = n("Relu", n.conv(x, 16, 18, 3, pads=[1, 1, 1, 1]))
    n.output(n("Relu", n("Add", n.conv(y, 18, 16, 3, pads=[1, 1, 1, 1]), x)), n.conv(y, 18, 20, 3, pads=[0, 2, 1, 0]))


def grouped_convolutions(n: Net) -> None:
    x = n.input(1, 12, 9, 10)
    y = n("Clip", n.conv(x, 12, 12, 3, 12, pads=[1, 1, 1, 1]), n.constant(0.0), n.constant(6.0))
    n.output(
        n("Add", n.conv(y, 12, 24, 3, 3, strides=[2, 2]), n.constant(1.0)),
        n.conv(y, 12, 36, 1, 2),
        n("Add", n.conv(y, 12, 12, 1, 12), x),
    )


def other_convolutions(n: Net) -> None:
    line, image = n.input(2, 4, 17), n.input(1, 4, 5, 6)
    n.output(n.conv(line, 4, 6, (3,), strides=[2], pads=[1, 1]))
    n.output(
        n(
            "ConvTranspose",
            image,
            n.weights(4, 6, 3, 3),
            n.weights(6),
            strides=[2, 2],
            pads=[1, 0, 1, 1],
            output_padding=[1, 0],
        )
    )
    n.output(n("ConvTranspose", image, n.weights(4, 3, 2, 2), strides=[2, 2], group=2))


def volumes(n: Net) -> None:
    x = n.input(2, 4, 5, 7, 6)
    y = n("Relu", n.conv(x, 4, 8, (3, 3, 3), pads=[1] * 6))
    z = n.conv(y, 8, 6, (3, 2, 3), 2, strides=[2, 1, 2], dilations=[1, 2, 1], pads=[2, 0, 1, 0, 2, 0])
    n.output(z, n("Add", n.conv(y, 8, 8, (1, 1, 1)), y), n.conv(y, 8, 5, (2, 1, 1)), n.conv(y, 8, 8, (3, 3, 3), 8))
    n.output(n.conv(x, 4, 5, (1, 3, 3), strides=[2, 2, 2]), n.conv(x, 4, 3, (1, 1, 1), strides=[2, 1, 2]))
    n.output(
        n(
            "ConvTranspose",
            x,
            n.weights(4, 6, 3, 2, 3),
            n.weights(6),
            strides=[2, 1, 2],
            pads=[1, 0, 1, 0, 1, 1],
            output_padding=[1, 0, 0],
        )
    )
    n.output(n("MaxPool", x, kernel_shape=[3, 2, 3], strides=[2, 1, 2], pads=[1, 0, 1, 1, 1, 0]))
    for counts in (0, 1):
        n.output(
            n(
                "AveragePool",
                x,
                kernel_shape=[2, 3, 3],
                strides=[1, 2, 2],
                pads=[1, 0, 1, 0, 1, 1],
                count_include_pad=counts,
            )
        )


def pools(n: Net) -> None:
    x = n.input(2, 3, 11, 12)
    n.output(n("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
    n.output(n("MaxPool", x, kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1, dilations=[1, 2]))
    for counts in (0, 1):
        n.output(n("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 2, 1], count_include_pad=counts))
    n.output(n("GlobalAveragePool", x), n("LRN", x, size=3, alpha=0.3, beta=0.6, bias=1.5))


def chains(n: Net) -> None:
    x, y = n.input(2, 3, 40, 5), n.input(3, 1, 1)
    z = n("Mul", n("Sigmoid", n("Sub", x, y)), n("Tanh", n("Add", x, n.constant(0.5))))
    z = n("Div", n("Sqrt", n("Abs", z)), n("Exp", n("Neg", n("Mul", x, x))))
    n.output(z, n("Where", n("Greater", x, y), n("Pow", z, n.constant(2.0)), n("Erf", x)))


def functions(n: Net) -> None:
    x = n.input(3, 31)
    for name in ("Elu", "Selu", "LeakyRelu", "HardSigmoid", "HardSwish", "Softplus", "Softsign", "Mish"):
        x = n(name, n("Mul", x, n.constant(1.5)))
    y = n.input(3, 31)
    n.output(
        x, n("Sin", n("Floor", y)), n("Round", n("Cos", y)), n("Sign", y), n("Min", y, n("Ceil", y), n("Reciprocal", y))
    )


def integers(n: Net) -> None:
    a, b, c = n.input(3, 5, dtype=np.int64), n.input(5, dtype=np.int64), n.input(3, 5, dtype=np.int32)
    total = n("Add", n("Mul", a, b), n("Cast", c, to=7))
    n.output(
        total,
        n("Equal", a, b),
        n("Max", n("Relu", c), c),
        n("Where", n("Less", a, b), a, total),
        n("Mod", a, n.constant(3, np.int64)),
    )
    n.output(
        n("Cast", n("Cast", n.input(7), to=7), to=1),
        n("Not", n("Cast", c, to=9)),
        n("And", n("Equal", a, b), n("Less", b, a)),
    )


def norms(n: Net) -> None:
    x = n.input(2, 6, 5, 7)
    n.output(
        n("LayerNormalization", x, n.weights(7), n.weights(7), axis=-1),
        n("Softmax", x, axis=1),
        n("LogSoftmax", x, axis=-1),
    )
    n.output(n("Relu", n("InstanceNormalization", x, n.positive(6), n.weights(6))))


def reductions(n: Net) -> None:
    x = n.input(2, 6, 5, 7)
    n.output(n("ReduceMax", x, axes=[1]), n("ReduceMean", x, axes=[0, 2], keepdims=0), n("ReduceL2", x, axes=[2, 3]))
    n.output(n("ReduceSum", x, n.integers(3)), n("ReduceProd", x, axes=[1]), n("ReduceMin", x, keepdims=0))
    same = n("Round", x)
    n.output(n("ArgMax", same, axis=1), n("ArgMin", same, axis=-1, keepdims=0, select_last_index=1))
    n.output(n("GlobalMaxPool", x))


def movements(n: Net) -> None:
    x = n.input(2, 8, 5, 6)
    n.output(n("Transpose", x, perm=[0, 2, 3, 1]), n("Concat", x, n("Neg", x), axis=2))
    n.output(n("Slice", x, n.integers(1, 5), n.integers(9, -7), n.integers(1, 3), n.integers(3, -2)))
    n.output(
        *n.many(2, "Split", x, n.integers(3, 5), axis=1),
        n("Expand", n.input(5, 1), n.integers(2, 5, 3)),
        n("Tile", x, n.integers(1, 2, 1, 3)),
    )
    n.output(
        n("DepthToSpace", x, blocksize=2, mode="DCR"),
        n("DepthToSpace", x, blocksize=2, mode="CRD"),
        n("SpaceToDepth", n.input(1, 2, 4, 6), blocksize=2),
    )
    shuffled = n("Transpose", n("Reshape", x, n.integers(2, 2, 4, 5, 6)), perm=[0, 2, 1, 3, 4])
    n.output(n("Reshape", shuffled, n.integers(2, 8, 5, 6)), n("Reshape", x, n.integers(-1)))


def borders(n: Net) -> None:
    x, more, all_axes = n.input(2, 3, 5, 6), n.integers(0, 0, 1, 2, 0, 0, 3, 4), n.integers(1, 2, 0, 1, 0, 1, 2, 1)
    n.output(n("Pad", x, more, n.constant(1.5)), n("Pad", x, more, mode="edge"), n("Pad", x, more, mode="reflect"))
    n.output(n("Pad", x, all_axes, n.constant(-1.0)), n("Pad", x, all_axes, mode="edge"))
    n.output(n("Pad", x, n.integers(0, 1, 0, 0, 0, 2, 0, 0), mode="reflect"), n("Pad", n.input(4), n.integers(1, 2)))


def gathers(n: Net) -> None:
    table, x = n.weights(9, 4), n.input(2, 3, 5)
    n.output(
        n("Gather", table, n.constant([[1, -1], [8, 0]], np.int64)),
        n("Gather", x, n("Cast", n.input(2, 2, dtype=np.bool_), to=6), axis=1),
    )
    n.output(n("GatherElements", x, n.constant(np.arange(20).reshape(2, 2, 5) % 3, np.int64), axis=1))


def images(n: Net) -> None:
    x = n.input(1, 2, 5, 7)
    n.output(
        n(
            "Resize",
            x,
            "",
            n.constant([1, 1, 2, 2]),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    )
    n.output(
        n("Resize", x, "", "", n.integers(1, 2, 11, 4), mode="linear"),
        n("Resize", x, "", "", n.integers(1, 2, 9, 9), mode="cubic"),
    )


def recurrent(n: Net) -> None:
    x = n.input(4, 2, 6)
    lstm = [n.weights(2, 20, 6), n.weights(2, 20, 5), n.weights(2, 40)]
    n.output(
        *n.many(
            3, "LSTM", x, *lstm, "", n.weights(2, 2, 5), n.weights(2, 2, 5), hidden_size=5, direction="bidirectional"
        )
    )
    gru = [n.weights(1, 15, 6), n.weights(1, 15, 5), n.weights(1, 30)]
    n.output(*n.many(2, "GRU", x, *gru, hidden_size=5, direction="reverse", linear_before_reset=1))


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        products, batched_products, attention, convolutions, winograd, grouped_convolutions, other_convolutions,
        volumes, pools, chains, functions, integers, norms, reductions, movements, borders, gathers, images, recurrent,
    )
}  # fmt: skip


def model(name: str) -> onnx.ModelProto:
    """The model of a case."""
    n = Net(18 if name == "functions" else 17)
    CASES[name](n)
    return n.model()
