"""Gathering and scattering by indices, cumulative sums, triangles and one-hot vectors."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np

from cases.case import Case, Tensor, constant

INDEX_TYPES = (np.int32, np.int64)
REDUCTIONS = ("none", "add", "mul", "max", "min")


def indices(shape: tuple[int, ...], extent: int, dtype: Any = np.int64) -> Tensor:
    """Valid indices, half of them negative."""
    return Tensor(shape, dtype, low=-extent, high=extent)


def tuples(shape: tuple[int, ...], extents: tuple[int, ...], apart: bool = False) -> Tensor:
    """Valid indices of `extents`, in tuples along the last axis; with `apart` no tuple comes twice."""
    if apart:
        found = np.stack(np.unravel_index(np.arange(prod(shape[:-1])), extents), -1)
    else:
        found = np.random.default_rng(0).integers(-np.array(extents), extents, shape)
    return Tensor(shape, np.int64, values=found.tolist())


GATHERED = [
    ((5, 6, 7), (4, 3), 0),
    ((5, 6, 7), (4, 2, 2), 0),
    ((5, 6, 7), (3, 1), 0),
    ((2, 6, 7), (2, 4, 1), 1),
    ((2, 3, 7, 4), (2, 3, 5, 2), 2),
    ((9,), (3, 1), 0),
]
"""Data, indices and leading axes in common of GatherND."""

CASES = [
    *(
        Case(
            f"Gather {np.dtype(data).name} by {np.dtype(dtype).name} in axis {axis}",
            "Gather",
            (Tensor((5, 7, 11), data), indices((2, 3), (5, 7, 11)[axis], dtype)),
            dict(axis=axis),
        )
        for data, dtype, axis in product((np.float32, np.int64, np.bool_), INDEX_TYPES, (0, 1, 2))
    ),
    *(
        Case(
            f"GatherElements by {np.dtype(dtype).name} in axis {axis}",
            "GatherElements",
            (Tensor((5, 6, 7)), indices((4, 3, 2), (5, 6, 7)[axis], dtype)),
            dict(axis=axis),
        )
        for dtype, axis in product(INDEX_TYPES, (0, 1, -1))
    ),
    *(
        Case(
            f"GatherElements {np.dtype(t).name}",
            "GatherElements",
            (Tensor((3, 5), t), indices((3, 9), 5)),
            dict(axis=1),
        )
        for t in (np.int64, np.float64, np.bool_, np.float16)
    ),
    *(
        Case(
            f"GatherND {'x'.join(map(str, data))} by {'x'.join(map(str, shape))}",
            "GatherND",
            (Tensor(data), tuples(shape, data[lead : lead + shape[-1]])),
            dict(batch_dims=lead),
        )
        for data, shape, lead in GATHERED
    ),
    *(
        # ONNX Runtime's result for one place named twice is the last update's, too.
        Case(
            f"ScatterElements {np.dtype(dtype).name} {reduction}",
            "ScatterElements",
            (Tensor((4, 6, 3), dtype), indices((3, 6, 2), 6), Tensor((3, 6, 2), dtype)),
            dict(axis=1, reduction=reduction),
            opset=18,
        )
        for reduction, dtype in product(REDUCTIONS, (np.float32, np.int64))
    ),
    Case(
        "Scatter",
        "Scatter",
        (Tensor((4, 5)), constant([[1, 0, 2], [0, 2, 1]], np.int64), Tensor((2, 3))),
        opset=10,
    ),
    *(
        Case(
            f"ScatterND {'x'.join(map(str, data))} {reduction}",
            "ScatterND",
            (
                Tensor(data),
                tuples(shape, data[: shape[-1]], apart=reduction == "none"),  # the order of updates is not defined
                Tensor((*shape[:-1], *data[shape[-1] :])),
            ),
            dict(reduction=reduction),
            opset=18,
        )
        for reduction in REDUCTIONS
        for data, shape in (((5, 6, 7), (4, 2)), ((5, 6), (3, 2, 2)), ((8, 40), (6, 1)))
    ),
    *(
        Case(
            f"CumSum {np.dtype(dtype).name} of axis {axis}{', exclusive' * exclusive}{', reverse' * reverse}",
            "CumSum",
            (Tensor((3, 17, 5), dtype), constant(axis, np.int64)),
            dict(exclusive=exclusive, reverse=reverse),
        )
        for dtype in (np.float32, np.float64, np.int32, np.int64)
        for axis, exclusive, reverse in product((0, 1, -1), (0, 1), (0, 1))
    ),
    *(
        Case(
            f"CumSum of axis {axis} given by an input",
            "CumSum",
            (Tensor((3, 17, 5)), Tensor((1,), np.int32, values=[axis])),
        )
        for axis in (0, 1, -1)
    ),
    Case("Trilu of a k given by an input", "Trilu", (Tensor((2, 5, 7)), Tensor((), np.int64, values=-2))),
    *(
        Case(
            f"Trilu {np.dtype(dtype).name} {'upper' if upper else 'lower'} {k}",
            "Trilu",
            (Tensor((2, 5, 7), dtype), None if k is None else constant(k, np.int64)),
            dict(upper=upper),
        )
        for dtype in (np.float32, np.int64, np.bool_)
        for upper, k in product((0, 1), (None, -9, -2, 0, 1, 9))
    ),
    *(
        Case(
            f"OneHot of {np.dtype(dtype).name} in axis {axis}",
            "OneHot",
            (indices((4, 3), 8, dtype), constant(6, dtype), constant([-1, 3], values)),
            dict(axis=axis),
        )
        for axis in (0, 1, -1)
        for dtype, values in ((np.int64, np.int64), (np.int32, np.float32))
    ),
]
