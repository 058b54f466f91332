"""Functions of one, two or three elements: each operator, types, broadcasting and lengths around vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto
from support.kernels import LANES, edge_sizes

from cases.case import Case, Tensor, constant

SHAPE = (3, 7, 2 * LANES + 3)
INTEGERS = (np.int32, np.int64)

UNARY: dict[str, dict[str, Any]] = {
    "Abs": {}, "Atan": {}, "Asinh": {}, "Ceil": {}, "Celu": dict(alpha=0.7), "Cos": {}, "Cosh": {},
    "Elu": dict(alpha=0.6), "Erf": {}, "Exp": {}, "Floor": {}, "Gelu": {},
    "HardSigmoid": dict(alpha=0.3, beta=0.4), "HardSwish": {},
    "Identity": {}, "IsNaN": {}, "LeakyRelu": dict(alpha=0.125), "Mish": {}, "Neg": {}, "Relu": {}, "Round": {},
    "Selu": dict(alpha=1.5, gamma=1.25), "Shrink": dict(lambd=0.6, bias=0.2), "Sigmoid": {}, "Sign": {}, "Sin": {},
    "Sinh": {}, "Softplus": {}, "Softsign": {}, "Tan": {}, "Tanh": {}, "ThresholdedRelu": dict(alpha=0.8),
}  # fmt: skip
RANGES = {
    "Acos": (-1, 1), "Acosh": (1, 9), "Asin": (-1, 1), "Atanh": (-0.99, 0.99), "Log": (0.01, 9), "Reciprocal": (0.1, 9),
    "Sqrt": (0, 9),
}  # fmt: skip
BINARY = ("Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub")
COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
BROADCASTS = [
    ((2, 3, 5), (5,)),
    ((2, 3, 5), (3, 1)),
    ((4, 1, 7), (3, 1)),
    ((2, 3), ()),
    ((1, 5), (4, 1, 5)),
    ((0, 3), (3,)),
]
POSITIVE = dict(low=0.1, high=3)


def binary(operator: str, dtype: Any, *shapes: tuple[int, ...]) -> Case:
    """Both operands are inputs; of those that would divide by zero or overflow, positive."""
    limits = POSITIVE if operator in ("Div", "Mod", "Pow") and dtype in (np.float32, np.float64) else {}
    limits = dict(low=1, high=9) if operator in ("Div", "Mod", "Pow") and not limits else limits
    shown = " with ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)
    inputs = tuple(Tensor(shape, dtype, **limits) for shape in shapes)
    return Case(f"{operator} {np.dtype(dtype).name} {shown}", operator, inputs)


CASES = [
    *(Case(operator, operator, (Tensor(SHAPE),), attributes) for operator, attributes in UNARY.items()),
    *(Case(operator, operator, (Tensor(SHAPE, low=low, high=high),)) for operator, (low, high) in RANGES.items()),
    Case("Gelu by tanh", "Gelu", (Tensor(SHAPE),), dict(approximate="tanh")),
    Case("Swish", "Swish", (Tensor(SHAPE),), dict(alpha=1.3), opset=24),
    *(Case(f"Sigmoid of {size}", "Sigmoid", (Tensor((size,)),)) for size in edge_sizes()),
    *(Case(f"{op} {np.dtype(t).name}", op, (Tensor((3, 9), t),)) for op in ("Abs", "Neg", "Sign") for t in INTEGERS),
    Case("Clip", "Clip", (Tensor(SHAPE), constant(-1.5), constant(2.25))),
    Case("Clip int64", "Clip", (Tensor((3, 5), np.int64), constant(-3, np.int64), constant(4, np.int64))),
    Case("Not", "Not", (Tensor((3, 33), np.bool_),)),
    *(binary(op, np.float32, SHAPE, SHAPE) for op in BINARY),
    *(binary(op, np.float64, (3, 9), (9,)) for op in ("Add", "Div", "Max", "Min")),
    *(binary(op, t, (3, 9), (9,)) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mod") for t in INTEGERS),
    *(binary("Sub", np.float32, *shapes) for shapes in BROADCASTS),
    *(binary(op, np.float32, SHAPE, SHAPE[1:]) for op in COMPARISONS),
    *(binary(op, np.int64, (3, 40), (3, 1)) for op in COMPARISONS),
    *(binary(op, np.bool_, (3, 40), (40,)) for op in ("And", "Or", "Xor")),
    *(binary(f"Bitwise{op}", t, (3, 40), (40,)) for op in ("And", "Or", "Xor") for t in (np.int32, np.uint8)),
    *(binary(op, t, (3, 9), (9,)) for op in ("Div", "Mod", "Max") for t in (np.uint8, np.int8)),
    *(Case(f"BitShift {way}", "BitShift", (Tensor((3, 9), np.uint8), Tensor((9,), np.uint8)), dict(direction=way))
      for way in ("LEFT", "RIGHT")),
    *(Case(f"{op} float64", op, (Tensor((3, 9), np.float64, low=0.1, high=9),))
      for op in ("Exp", "Log", "Sigmoid", "Tanh", "Floor", "Sign")),
    *(Case(f"Mod float32, fmod {np.dtype(t).name}", "Mod", (Tensor((3, 9), t), Tensor((9,), t)), dict(fmod=1))
      for t in (np.float32, np.float64)),
    *(Case(f"Pow {np.dtype(a).name} {np.dtype(b).name}", "Pow", (Tensor((3, 9), a, 0, 5), Tensor((9,), b, 0, 5)))
      for a, b in ((np.int32, np.int32), (np.int64, np.float32), (np.float64, np.int64), (np.float32, np.int64))),
    *(Case(f"{op} float16", op, (Tensor((3, 9), np.float16), Tensor((9,), np.float16)), tolerance=1e-3)
      for op in ("Add", "Mul", "Less")),
    *(Case(f"{op} {np.dtype(t).name}", op, (Tensor((3, 9), t),), dict(alpha=0.7) if op == "Elu" else {}, tolerance=1e-3)
      for op in ("Elu", "Softmax") for t in (np.float16,)),
    Case("Clip int8 without bounds", "Clip", (Tensor((3, 5), np.int8),)),
    Case("IsInf float64", "IsInf", (Tensor((4,), np.float64, values=[1, np.inf, -np.inf, np.nan]),)),
    Case("Max of one", "Max", (Tensor((3, 5)),)),
    *(Case(f"BitwiseNot {np.dtype(t).name}", "BitwiseNot", (Tensor((3, 40), t),)) for t in (np.int64, np.uint8)),
    *(
        Case(f"Where {np.dtype(t).name}", "Where", (Tensor((3, 1, 9), np.bool_), Tensor((5, 9), t), Tensor((5, 1), t)))
        for t in (np.float32, np.int64)
    ),
    *(
        Case(f"Cast {np.dtype(t).name} to {TensorProto.DataType.Name(to)}", "Cast", (Tensor((3, 41), t),), dict(to=to))
        for t in (np.float32, np.int64, np.int32, np.bool_, np.float64, np.uint8, np.float16)
        for to in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.FLOAT16)
    ),
]
