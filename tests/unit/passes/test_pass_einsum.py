"""Einsum becomes transposes, sums and a matrix product; equations that are none of these stay."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import Builder, kinds, node_of, optimise

NAME = "einsum"


@pytest.mark.parametrize(
    ("equation", "shapes", "product"),
    [
        ("bhqd,bhkd->bhqk", [(2, 3, 5, 8), (2, 3, 7, 8)], (2, 3, 5, 7)),
        ("bhqk,bkhd->bqhd", [(2, 3, 5, 7), (2, 7, 3, 8)], (2, 3, 5, 8)),
        ("...i,ij", [(2, 3, 4), (4, 5)], (6, 5)),
        ("abi,bcj->ac", [(2, 3, 4), (3, 5, 6)], (2, 5)),
        ("ij,ij->", [(3, 4), (3, 4)], (1, 1)),
        ("bi,bj->bij", [(2, 3), (2, 1)], (2, 3, 1)),
        ("ik,kj->ij", [(3, 1), (4, 5)], (3, 5)),
    ],
)
def test_two_inputs_meet_in_one_product(
    equation: str, shapes: list[tuple[int, ...]], product: tuple[int, ...]
) -> None:
    b = Builder()
    graph = optimise(b.graph(b("Einsum", *(b.input(*shape) for shape in shapes), equation=equation)), NAME)
    assert node_of(graph, "MatMul").outputs[0].shape == product
    assert set(kinds(graph)) <= {"MatMul", "Transpose", "Reshape", "ReduceSum", "Expand"}


def test_one_input_is_summed_and_transposed() -> None:
    b = Builder()
    assert kinds(optimise(b.graph(b("Einsum", b.input(3, 4, 5), equation="ijk->ki")), NAME)) == [
        "ReduceSum", "Transpose"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("equation", "count", "products"),
    [("ii->i", 1, 0), ("ij,jk,kl->il", 3, 2), ("ii,ij->j", 2, 1), ("ij,ji,ik->", 3, 2), ("ij,jk,li,kl->", 4, 3)],
)
def test_diagonals_and_chains_of_products(equation: str, count: int, products: int) -> None:
    b = Builder()
    graph = optimise(b.graph(b("Einsum", *(b.input(4, 4) for _ in range(count)), equation=equation)), NAME)
    assert kinds(graph).count("MatMul") == products
    assert "Einsum" not in kinds(graph)


def test_integers() -> None:
    b = Builder()
    x, y = b.input(3, 4, dtype=np.int64), b.input(4, 2, dtype=np.int64)
    assert "MatMul" in kinds(optimise(b.graph(b("Einsum", x, y, equation="ij,jk->ki")), NAME))
