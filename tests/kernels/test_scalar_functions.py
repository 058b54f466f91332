"""Functions on single integers and float64 numbers at their limits, against Python's whole numbers and NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.kernels import guarded, holding, run_nest

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.ops.elementwise import binary_kernel, unary_kernel

pytestmark = pytest.mark.every_isa


def _result(kernel: Kernel, *operands: np.ndarray) -> np.ndarray:
    target = guarded(operands[0].shape, operands[0].dtype)
    run_nest(kernel, target, *map(holding, operands))
    return target.array


def _truncated(x: int, y: int) -> int:
    return 0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def _power(x: int, y: int) -> int:
    if y < 0:
        return (x if y % 2 else 1) if x in (1, -1) else 0
    return pow(x, y, 1 << 64)


INTEGERS: dict[str, Callable[[int, int, int], int]] = {
    "Div": lambda x, y, bits: _truncated(x, y),
    "Mod": lambda x, y, bits: 0 if y == 0 else x % y,
    "FMod": lambda x, y, bits: 0 if y == 0 else x - y * _truncated(x, y),
    "Pow": lambda x, y, bits: _power(x, y),
    "ShiftLeft": lambda x, y, bits: x << y if 0 <= y < bits else 0,
    "ShiftRight": lambda x, y, bits: x >> y if 0 <= y < bits else -(x < 0),
}


@pytest.mark.parametrize("dtype", ["int64", "uint8"])
@pytest.mark.parametrize("op", INTEGERS)
def test_integers_at_their_limits_wrap_and_never_trap(op: str, dtype: str) -> None:
    limits = np.iinfo(dtype)
    numbers = {0, 1, 2, 3, 7, 8, 63, 64, 100, limits.max, limits.max - 1}
    numbers |= {-1, -2, -3, limits.min, limits.min + 1} if limits.min else set()
    x, y = (np.ascontiguousarray(a) for a in np.meshgrid(*[np.array(sorted(numbers), dtype)] * 2))
    found = _result(binary_kernel(op, dtype), x, y)
    wanted = [INTEGERS[op](int(a), int(b), limits.bits) for a, b in zip(x.flat, y.flat)]
    mask = (1 << limits.bits) - 1
    assert [int(n) & mask for n in found.flat] == [n & mask for n in wanted]


NUMBERS = np.concatenate(
    [
        [0.5, 1.5, 2.5, -0.5, -0.3, -1.5, -1.0, 4503599627370495.5, 4503599627370497.0, 1e300],
        np.random.default_rng(0).uniform(-700, 700, 500),
        np.random.default_rng(1).uniform(-1, 1, 500),
        [0.0, -0.0, np.inf, -np.inf, np.nan, -745.1, -744.0, 709.7, 710.0, 5e-324, 1e-310],
    ]
)
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Ceil": np.ceil,
    "Exp": np.exp,
    "Floor": np.floor,
    "Log": np.log,
    "Round": np.rint,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Tanh": np.tanh,
}


@pytest.mark.parametrize("op", FUNCTIONS)
def test_float64_functions(op: str) -> None:
    with np.errstate(all="ignore"):
        wanted = FUNCTIONS[op](NUMBERS)
    found = _result(unary_kernel(op, "float64"), NUMBERS)
    np.testing.assert_allclose(found, wanted, rtol=1e-15, atol=1e-322)
    np.testing.assert_array_equal(np.signbit(found)[found == found], np.signbit(wanted)[found == found])


SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 0.5, -0.5, 3.0, -3.0, 2001.0, 1e300, 3e-311, 5e-324]
SPECIAL += [np.inf, -np.inf, np.nan]


@pytest.mark.parametrize(("op", "reference"), [("Pow", np.power), ("Mod", np.mod), ("FMod", np.fmod)])
def test_float64_pairs(op: str, reference: Callable[..., np.ndarray]) -> None:
    random = np.random.default_rng(2)
    x, y = (a.reshape(-1) for a in np.meshgrid(SPECIAL, SPECIAL))
    x, y = np.append(x, random.uniform(0, 99, 500)), np.append(y, random.uniform(-9, 9, 500))
    with np.errstate(all="ignore"):
        wanted = reference(x, y)
    found = _result(binary_kernel(op, "float64"), x, y)
    np.testing.assert_allclose(found, wanted, rtol=1e-12 if op == "Pow" else 0)
    np.testing.assert_array_equal(np.signbit(found)[found == found], np.signbit(wanted)[found == found])
