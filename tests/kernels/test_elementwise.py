"""Unary, binary, Where and Cast kernels: every operator, edge sizes, strides, broadcasting, element types, threads."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.kernels import LANES, VECTOR_BYTES, blocked, blocked_holding, edge_sizes, guarded, holding, run_nest

from cpuruntime.ops import elementwise
from cpuruntime.ops.elementwise import binary_kernel, cast_kernel, unary_kernel, where_kernel
from cpuruntime.ops.functions.activations import ACTIVATIONS
from cpuruntime.ops.tiles import loops

Reference = Callable[..., np.ndarray]
ROOT = Path(__file__).resolve().parents[2]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


erf = np.vectorize(math.erf, otypes=[np.float64])

# For float64 arrays, with the parameters in order; ONNX's definitions.
UNARY: dict[str, Reference] = {
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "Ceil": np.ceil,
    "Celu": lambda x, a: np.maximum(0, x) + np.minimum(0, a * np.expm1(x / a)),
    "Clip": np.clip,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Elu": lambda x, a: np.where(x < 0, a * np.expm1(x), x),
    "Erf": erf,
    "Exp": np.exp,
    "Floor": np.floor,
    "Gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "GeluTanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "LeakyRelu": lambda x, a: np.where(x < 0, a * x, x),
    "Log": np.log,
    "Mish": lambda x: x * np.tanh(softplus(x)),
    "Neg": np.negative,
    "Reciprocal": np.reciprocal,
    "Relu": lambda x: np.maximum(x, 0),
    "Round": np.rint,
    "Selu": lambda x, a, g: g * np.where(x <= 0, a * np.expm1(x), x),
    "Shrink": lambda x, limit, bias: np.where(np.abs(x) > limit, x - np.sign(x) * bias, 0),
    "Sigmoid": sigmoid,
    "Sign": np.sign,
    "Silu": lambda x: x * sigmoid(x),
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Softplus": softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
    "Square": np.square,
    "Swish": lambda x, a: x * sigmoid(a * x),
    "Tan": np.tan,
    "Tanh": np.tanh,
    "ThresholdedRelu": lambda x, a: np.where(x > a, x, 0),
}
PARAMETERS = {"Celu": (0.7,), "Clip": (-1.5, 2.25), "Elu": (0.6,), "HardSigmoid": (0.3, 0.4), "LeakyRelu": (0.125,),
              "Selu": (1.5, 1.25), "Shrink": (0.6, 0.2), "Swish": (1.3,), "ThresholdedRelu": (0.8,)}  # fmt: skip
BINARY: dict[str, Reference] = {
    "Add": np.add,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "PRelu": lambda x, s: np.where(x < 0, x * s, x),
    "Pow": np.power,
    "Sub": np.subtract,
}
COMPARISONS: dict[str, Reference] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}


def values(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)


def unary_parameters(op: str) -> dict[str, float]:
    return dict(zip(("alpha", "beta"), PARAMETERS.get(op, ())))


def test_every_operator_has_a_reference() -> None:
    assert UNARY.keys() == ACTIVATIONS.keys()
    assert BINARY.keys() == elementwise.VECTOR_BINARY.keys()
    assert {op: len(a.parameters) for op, a in ACTIVATIONS.items() if a.parameters} == {
        op: len(p) for op, p in PARAMETERS.items()
    }


@pytest.mark.parametrize("op", sorted(UNARY))
def test_unary(op: str) -> None:
    """Ordinary values and special ones, over whole vectors and a tail."""
    special = [0.0, -0.0, 1.0, -1.0, 0.5, 100.0, -100.0, 1e-40, np.inf, -np.inf, np.nan]
    x = np.concatenate([values((8 * LANES + 3,)), np.array(special, np.float32)])
    target = guarded(x.shape)
    run_nest(unary_kernel(op), target, holding(x), **unary_parameters(op))
    with np.errstate(all="ignore"):
        expected = UNARY[op](x.astype(np.float64), *np.float32(PARAMETERS.get(op, ()))).astype(np.float32)
    np.testing.assert_allclose(target.array, expected, rtol=1e-6, atol=2e-7)


@pytest.mark.every_isa
@pytest.mark.parametrize("size", edge_sizes())
def test_unary_edge_sizes(size: int) -> None:
    x = values((size,))
    target = guarded(x.shape, offset=4)
    run_nest(unary_kernel("LeakyRelu"), target, holding(x, offset=8), alpha=0.5)
    np.testing.assert_array_equal(target.array, np.where(x < 0, x * np.float32(0.5), x))


@pytest.mark.parametrize("op", sorted(BINARY))
def test_binary(op: str) -> None:
    special = np.array([0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan, 3.0], np.float32)
    x, y = (a.reshape(-1) for a in np.meshgrid(special, special))
    x, y = np.concatenate([x, values((3 * LANES + 1,))]), np.concatenate([y, values((3 * LANES + 1,), 1)])
    target = guarded(x.shape)
    run_nest(binary_kernel(op), target, holding(x), holding(y))
    with np.errstate(all="ignore"):
        expected = BINARY[op](x.astype(np.float64), y.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(target.array, expected, rtol=1e-6)


SHAPES = [
    ((131,), (131,)),
    ((131,), (1,)),
    ((1,), (131,)),
    ((), (7,)),
    ((), ()),
    ((5, 7), (7,)),
    ((5, 1), (5, 7)),
    ((3, 1, 2 * LANES + 1), (1, 4, 1)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 1, 3, 1, 2, 1), (1, 4, 1, 5, 1, LANES)),
    ((2, 3, LANES), (2, 1, LANES)),
    ((0, 5), (1, 5)),
    ((5, 0), (5, 1)),
]


@pytest.mark.every_isa
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_broadcasting(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    x, y = values(left), values(right, 1)
    target = guarded(np.broadcast_shapes(left, right))
    run_nest(binary_kernel("Sub"), target, holding(x), holding(y))
    np.testing.assert_array_equal(target.array, x - y)


@pytest.mark.every_isa
def test_long_rows_are_shared_by_threads() -> None:
    """Rows of several chunks, also odd ones; `run` compares the results of 1, 2 and 3 threads."""
    for shape in ((3 * loops.CHUNK + 5,), (2, loops.CHUNK + LANES + 1)):
        x = values(shape)
        target = guarded(shape)
        run_nest(unary_kernel("Exp"), target, holding(x))
        np.testing.assert_allclose(target.array, np.exp(x.astype(np.float64)), rtol=2e-7)


@pytest.mark.parametrize("part", ["target", "first", "second"])
def test_strided_innermost_dimension(part: str) -> None:
    shape, apart = (3, 2 * LANES + 1), (8 * (2 * LANES + 1) + 16, 8)
    strides = {name: apart if name == part else None for name in ("target", "first", "second")}
    x, y = values(shape), values(shape, 1)
    target = guarded(shape, strides=strides["target"])
    run_nest(binary_kernel("Sub"), target, holding(x, strides["first"]), holding(y, strides["second"]))
    np.testing.assert_array_equal(target.array, x - y)
    if part != "second":
        run_nest(unary_kernel("LeakyRelu"), target, holding(x, strides["first"]), alpha=0.5)
        np.testing.assert_array_equal(target.array, np.where(x < 0, x * np.float32(0.5), x))


def test_blocked_tensors_with_different_halos() -> None:
    shape = (2, 2 * LANES + 3, 3, 5)
    x, y = values(shape), values(shape, 1)
    target = blocked(shape, halo=(1, 1, 1, 1))
    run_nest(binary_kernel("Sub"), target, blocked_holding(x, halo=(0, 2, 0, 1)), blocked_holding(y))
    np.testing.assert_array_equal(target.plain(), x - y)
    run_nest(unary_kernel("Relu"), target, blocked_holding(x, halo=(0, 2, 0, 1)))
    np.testing.assert_array_equal(target.plain(), np.maximum(x, 0))


@pytest.mark.every_isa
@pytest.mark.parametrize("swapped", [False, True])
def test_blocked_tensor_by_a_value_for_each_channel(swapped: bool) -> None:
    """One vector repeated over all pixels is merged into whole rows."""
    shape = (2, 2 * LANES, 3, 5)
    x, y = values(shape), values((2, 2 * LANES, 1, 1), 1)
    first, second = blocked_holding(x, halo=(1, 0, 0, 1)), blocked_holding(y)
    target = blocked(shape)
    operands = (second, first) if swapped else (first, second)
    run_nest(binary_kernel("Sub"), target, *operands, repeat=True)
    np.testing.assert_array_equal(target.plain(), y - x if swapped else x - y)


def test_in_place() -> None:
    x = values((4 * LANES + 3,))
    memory = holding(x)
    arguments = loops.nest(x.shape, target=(4,), first=(4,), second=(0,))
    record = np.zeros((), loops.NEST)
    for name, value in arguments.items():
        record[name] = value
    two = holding(np.array([2], np.float32))
    record["target"] = record["first"] = memory.address
    record["second"] = two.address
    binary_kernel("Mul")(record, threads=2)
    memory.check()
    np.testing.assert_array_equal(memory.array, x * 2)


def test_clamp_after_a_binary_operator() -> None:
    x, y = values((3, 2 * LANES + 1)), values((3, 2 * LANES + 1), 1)
    x[0, 0] = np.nan
    target = guarded(x.shape)
    run_nest(binary_kernel("Add"), target, holding(x), holding(y), clamp=1, low=-1.0, high=np.float32(2.5))
    np.testing.assert_array_equal(target.array, np.clip(x + y, -1, 2.5))
    run_nest(binary_kernel("Add"), target, holding(x), holding(y), clamp=0, low=-1.0, high=2.5)
    np.testing.assert_array_equal(target.array, x + y)


def integers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    limits = np.iinfo(dtype)
    low, high = max(-100, limits.min), min(100, limits.max)
    data = np.random.default_rng(seed).integers(low, high, shape, dtype=dtype, endpoint=True)
    data.flat[:2] = limits.min, limits.max
    return data


def truncated(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    quotient = np.abs(x.astype(object)) // np.abs(y.astype(object)) * np.sign(x) * np.sign(y)
    return quotient.astype(np.int64).astype(x.dtype)


TYPED: dict[str, Reference] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum, "Div": truncated,
    "Mod": np.remainder, "FMod": np.fmod, "BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor, **COMPARISONS,
}  # fmt: skip


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        ("Add", "int64"), ("Sub", "int32"), ("Mul", "int64"), ("Max", "int8"), ("Min", "uint8"), ("Div", "int64"),
        ("Div", "int32"), ("Mod", "int64"), ("FMod", "int64"), ("Equal", "int64"), ("Less", "int32"),
        ("Greater", "uint64"), ("GreaterOrEqual", "int16"), ("BitwiseAnd", "uint16"), ("BitwiseOr", "int32"),
        ("BitwiseXor", "uint8"),
    ],
)  # fmt: skip
def test_integers(op: str, dtype: str) -> None:
    shape = (3, 2 * VECTOR_BYTES + 3)
    x = integers(shape, dtype)
    modes = (integers(shape, dtype, 1), integers((1, 1), dtype, 2)[:, :1] // 3 + 1, integers((3, 1), dtype, 3))
    for y in modes:
        y = np.where(y == 0, 1, y).astype(dtype)
        for a, b in ((x, y), (np.where(y == 0, 1, y).astype(dtype), np.where(x == 0, 1, x).astype(dtype))):
            target = guarded(shape, bool if op in COMPARISONS else dtype)
            run_nest(binary_kernel(op, dtype), target, holding(a), holding(b))
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(target.array, TYPED[op](a, b))


def test_integer_division_by_zero_is_zero() -> None:
    x, zero = np.array([5, -5, 0], np.int32), np.zeros(3, np.int32)
    for op, dtype in (("Div", "int32"), ("Mod", "int64"), ("FMod", "int64")):
        target = guarded((3,), dtype)
        run_nest(binary_kernel(op, dtype), target, holding(x.astype(dtype)), holding(zero.astype(dtype)))
        np.testing.assert_array_equal(target.array, zero)


@pytest.mark.parametrize("op", ["Add", "Div", "Max", "Min"])
def test_float64(op: str) -> None:
    x, y = values((37,)).astype(np.float64), values((37,), 1).astype(np.float64)
    x[3] = y[5] = np.nan
    target = guarded(x.shape, np.float64)
    run_nest(binary_kernel(op, "float64"), target, holding(x), holding(y))
    np.testing.assert_array_equal(target.array, BINARY[op](x, y))


@pytest.mark.every_isa
@pytest.mark.parametrize("op", ["Equal", "LessOrEqual"])
def test_float_comparisons_with_nan(op: str) -> None:
    x = np.array([1, np.nan, np.inf, 0.0, 2] * 20, np.float32)
    for y in (np.array([1, np.nan, np.inf, -0.0, np.nan] * 20, np.float32), np.float32([2])):
        target = guarded(x.shape, bool)
        run_nest(binary_kernel(op), target, holding(x), holding(y))
        np.testing.assert_array_equal(target.array, COMPARISONS[op](x, y))


@pytest.mark.parametrize(("op", "reference"), [("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor)])
def test_logic(op: str, reference: Reference) -> None:
    x, y = (np.random.default_rng(seed).integers(0, 2, (3, 70)).astype(bool) for seed in (0, 1))
    target = guarded(x.shape, bool)
    run_nest(binary_kernel(op, "bool"), target, holding(x), holding(y))
    np.testing.assert_array_equal(target.array, reference(x, y))


@pytest.mark.parametrize(
    ("op", "dtype", "reference"),
    [
        ("Abs", "int32", np.abs),
        ("Neg", "int64", np.negative),
        ("Relu", "int8", lambda x: np.maximum(x, 0)),
        ("Sign", "int64", np.sign),
        ("BitwiseNot", "uint8", np.invert),
        ("Abs", "float64", np.abs),
        ("Relu", "float64", lambda x: np.maximum(x, 0)),
        ("Sqrt", "float64", np.sqrt),
        ("Reciprocal", "float64", np.reciprocal),
        ("Not", "bool", np.logical_not),
        ("IsNaN", "float32", np.isnan),
    ],
)
def test_typed_unary(op: str, dtype: str, reference: Reference) -> None:
    x = values((3, 70)).astype(dtype)
    if dtype.startswith("float"):
        x[0, :3] = np.nan, np.inf, 0
    target = guarded(x.shape, bool if op in elementwise.BOOLEAN_RESULT else dtype)
    run_nest(unary_kernel(op, dtype), target, holding(x))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(target.array, reference(x))


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_where(dtype: str) -> None:
    shape = (3, 70)
    condition = np.random.default_rng(0).integers(0, 2, shape).astype(bool)
    x, y = values(shape).astype(dtype), values(shape, 1).astype(dtype)
    one, column, row = np.s_[:1, :1], np.s_[:, :1], np.s_[:1]
    cases = [(condition, x, y), (condition, x, y[one]), (condition, x[column], y), (condition[column], x, y),
             (condition[row], x[one], y[one])]  # fmt: skip
    for c, a, b in cases:
        target = guarded(shape, dtype)
        run_nest(where_kernel(x.itemsize), target, holding(c), holding(a), holding(b))
        np.testing.assert_array_equal(target.array, np.broadcast_to(np.where(c, a, b), shape))


CASTS = [
    ("float32", "int32"), ("float32", "uint8"), ("float32", "bool"), ("float32", "float64"), ("float32", "int64"),
    ("int64", "float32"), ("int64", "int32"), ("int32", "float32"), ("uint8", "float32"), ("bool", "float32"),
    ("float64", "float32"), ("int8", "uint64"), ("uint64", "float64"), ("int64", "bool"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), CASTS)
def test_cast(source: str, target: str) -> None:
    x = (integers((3, 70), source) if "int" in source else values((3, 70)) * 10).astype(source)
    if source.startswith("float") and target not in ("float64", "bool"):
        x = np.abs(x)
    result = guarded(x.shape, target)
    run_nest(cast_kernel(source, target), result, holding(x))
    np.testing.assert_array_equal(result.array, x.astype(target))


def test_cast_of_what_does_not_fit_saturates() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e20, -1e20, 300, -1, 2.9, -2.9] * 4, np.float32)
    result = guarded(x.shape, np.uint8)
    run_nest(cast_kernel("float32", "uint8"), result, holding(x))
    np.testing.assert_array_equal(result.array[:9], [0, 255, 0, 255, 0, 255, 0, 2, 0])
    result = guarded(x.shape, np.int64)
    run_nest(cast_kernel("float32", "int64"), result, holding(x))
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    np.testing.assert_array_equal(result.array[:9], [0, high, low, high, low, 300, -1, 2, -2])


@pytest.mark.every_isa
def test_cast_from_float16_is_exact_for_all_of_them() -> None:
    x = np.arange(65536, dtype=np.uint16).view(np.float16)
    result = guarded(x.shape, np.float32)
    run_nest(cast_kernel("float16", "float32"), result, holding(x))
    np.testing.assert_array_equal(result.array, x.astype(np.float32))


@pytest.mark.every_isa
@pytest.mark.parametrize("target", ["float16", "bfloat16"])
def test_cast_to_half_types_rounds_to_nearest_even(target: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype: Any = np.dtype(np.float16) if target == "float16" else np.dtype(ml_dtypes.bfloat16)
    bits = np.random.default_rng(0).integers(0, 2**32, 60_000, dtype=np.uint32)
    halves = np.arange(65536, dtype=np.uint16).view(dtype).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        between = (halves[:-1] + halves[1:]) / 2
        x = np.concatenate([bits.view(np.float32), halves, between[np.isfinite(between)]])
        expected = x.astype(dtype)
    result = guarded(x.shape, np.uint16)
    run_nest(cast_kernel("float32", target), result, holding(x))
    mine = result.array.view(dtype)
    number = ~np.isnan(x)
    np.testing.assert_array_equal(mine[number].view(np.uint16), expected[number].view(np.uint16))
    assert np.isnan(mine[~number].astype(np.float32)).all()


def test_a_warm_process_does_not_load_the_compiler() -> None:
    unary_kernel("Relu").address, where_kernel(4).address, cast_kernel("float32", "float16").address
    program = (
        "import sys; from cpuruntime.ops.elementwise import *;"
        "[k.address for k in (unary_kernel('Relu'), where_kernel(4), cast_kernel('float32', 'float16'))];"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
