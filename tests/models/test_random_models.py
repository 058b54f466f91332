"""Random graphs of small tensors: chains and branches of all operator families, judged by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import pytest
from support.judge import Net, compare

Shape = tuple[int, ...]
Pair = tuple[str, Shape]

UNARY = ["Relu", "Sigmoid", "Tanh", "Abs", "Neg", "LeakyRelu", "HardSwish", "HardSigmoid", "Softplus", "Elu", "Floor"]
BINARY = ["Add", "Sub", "Mul", "Max", "Min"]


class RandomNet:
    """Grows a graph value by value; each method takes one of the values there are, and may decline it."""

    def __init__(self, seed: int) -> None:
        self.net = Net(seed=seed)
        self.chance = np.random.default_rng([seed, 1])
        rank = self.pick([2, 3, 4, 4, 4])
        batch, channels = self.pick([1, 1, 2, 3]), self.pick([1, 3, 4, 8, 16, 17, 32])
        shape = (batch, channels, *(int(n) for n in self.chance.integers(1, 14, rank - 2)))
        self.values: list[Pair] = [(self.net.input(*shape), shape)]
        self.unread = {self.values[0][0]}
        operations: list[Callable[[str, Shape], None]] = [
            self.convolution, self.convolution, self.convolution, self.pool, self.global_pool, self.unary,
            self.with_constant, self.with_another, self.concat, self.reduction, self.reshape, self.transpose,
            self.softmax, self.slice, self.product, self.norm, self.split, self.excitation,
        ]  # fmt: skip
        for _ in range(self.pick([4, 7, 10, 14])):
            # The newest values are the likeliest, so that chains get long.
            newest = min(int(self.chance.geometric(0.4)), len(self.values))
            self.pick(operations)(*self.values[-newest])

    def pick(self, options: list) -> object:
        return options[int(self.chance.integers(len(options)))]

    def add(self, shape: Shape, op_type: str, *inputs: str, **attributes: object) -> str:
        (name,) = self.added([shape], op_type, *inputs, **attributes)
        return name

    def added(self, shapes: list[Shape], op_type: str, *inputs: str, **attributes: object) -> list[str]:
        names = self.net.many(len(shapes), op_type, *inputs, **attributes)
        self.unread.difference_update(inputs)
        for name, shape in zip(names, shapes):
            self.values.append((name, shape))
            self.unread.add(name)
        return names

    def window(self, spatial: Shape, dilated: bool) -> tuple[list[int], list[int], list[int], list[int], Shape]:
        """Kernel, strides, dilations, pads and resulting extents of a sliding window that fits."""
        kernel, strides, dilations, before, after, extents = ([] for _ in range(6))
        for size in spatial:
            k = int(self.chance.integers(1, 5))
            pad = int(self.chance.integers(0, k)), int(self.chance.integers(0, k))
            d = self.pick([1, 1, 1, 2, 3]) if dilated else 1
            if (k - 1) * d + 1 > size + sum(pad):
                k = d = 1
                pad = (0, 0)
            s = self.pick([1, 1, 2])
            for column, number in zip((kernel, strides, dilations, before, after), (k, s, d, *pad)):
                column.append(number)
            extents.append((size + sum(pad) - (k - 1) * d - 1) // s + 1)
        return kernel, strides, dilations, before + after, tuple(extents)

    def convolution(self, x: str, shape: Shape) -> None:
        if len(shape) < 3:
            return
        channels = shape[1]
        out = self.pick([channels, 1, 5, 16, 20, 32, 48])
        common = [g for g in (1, 2, 4, 8, channels) if channels % g == 0 and out % g == 0]
        group = self.pick([1, self.pick(common)])
        kernel, strides, dilations, pads, extents = self.window(shape[2:], True)
        inputs = [x, self.net.weights(out, channels // group, *kernel)] + [self.net.weights(out)] * self.pick([0, 1])
        options = dict(strides=strides, dilations=dilations, pads=pads, group=group)
        self.add((shape[0], out, *extents), "Conv", *inputs, **options)

    def pool(self, x: str, shape: Shape) -> None:
        if len(shape) < 3:
            return
        kernel, strides, _, pads, extents = self.window(shape[2:], False)
        options = dict(kernel_shape=kernel, strides=strides, pads=pads)
        self.add((*shape[:2], *extents), self.pick(["MaxPool", "AveragePool"]), x, **options)

    def global_pool(self, x: str, shape: Shape) -> None:
        if len(shape) > 2 and self.pick([True, False]):
            self.add(shape[:2] + (1,) * (len(shape) - 2), "GlobalAveragePool", x)

    def unary(self, x: str, shape: Shape) -> None:
        self.add(shape, self.pick(UNARY), x)

    def with_constant(self, x: str, shape: Shape) -> None:
        """A binary operator with a constant of some of the dimensions."""
        other = [self.pick([extent, 1]) for extent in shape][self.pick([0, 0, 1, len(shape)]) :]
        inputs = [x, self.net.positive(*other)]
        self.add(shape, self.pick(BINARY), *(inputs if self.pick([True, False]) else inputs[::-1]))

    def with_another(self, x: str, shape: Shape) -> None:
        """A binary operator with a value that broadcasts to it."""
        fitting = [v for v, s in self.values if len(s) == len(shape) and all(a in (1, b) for a, b in zip(s, shape))]
        inputs = [x, self.pick(fitting)]
        self.add(shape, self.pick(BINARY), *(inputs if self.pick([True, False]) else inputs[::-1]))

    def concat(self, x: str, shape: Shape) -> None:
        axis = self.pick([1, 1, len(shape) - 1])
        rest = [(len(s), *s[:axis], *s[axis + 1 :]) for _, s in self.values]
        fitting = [pair for pair, r in zip(self.values, rest) if r == (len(shape), *shape[:axis], *shape[axis + 1 :])]
        parts = [(x, shape), *(self.pick(fitting) for _ in range(self.pick([1, 2])))]
        extent = sum(s[axis] for _, s in parts)
        self.add((*shape[:axis], extent, *shape[axis + 1 :]), "Concat", *(v for v, _ in parts), axis=axis)

    def reduction(self, x: str, shape: Shape) -> None:
        axis = self.pick(list(range(1, len(shape))))
        kept = (*shape[:axis], 1, *shape[axis + 1 :])
        self.add(kept, self.pick(["ReduceMean", "ReduceMax"]), x, axes=[axis], keepdims=1)

    def reshape(self, x: str, shape: Shape) -> None:
        shapes = [(shape[0], prod(shape[1:])), (*shape, 1), (1, *shape)]
        if len(shape) == 4:
            shapes += [(*shape[:2], shape[2] * shape[3]), (shape[0], shape[2], shape[1], shape[3])]
        new = self.pick([s for s in shapes if len(s) <= 4])
        self.add(new, "Reshape", x, self.net.integers(*new))

    def transpose(self, x: str, shape: Shape) -> None:
        order = [int(axis) for axis in self.chance.permutation(len(shape))]
        self.add(tuple(shape[axis] for axis in order), "Transpose", x, perm=order)

    def softmax(self, x: str, shape: Shape) -> None:
        self.add(shape, "Softmax", x, axis=self.pick([1, -1]))

    def slice(self, x: str, shape: Shape) -> None:
        axis = self.pick(list(range(len(shape))))
        start = int(self.chance.integers(0, shape[axis]))
        inputs = [self.net.integers(n) for n in (start, shape[axis], axis)]
        self.add((*shape[:axis], shape[axis] - start, *shape[axis + 1 :]), "Slice", x, *inputs)

    def product(self, x: str, shape: Shape) -> None:
        columns = self.pick([1, 7, 16, 33])
        w = self.net.weights(shape[-1], columns)
        if len(shape) == 2 and self.pick([True, False]):
            self.add((shape[0], columns), "Gemm", x, w, self.net.weights(columns))
        else:
            self.add((*shape[:-1], columns), "MatMul", x, w)

    def norm(self, x: str, shape: Shape) -> None:
        c = shape[1]
        parameters = self.net.positive(c), self.net.weights(c), self.net.weights(c), self.net.positive(c)
        self.add(shape, "BatchNormalization", x, *parameters)

    def split(self, x: str, shape: Shape) -> None:
        axis = self.pick(list(range(len(shape))))
        if shape[axis] > 1:
            first = int(self.chance.integers(1, shape[axis]))
            shapes = [(*shape[:axis], n, *shape[axis + 1 :]) for n in (first, shape[axis] - first)]
            self.added(shapes, "Split", x, self.net.integers(first, shape[axis] - first), axis=axis)

    def excitation(self, x: str, shape: Shape) -> None:
        """x * sigmoid(conv(mean of x))."""
        if len(shape) < 3:
            return
        ones = (1,) * (len(shape) - 2)
        pooled = self.add((*shape[:2], *ones), "GlobalAveragePool", x)
        scores = self.add((*shape[:2], *ones), "Conv", pooled, self.net.weights(shape[1], shape[1], *ones))
        self.add(shape, "Mul", x, self.add((*shape[:2], *ones), "Sigmoid", scores))


@pytest.mark.parametrize("seed", range(80))
def test_random_graph(seed: int) -> None:
    random = RandomNet(seed)
    others = [name for name, _ in random.values[1:-1] if name not in random.unread]
    random.net.output(*sorted(random.unread, key=[name for name, _ in random.values].index), *others[::3])
    compare(random.net.model(), tolerance=3e-5)
