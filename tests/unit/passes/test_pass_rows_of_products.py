"""Products between reshapes of their rows."""

from __future__ import annotations

import pytest
from support.graphs import Builder, kinds, optimise

from cpuruntime.graph import Value


def product(b: Builder, x: Value, *shape: int) -> Value:
    y = b("Gemm", b("Reshape", x, b.integers(-1, 8)), b.weights(8, 5), b.weights(5))
    return b("Reshape", y, b.integers(*shape))


def test_residual_and_activation_are_fused_across_the_reshapes() -> None:
    b = Builder()
    x, other = b.input(2, 3, 8), b.input(2, 3, 5)
    after = optimise(b.graph(b("Add", product(b, x, 2, 3, 5), other), b("Relu", product(b, x, 2, 3, 5))))
    assert sorted(kinds(after)) == ["+FullyConnected+residual", "+FullyConnected>Relu"]


@pytest.mark.parametrize("shape", [(3, 2, 5), (1, 6, 5)])
def test_rows_in_another_order_need_one_reshape(shape: tuple[int, ...]) -> None:
    b = Builder()
    assert kinds(optimise(b.graph(product(b, b.input(2, 3, 8), *shape)))) == ["+FullyConnected", "+Reshape"]


def test_rows_that_are_made_by_the_reshape_stay() -> None:
    b = Builder()
    y = b("Relu", product(b, b.input(3, 4, 4), 6, 5))
    assert kinds(optimise(b.graph(y))) == ["+Reshape", "+FullyConnected>Relu"]


def test_an_activation_after_the_product_stays_fused() -> None:
    b = Builder()
    y = b("Gemm", b("Reshape", b.input(2, 3, 8), b.integers(-1, 8)), b.weights(8, 5))
    after = optimise(b.graph(b("Reshape", b("Relu", y), b.integers(2, 3, 5))))
    assert kinds(after) == ["+Reshape", "+FullyConnected>Relu", "+Reshape"]
