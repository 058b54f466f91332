"""Operators that are compositions of simpler ones: each computes what ONNX Runtime does, by kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.judge import Net, compare

EQUATIONS = {
    "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)],
    "ij,kj->ik": [(3, 4), (5, 4)],
    "bhqd,bhkd->bhqk": [(2, 3, 5, 8), (2, 3, 7, 8)],
    "bqhd,bkhd->bhqk": [(2, 5, 3, 8), (2, 7, 3, 8)],
    "bhqk,bkhd->bqhd": [(2, 3, 5, 7), (2, 7, 3, 8)],
    "nchw,cd->ndhw": [(2, 3, 4, 5), (3, 6)],
    "i,j->ij": [(3,), (4,)],
    "ij,ij->": [(3, 4), (3, 4)],
    "i,i": [(6,), (6,)],
    "ijk->kj": [(3, 4, 5)],
    "ij->": [(3, 4)],
    "abc,cd->abd": [(2, 3, 4), (4, 5)],
    "...ij,...jk->...ik": [(2, 3, 4, 5), (2, 3, 5, 6)],
    "...ij,jk->...ik": [(2, 3, 4, 5), (5, 6)],
    "b i d , b j d -> b i j": [(2, 4, 3), (2, 5, 3)],
    "ik,kj": [(3, 4), (4, 5)],
    "bij,bi->bij": [(2, 3, 4), (2, 3)],
    "abcd,aef->abcdf": [(2, 3, 4, 5), (2, 6, 7)],
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(equation: str) -> None:
    n = Net()
    n.output(n("Einsum", *(n.input(*shape) for shape in EQUATIONS[equation]), equation=equation))
    compare(n.model())


def test_attention_by_einsum_is_recognised() -> None:
    n = Net()
    x = n.input(2, 16, 48)
    q, k, v = (n("Reshape", n("MatMul", x, n.weights(48, 48)), n.integers(2, 16, 4, 12)) for _ in range(3))
    scores = n("Mul", n("Einsum", q, k, equation="bqhd,bkhd->bhqk"), n.constant(12**-0.5))
    n.output(n("Einsum", n("Softmax", scores, axis=-1), v, equation="bhqk,bkhd->bqhd"))
    compiled = compare(n.model())
    assert "Attention" in {row.op_type for row in compiled.explain().rows}


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [-1, 1])
def test_lp_normalisation(p: int, axis: int) -> None:
    n = Net()
    x = n.input(3, 20, 7)
    n.output(n("LpNormalization", n("Mul", x, n.constant(np.arange(3).reshape(3, 1, 1))), p=p, axis=axis))
    compare(n.model())


def test_mean_variance_normalisation() -> None:
    n = Net()
    x = n.input(2, 5, 8, 6)
    n.output(n("MeanVarianceNormalization", x), n("MeanVarianceNormalization", x, axes=[1, -1]))
    compare(n.model())


@pytest.mark.parametrize("signs", [{}, {"detect_negative": 0}, {"detect_positive": 0}])
def test_is_infinite(signs: dict[str, int]) -> None:
    n = Net()
    n.output(n("IsInf", n.input(5, 8), **signs))
    special = np.array([np.inf, -np.inf, np.nan, 1, 3e38, -3e38, 0, -1], np.float32)
    compare(n.model(), {"x0": np.tile(special, (5, 1))})


@pytest.mark.parametrize(("opset", "axis"), [(13, 0), (13, 1), (13, -1), (11, 2)])
def test_hardmax(opset: int, axis: int) -> None:
    n = Net(opset=opset)
    n.output(n("Hardmax", n("Round", n.input(4, 5, 6)), axis=axis))
    compare(n.model())


def test_powers_with_exponents_of_integers() -> None:
    n = Net()
    x, y = n.input(3, 8), n.input(8, dtype=np.int64)
    n.output(n("Pow", x, n.constant(2, np.int64)), n("Pow", x, n.constant([3], np.int32)), n("Pow", x, y))
    compare(n.model())


def test_clip_of_integers_and_by_computed_bounds() -> None:
    n = Net()
    x, y, low = n.input(30, dtype=np.int64), n.input(30), n.input()
    n.output(n("Clip", x, n.constant(-1, np.int64), n.constant(1, np.int64)), n("Clip", x, "", n.constant(0, np.int64)))
    n.output(n("Clip", y, low), n("Clip", y, low, n("Abs", low)))
    compare(n.model())


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"])
def test_reductions_over_scattered_axes(op: str, keepdims: int) -> None:
    n = Net()
    x = n.input(3, 2, 3, 4, 3, 5)
    axes: Any = [0, 2, -2]
    if op == "ReduceSum":
        n.output(n(op, x, n.integers(*axes), keepdims=keepdims))
    else:
        n.output(n(op, x, axes=axes, keepdims=keepdims))
    compare(n.model())


def test_normalisation_of_volumes() -> None:
    n = Net(opset=21)
    x = n.input(2, 6, 3, 4, 5)
    n.output(n("InstanceNormalization", x, n.positive(6), n.weights(6)))
    n.output(n("GroupNormalization", x, n.positive(6), n.weights(6), num_groups=3))
    compare(n.model())


def test_casts_to_the_type_of_another() -> None:
    n = Net()
    x, whole = n.input(3, 4), n.input(2, dtype=np.int64)
    n.output(n("CastLike", x, whole), n("CastLike", whole, x))
    compare(n.model())
