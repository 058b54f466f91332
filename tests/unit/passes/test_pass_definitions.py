"""Operators become what ONNX defines them by."""

from __future__ import annotations

import numpy as np
from support.graphs import Builder, kinds, optimise

from cpuruntime.graph import Type

NAME = "definitions"


def test_attention_is_products_around_a_softmax() -> None:
    b = Builder(23)
    query, key = b.input(1, 2, 5, 8), b.input(1, 2, 7, 8)
    after = optimise(b.graph(b("Attention", query, key, key)), NAME)
    names = kinds(after)
    assert "Attention" not in names
    assert names.index("MatMul") < names.index("Softmax") < len(names) - 1 - names[::-1].index("MatMul")
    assert after.outputs[0].shape == (1, 2, 5, 8)
    assert all(node.origins == ["n0"] for node in after.nodes)


def test_a_function_of_float64_but_not_of_float32() -> None:
    for dtype, names in ((np.float32, ["Softplus"]), (np.float64, ["Exp", "CastLike", "Add", "Log"])):
        b = Builder()
        assert kinds(optimise(b.graph(b("Softplus", b.input(3, dtype=dtype))), NAME)) == names


def test_half_types_are_widened_once_between_operators() -> None:
    b = Builder()
    x = b.input(3, dtype=np.float16)
    after = optimise(b.graph(b("Exp", b("Neg", x))), "half_types")
    assert kinds(after) == ["Cast", "Neg", "Exp", "Cast"]
    assert after.outputs[0].element_type is Type.f16


def test_what_moves_half_types_stays() -> None:
    b = Builder()
    after = optimise(b.graph(b("Transpose", b.input(3, 4, dtype=np.float16))), "half_types")
    assert kinds(after) == ["Transpose"]
