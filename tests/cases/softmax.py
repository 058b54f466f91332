"""Softmax and LogSoftmax: axes, lengths around vectors, and the flattened form of old models."""

from __future__ import annotations

from support.kernels import edge_sizes

from cases.case import Case, Tensor

OPERATORS = ("Softmax", "LogSoftmax")

CASES = [
    *(
        Case(f"{operator} of axis {axis}", operator, (Tensor((2, 4, 6, 5)),), dict(axis=axis))
        for operator in OPERATORS
        for axis in (0, 1, 2, -1)
    ),
    *(
        Case(f"{operator} of {length} in {'x'.join(map(str, shape))}", operator, (Tensor(shape),), dict(axis=1))
        for operator in OPERATORS
        for length in (*edge_sizes(), 1000)
        for shape in ((5, length), (2, length, 7))
    ),
    *(
        Case(f"Softmax of all axes from {axis}", "Softmax", (Tensor((3, 4, 5)),), dict(axis=axis), opset=11)
        for axis in (0, 1, 2)
    ),
]
