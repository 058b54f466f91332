"""Reductions and argmax: each operator, axes, types and lengths around vectors."""

from __future__ import annotations

from itertools import product

import numpy as np
from support.kernels import LANES, edge_sizes

from cases.case import Case, Tensor, integers

OPERATORS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
AROUND_ONE = dict(low=0.8, high=1.25)  # so that products stay in range

CASES = [
    *(Case(f"Reduce{op} of nothing", f"Reduce{op}", (Tensor((3, 0, 4)), integers(1))) for op in ("Sum", "Max", "Prod")),
    Case("ReduceSum of no axes", "ReduceSum", (Tensor((3, 4)),), dict(noop_with_empty_axes=1)),
    Case("ReduceMean int32 of all", "ReduceMean", (Tensor((3, 4), np.int32),)),
    *(
        Case(f"ArgMax {np.dtype(dtype).name} of axis {axis}", "ArgMax", (Tensor((3, 21, 5), dtype),), dict(axis=axis))
        for dtype, axis in ((np.int32, 1), (np.float64, 2), (np.uint8, 0))
    ),
    *(
        Case(
            f"{operator} of axes {axes}, keepdims {keep}",
            operator,
            (Tensor((3, 5, 4 * LANES + 3), **AROUND_ONE), integers(*axes)),
            dict(keepdims=keep),
        )
        for operator in OPERATORS
        for axes, keep in (((2,), 0), ((1,), 1), ((0, -1), 0), ((0, 1, 2), 1))
    ),
    *(
        Case(f"{operator} of {size} in axis {axis}", operator, (Tensor(shape), integers(axis)))
        for operator, size in product(("ReduceMax", "ReduceLogSumExp"), edge_sizes())
        for axis, shape in ((2, (2, 3, size)), (1, (2, size, 3)))
    ),
    *(
        Case(f"{operator} {np.dtype(dtype).name}", operator, (Tensor((3, 5, 7), dtype), integers(1)))
        for operator, dtype in (
            ("ReduceSum", np.int64), ("ReduceSum", np.float64), ("ReduceProd", np.int64), ("ReduceMax", np.int32),
            ("ReduceMin", np.uint8), ("ReduceMax", np.float64), ("ReduceMean", np.int32), ("ReduceMean", np.float64),
            ("ReduceMax", np.bool_),
        )
    ),
    *(
        Case(
            f"{operator} of axis {axis}, keepdims {keep}{', last' * last}",
            operator,
            (Tensor((3, 21, 5, 37), low=-3, high=3, step=1),),
            dict(axis=axis, keepdims=keep, select_last_index=last),
        )
        for operator, last in product(("ArgMax", "ArgMin"), (0, 1))
        for axis, keep in ((0, 1), (1, 0), (-1, 1), (2, 0))
    ),
]  # fmt: skip
