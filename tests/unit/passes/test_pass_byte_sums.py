"""Products of bytes that end as bytes become ByteSums; others stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.graphs import Builder, attributes_of, kinds, optimise

from cpuruntime.graph import Value

NAME = "byte_sums"


def matrix(b: Builder, *shape: int, most: int = 4000) -> Value:
    return b.constant(b.random.integers(-1000, most, shape), np.int32)


def to_bytes(b: Builder, x: Value, half: int = 2048, low: int = 0) -> Value:
    number = [b.constant(n, np.int32) for n in (half, 4096, low, 255)]
    return b("Clip", b("Div", b("Add", x, number[0]), number[1]), *number[2:])


def resized(b: Builder, x: Value, rows: bool = True, most: int = 4000, **numbers: int) -> Value:
    x = to_bytes(b, b("MatMul", b("Cast", x, to=6), matrix(b, 9, 4, most=most)), **numbers)
    x = to_bytes(b, b("MatMul", matrix(b, 3, 6), x)) if rows else x
    return b("Cast", x, to=2)


@pytest.mark.parametrize("shape", [(6, 9), (2, 3, 6, 9)])
def test_one_along_each_axis(shape: tuple[int, ...]) -> None:
    b = Builder(opset=18)
    graph = b.graph(resized(b, b.input(*shape, dtype=np.uint8)))
    after = optimise(graph, NAME)
    assert kinds(after) == ["+ByteSums"] * 2
    assert [node.attributes for node in after.nodes] == [{"axis": len(shape) - 1 - n, "bits": 12} for n in (0, 1)]
    assert sorted(origin for node in after.nodes for origin in node.origins) == sorted(n.name for n in graph.nodes)


def test_a_transposition_moves_behind() -> None:
    b = Builder(opset=18)
    planes = b("Transpose", b.input(1, 6, 9, 3, dtype=np.uint8), perm=[0, 3, 1, 2])
    after = optimise(b.graph(resized(b, planes)), NAME)
    assert kinds(after) == ["+ByteSums", "+ByteSums", "Transpose"]
    assert attributes_of(after, "Transpose", "perm") == [[0, 3, 1, 2]]
    assert [node.attributes["axis"] for node in after.nodes[:2]] == [2, 1]


@pytest.mark.parametrize("change", [{"half": 2047}, {"low": 1}, {"most": 1 << 21}])
def test_others_stay(change: dict[str, Any]) -> None:
    b = Builder(opset=18)
    after = optimise(b.graph(resized(b, b.input(6, 9, dtype=np.uint8), rows=False, **change)), NAME)
    assert "+ByteSums" not in kinds(after)


def test_what_is_read_elsewhere_stays() -> None:
    b = Builder(opset=18)
    x = b("Cast", b.input(6, 9, dtype=np.uint8), to=6)
    product = b("MatMul", x, matrix(b, 9, 4))
    after = optimise(b.graph(b("Cast", to_bytes(b, product), to=2), product), NAME)
    assert "+ByteSums" not in kinds(after)
