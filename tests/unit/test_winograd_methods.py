"""The matrices of Winograd's method compute convolutions, exactly in rational numbers."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from cpuruntime.ops.winograd_methods import Algorithm, Method, matrices

ALGORITHMS = [
    (2, 2, 1), (2, 3, 1), (3, 3, 1), (4, 3, 1), (2, 5, 1), (3, 7, 1), (2, 3, 2), (3, 3, 2), (4, 3, 2), (2, 5, 2),
    (3, 3, 3), (1, 1, 1), (4, 1, 1), (1, 5, 1), (3, 1, 2),
]  # fmt: skip


def product(matrix: list[list[Fraction]], vector: list[Fraction]) -> list[Fraction]:
    return [sum((m * v for m, v in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


@pytest.mark.parametrize(("outputs", "taps", "stride"), ALGORITHMS)
def test_an_algorithm_is_a_convolution(outputs: int, taps: int, stride: int) -> None:
    algorithm = Algorithm(outputs, taps, stride)
    generator = random.Random(0)
    pixels, weights = ([Fraction(generator.randint(-99, 99)) for _ in range(n)] for n in (algorithm.inputs, taps))
    transform, of_weights, output = matrices(algorithm)
    products = [a * b for a, b in zip(product(transform, pixels), product(of_weights, weights), strict=True)]
    expected = [sum(pixels[i * stride + k] * weights[k] for k in range(taps)) for i in range(outputs)]
    assert product(output, products) == expected


@pytest.mark.parametrize(
    ("outputs", "taps", "stride", "products"),
    [(4, 3, 1, 6), (2, 3, 1, 4), (2, 5, 1, 6), (3, 3, 2, 7), (2, 3, 2, 5), (3, 7, 1, 11), (4, 1, 1, 4), (1, 3, 1, 3)],
)
def test_products_are_few(outputs: int, taps: int, stride: int, products: int) -> None:
    assert Algorithm(outputs, taps, stride).products == products


def test_a_method_counts_both_axes() -> None:
    method = Method(Algorithm(4, 3), Algorithm(1, 1))
    assert (method.products, method.outputs, method.multiplications) == (6, 4, 12)
    assert str(method) == "F(4x1, 3x1)"
    assert str(Method(*[Algorithm(3, 3, 2)] * 2)) == "F(3x3, 3x3) stride 2x2"
