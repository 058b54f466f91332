"""Gather, scatter, top k, cumulative sums, triangles and sampling in guarded memory, for any number of threads"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.programs import NodeProgram, random_array, same_for_threads

from cpuruntime.graph import Node, Type, Value


def program(
    op_type: str, inputs: list[np.ndarray | Value], outputs: list[tuple[Any, tuple[int, ...]]], **attributes: Any
) -> NodeProgram:
    """A program of one operator; arrays are its inputs at run time, values its constants."""
    values = [
        x if isinstance(x, Value) else Value(f"x{i}", Type(x.dtype), x.shape) for i, x in enumerate(inputs)
    ]  # fmt: skip
    results = [Value(f"y{i}", Type(np.dtype(dtype)), shape) for i, (dtype, shape) in enumerate(outputs)]
    return NodeProgram(Node(op_type, "node", values, results, attributes, "", 18), threads=3)


def places(shape: tuple[int, ...], extent: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-extent, extent, shape)


def test_scatter_elements_applies_updates_in_order() -> None:
    x, where, updates = random_array((3, 7)), places((3, 20), 7), random_array((3, 20), seed=1)
    expected = x.copy()
    for row, column in np.ndindex(3, 20):
        expected[row, where[row, column]] = updates[row, column]
    found = same_for_threads(program("ScatterElements", [x, where, updates], [(np.float32, x.shape)], axis=1),
                             x, where, updates)  # fmt: skip
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("k", [1, 2, 3, 16, 33])
def test_top_k_with_ties_and_nan(largest: int, k: int) -> None:
    x = np.round(random_array((3, 33, 4)) * 2)
    x[0, 5, 1] = x[0, 7, 1] = x[1, 0, 0] = np.nan
    order = np.where(np.isnan(x), np.inf, -x if largest else x)
    expected = np.take_along_axis(x, np.argsort(order, 1, kind="stable")[:, :k], 1)
    count = Value.of("k", np.array([k]))
    shape = (3, k, 4)
    planned = program("TopK", [x, count], [(np.float32, shape), (np.int64, shape)], axis=1, largest=largest)
    np.testing.assert_array_equal(same_for_threads(planned, x), expected)


def test_sampling_at_the_pixels_is_the_image() -> None:
    x = random_array((2, 3, 4, 5))
    ys, xs = np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 5), indexing="ij")
    grid = np.stack([np.stack([xs, ys], -1)] * 2).astype(np.float32)
    for mode in ("linear", "nearest", "cubic"):
        planned = program("GridSample", [x, grid], [(np.float32, x.shape)], mode=mode, align_corners=1)
        np.testing.assert_allclose(same_for_threads(planned, x, grid), x, 1e-5, 1e-5)
