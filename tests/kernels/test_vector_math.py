"""Accuracy of the elementary functions over every exponent of float32, against float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from support.kernels import guarded, holding, run_nest

from cpuruntime.ops.elementwise import binary_kernel, unary_kernel

SMALLEST = 2.0**-149


def every_exponent(mantissas: int = 256) -> np.ndarray:
    """Both signs and all 256 exponents (denormals, infinity and NaN among them) with mantissas from end to end."""
    exponents = np.arange(512, dtype=np.uint32)[:, None] << 23
    spread = np.linspace(0, 2**23 - 1, mantissas).astype(np.uint32)
    return (exponents | spread).reshape(-1).view(np.float32)


def apply(op: str, x: np.ndarray, **parameters: float) -> np.ndarray:
    target = guarded(x.shape)
    run_nest(unary_kernel(op), target, holding(x), **parameters)
    return target.array


def check(result: np.ndarray, expected: np.ndarray, ulps: float) -> None:
    """Fails unless `result` (float32) is within `ulps` units in the last place of `expected` (float64)."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = expected.astype(np.float32)
        finite = np.isfinite(rounded) & np.isfinite(result)
        np.testing.assert_array_equal(result[~finite], rounded[~finite])
        unit = np.maximum(np.spacing(np.abs(rounded[finite])).astype(np.float64), SMALLEST)
        error = np.abs(result[finite] - expected[finite]) / unit
    assert error.max() <= ulps, f"{error.max():.2f} ulp, {expected[finite][error.argmax()]} expected"


def exact(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


@pytest.mark.every_isa
@pytest.mark.parametrize(
    ("op", "reference", "ulps"),
    [
        ("Exp", np.exp, 1.1),
        ("Log", np.log, 1.0),
        ("Tanh", np.tanh, 2.0),
        ("Erf", np.vectorize(math.erf, otypes=[np.float64]), 2.0),
        ("Sin", np.sin, 1.6),
        ("Cos", np.cos, 1.6),
        ("Tan", np.tan, 4.0),
        ("Asin", np.arcsin, 3.0),
        ("Acos", np.arccos, 3.0),
        ("Atan", np.arctan, 3.0),
        ("Sinh", np.sinh, 3.0),
        ("Cosh", np.cosh, 3.0),
        ("Asinh", np.arcsinh, 4.0),
        ("Acosh", np.arccosh, 4.0),
        ("Atanh", np.arctanh, 4.0),
    ],
)
def test_accuracy(op: str, reference: Callable[[np.ndarray], np.ndarray], ulps: float) -> None:
    x = every_exponent()
    with np.errstate(all="ignore"):
        expected = reference(exact(x))
    check(apply(op, x), expected, ulps)


@pytest.mark.every_isa
@pytest.mark.parametrize(
    ("op", "reference", "ulps", "low", "high"),
    [
        ("Sin", np.sin, 1.6, -13000, 13000),
        ("Cos", np.cos, 1.6, -13000, 13000),
        ("Tan", np.tan, 4.0, -13000, 13000),
        ("Sin", np.sin, 1.6, -10, 10),
        ("Cos", np.cos, 1.6, -10, 10),
        ("Acos", np.arccos, 3.0, -1, 1),
        ("Asin", np.arcsin, 3.0, -1, 1),
        ("Atan", np.arctan, 3.0, -5, 5),
        ("Atanh", np.arctanh, 4.0, -1, 1),
        ("Acosh", np.arccosh, 4.0, 1, 9),
        ("Asinh", np.arcsinh, 4.0, -3, 3),
        ("Sinh", np.sinh, 3.0, -3, 3),
        ("Cosh", np.cosh, 3.0, -90, 90),
    ],
)
def test_accuracy_where_it_is_used(
    op: str, reference: Callable[[np.ndarray], np.ndarray], ulps: float, low: float, high: float
) -> None:
    x = np.random.default_rng(0).uniform(low, high, 100_000).astype(np.float32)
    check(apply(op, x), reference(exact(x)), ulps)


@pytest.mark.every_isa
def test_sigmoid_is_zero_instead_of_denormal() -> None:
    x = every_exponent()
    with np.errstate(over="ignore", invalid="ignore"):
        expected = 1 / (1 + np.exp(-exact(x)))
    expected[expected < 2.0**-126] = 0
    check(apply("Sigmoid", x), expected, 3.0)


@pytest.mark.every_isa
def test_gate_by_silu() -> None:
    x = np.concatenate([every_exponent(), np.linspace(-95, 20, 100_001).astype(np.float32)])
    with np.errstate(over="ignore", invalid="ignore"):
        expected = exact(x) / (1 + np.exp(-exact(x)))
    expected[x < -88] = 0
    result = apply("Silu", x)
    assert (np.abs(result[np.isfinite(x) & (x < -88)]) < 2.0**-120).all()
    result[x < -88] = 0
    check(result, expected, 3.0)


def test_expm1_by_elu() -> None:
    x = every_exponent()
    with np.errstate(all="ignore"):
        expected = np.where(x < 0, np.expm1(exact(x)), exact(x))
    check(apply("Elu", x, alpha=1.0), expected, 2.0)


def test_log1p_by_softplus() -> None:
    x = every_exponent()
    with np.errstate(all="ignore"):
        expected = np.logaddexp(0, exact(x))
    expected[expected < 2.0**-126] = 0
    check(apply("Softplus", x), expected, 3.0)


@pytest.mark.every_isa
def test_gelu_in_parts_of_its_argument() -> None:
    x = every_exponent()
    x = np.concatenate([x[np.isfinite(x)], np.linspace(-8, 8, 100_001).astype(np.float32)])
    tail = np.vectorize(math.erfc, otypes=[np.float64])(-exact(x) / np.sqrt(2)) / 2
    error = np.abs(apply("Gelu", x) - exact(x) * tail)
    assert (error <= np.abs(exact(x)) * 2.0**-23 + SMALLEST).all()
    assert np.isnan(apply("Gelu", np.array([np.nan], np.float32))).all()


@pytest.mark.every_isa
@pytest.mark.parametrize(("op", "reference"), [("Floor", np.floor), ("Ceil", np.ceil), ("Round", np.rint)])
def test_rounding_is_exact(op: str, reference: Callable[[np.ndarray], np.ndarray]) -> None:
    near_halves = np.arange(-20, 21, dtype=np.float32) / 2
    x = np.concatenate([every_exponent(), near_halves, np.nextafter(near_halves, np.float32(100))])
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(apply(op, x), reference(x))


def power(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Our x^y and float64's."""
    x, y = (np.asarray(a, np.float32) for a in (x, y))
    target = guarded(x.shape)
    run_nest(binary_kernel("Pow"), target, holding(x), holding(y))
    with np.errstate(all="ignore"):
        return target.array, np.power(exact(x), exact(y))


@pytest.mark.every_isa
@pytest.mark.parametrize("case", ["wide", "near one", "large exponents", "denormal"])
def test_power_accuracy(case: str) -> None:
    random = np.random.default_rng(1)
    n = 40_000
    x, y = {
        "wide": (np.exp(random.uniform(-87, 88, n)), random.normal(0, 1, n)),
        "near one": (1 + random.normal(0, 1e-3, n), random.normal(0, 3e4, n)),
        "large exponents": (random.uniform(0, 10, n), random.uniform(-40, 40, n)),
        "denormal": (random.uniform(0, 1e-38, n), random.uniform(-1.05, 1.2, n)),
    }[case]
    check(*power(x, y), 2.0)


@pytest.mark.every_isa
def test_power_of_special_values() -> None:
    inf, nan = np.inf, np.nan
    values = [0, 1, 2, 3, 0.5, 1.5, 1e-45, 1e38, 3e38, 16777215, 16777216, 100663299, 0.9999999, 1.0000001, inf, nan]
    signed = np.array([sign * value for value in values for sign in (1, -1)], np.float32)
    x, y = (a.reshape(-1) for a in np.meshgrid(signed, signed))
    result, expected = power(x, y)
    check(result, expected, 2.0)
    known = ~np.isnan(result)
    np.testing.assert_array_equal(np.signbit(result[known]), np.signbit(expected[known]))
