"""Gathering and scattering by indices, the best elements, running sums: each computes what ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.judge import Net, compare

import cpuruntime as ov
from cpuruntime.errors import InvalidArgumentError, ModelError

INDEX_TYPES = (np.int32, np.int64)


def indices(shape: tuple[int, ...], extent: int, dtype: Any = np.int64, seed: int = 0) -> np.ndarray:
    """Valid indices, half of them negative."""
    return np.random.default_rng(seed).integers(-extent, extent, shape).astype(dtype)


def numbers(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    return (10 * np.random.default_rng(1).standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", INDEX_TYPES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements(dtype: Any, axis: int) -> None:
    n = Net()
    x, where = n.input(5, 6, 7), n.input(4, 3, 2, dtype=dtype)
    n.output(n("GatherElements", x, where, axis=axis))
    feeds = {"x0": numbers((5, 6, 7)), "x1": indices((4, 3, 2), (5, 6, 7)[axis], dtype)}
    compare(n.model(), feeds, config={"INFERENCE_NUM_THREADS": 2})


@pytest.mark.parametrize("data", [np.int64, np.float64, np.bool_, np.float16])
def test_gather_elements_of_other_types(data: Any) -> None:
    n = Net()
    n.output(n("GatherElements", n.input(3, 5, dtype=data), n.input(3, 9, dtype=np.int64), axis=1))
    compare(n.model(), {"x0": numbers((3, 5), data), "x1": indices((3, 9), 5)})


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_scatter_elements(reduction: str, dtype: Any) -> None:
    n = Net(opset=18)
    x, where, updates = n.input(4, 6, 3, dtype=dtype), n.input(3, 6, 2, dtype=np.int64), n.input(3, 6, 2, dtype=dtype)
    n.output(n("ScatterElements", x, where, updates, axis=1, reduction=reduction))
    # ONNX Runtime's result for one place named twice is the last update's, too.
    feeds = {"x0": numbers((4, 6, 3), dtype), "x1": indices((3, 6, 2), 6), "x2": numbers((3, 6, 2), dtype)[::-1].copy()}
    compare(n.model(), feeds, config={"INFERENCE_NUM_THREADS": 2})


def test_scatter_of_an_old_model() -> None:
    n = Net(opset=10)
    n.output(n("Scatter", n.input(4, 5), n.constant([[1, 0, 2], [0, 2, 1]], np.int64), n.input(2, 3)))
    compare(n.model())


@pytest.mark.parametrize(
    ("data", "where", "lead"),
    [
        ((5, 6, 7), (4, 3), 0),
        ((5, 6, 7), (4, 2, 2), 0),
        ((5, 6, 7), (3, 1), 0),
        ((2, 6, 7), (2, 4, 1), 1),
        ((2, 3, 7, 4), (2, 3, 5, 2), 2),
        ((9,), (3, 1), 0),
    ],
)
def test_gather_nd(data: tuple[int, ...], where: tuple[int, ...], lead: int) -> None:
    n = Net()
    tuples = np.stack([indices(where[:-1], data[lead + axis], seed=axis) for axis in range(where[-1])], axis=-1)
    n.output(n("GatherND", n.input(*data), n.input(*where, dtype=np.int64), batch_dims=lead))
    compare(n.model(), {"x0": numbers(data), "x1": tuples})


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize(("data", "where"), [((5, 6, 7), (4, 2)), ((5, 6), (3, 2, 2)), ((8, 40), (6, 1))])
def test_scatter_nd(reduction: str, data: tuple[int, ...], where: tuple[int, ...]) -> None:
    n = Net(opset=18)
    shape = (*where[:-1], *data[where[-1] :])
    tuples = np.stack([indices(where[:-1], data[axis], seed=axis) for axis in range(where[-1])], axis=-1)
    x, places, updates = n.input(*data), n.input(*where, dtype=np.int64), n.input(*shape)
    n.output(n("ScatterND", x, places, updates, reduction=reduction))
    if reduction == "none":  # the order of updates to one place is not defined
        tuples = np.stack(np.unravel_index(np.arange(np.prod(where[:-1])), data[: where[-1]]), -1).reshape(where)
    compare(n.model(), {"x0": numbers(data), "x1": tuples, "x2": numbers(shape)})


def out_of_range(op: str) -> tuple[Net, dict[str, np.ndarray], str]:
    n = Net(opset=18)
    x = n.input(4, 5)
    feeds = {"x0": numbers((4, 5))}
    if op == "GatherND":
        n.output(n(op, x, n.input(3, 2, dtype=np.int64)))
        return n, feeds | {"x1": np.array([[0, 0], [3, 5], [1, 1]])}, "between -4 and 3, -5 and 4"
    if op == "ScatterND":
        n.output(n(op, x, n.input(2, 1, dtype=np.int64), n.input(2, 5)))
        return n, feeds | {"x1": np.array([[-5], [1]]), "x2": numbers((2, 5))}, "between -4 and 3"
    where = n.input(2, 2, dtype=np.int64)
    n.output(n(op, x, where, n.input(2, 2), axis=1) if op == "ScatterElements" else n(op, x, where, axis=1))
    feeds |= {"x1": np.array([[0, 1], [2, 1 << 40]])}
    return n, feeds | ({"x2": numbers((2, 2))} if op == "ScatterElements" else {}), "between -5 and 4"


@pytest.mark.parametrize("op", ["GatherElements", "GatherND", "ScatterElements", "ScatterND"])
def test_indices_out_of_range_are_errors(op: str) -> None:
    n, feeds, rule = out_of_range(op)
    compiled = ov.Core().compile_model(n.model(), "CPU")
    assert not compiled.explain().fallbacks
    with pytest.raises(InvalidArgumentError, match=rf"{op} 'n0_{op}' .*'x1' is out of range; .*{rule}"):
        compiled(feeds)
    compiled(feeds | {"x1": np.zeros_like(feeds["x1"])})


def test_shapes_that_do_not_fit_are_errors() -> None:
    n = Net()
    n.output(n("GatherElements", n.input(4, 5), n.input(6, 2, dtype=np.int64), axis=1))
    with pytest.raises(ModelError, match=r"extent 6 .* > extent 4"):
        ov.Core().compile_model(n.model(), "CPU")


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(
    ("shape", "axis", "k"), [((3, 100), 1, 7), ((40, 5, 3), 0, 40), ((2, 30, 4), 1, 1), ((9,), 0, 9)]
)
def test_top_k(shape: tuple[int, ...], axis: int, k: int, largest: int) -> None:
    """With many equal elements."""
    n = Net()
    for dtype in (np.float32, np.int64, np.int32):
        n.output(*n.many(2, "TopK", n.input(*shape, dtype=dtype), n.integers(k), axis=axis, largest=largest))
    feeds = {f"x{i}": numbers(shape, dtype).round(-1) for i, dtype in enumerate((np.float32, np.int64, np.int32))}
    compare(n.model(), feeds, config={"INFERENCE_NUM_THREADS": 2})


def test_top_k_of_half_the_results() -> None:
    n = Net()
    x = n.input(4, 50)
    both = n.many(2, "TopK", x, n.integers(5))
    n.output(n.many(2, "TopK", x, n.integers(3), largest=0)[1], both[0])
    compare(n.model())


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_running_sums(dtype: Any) -> None:
    n = Net()
    x = n.input(3, 17, 5, dtype=dtype)
    for axis in (0, 1, -1):
        for exclusive, reverse in ((0, 0), (0, 1), (1, 0), (1, 1)):
            n.output(n("CumSum", x, n.constant(axis, np.int64), exclusive=exclusive, reverse=reverse))
    compare(n.model(), config={"INFERENCE_NUM_THREADS": 2})


def test_positions_from_a_mask() -> None:
    """As transformers number the tokens that are not padding."""
    n = Net()
    mask = n("Cast", n.input(2, 20, dtype=np.bool_), to=7)
    n.output(n("Add", n("Mul", n("CumSum", mask, n.constant(1, np.int64)), mask), n.constant(1, np.int64)))
    compare(n.model())


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, -9, -2, 0, 1, 9])
def test_triangles(upper: int, k: int | None) -> None:
    n = Net()
    for dtype in (np.float32, np.int64, np.bool_):
        x = n.input(2, 5, 7, dtype=dtype)
        n.output(n("Trilu", x, *([] if k is None else [n.constant(k, np.int64)]), upper=upper))
    compare(n.model())


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(axis: int) -> None:
    n = Net()
    for dtype, values in ((np.int64, np.int64), (np.int32, np.float32)):
        x = n.input(4, 3, dtype=dtype)
        n.output(n("OneHot", x, n.constant(6, dtype), n.constant([-1, 3], values), axis=axis))
    places = np.array([[0, 5, -1], [-6, 6, 7], [-7, 2, 3], [1, 1, 1]])
    compare(n.model(), {"x0": places, "x1": places.astype(np.int32)})
