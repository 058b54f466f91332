"""Which products Winograd's method forms: its one-dimensional algorithms as matrices, and pairs of them for images.

F(m, r) computes m outputs of a kernel of r taps from m + r - 1 products instead of m r: A^T ((G g) * (B^T d)). The
matrices come from polynomial evaluation at 0, 1, -1, 2, -2 and infinity (A. Toom, S. Cook; S. Winograd, "Arithmetic
Complexity of Computations", 1980). A kernel of stride s is the sum of s kernels of stride 1, each on every s-th pixel,
and one of many taps is the sum of shorter ones: their products stand side by side. In two dimensions the algorithms
nest (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

Matrix = tuple[tuple[float, ...], ...]
Exact = list[list["int | Fraction"]]

POINTS = (0, 1, -1, 2, -2)
LONGEST = 5
"""Taps of one evaluation at most: with more points than POINTS float32 loses too many digits."""


@dataclass(frozen=True)
class Algorithm:
    """`outputs` successive results, `stride` pixels apart, of a kernel of `taps` elements."""

    outputs: int
    taps: int
    stride: int = 1

    @property
    def inputs(self) -> int:
        """Pixels that the results depend on."""
        return (self.outputs - 1) * self.stride + self.taps

    @cached_property
    def products(self) -> int:
        return sum(self.outputs + len(taps) - 1 for taps in _parts(self.taps, self.stride))

    @property
    def input(self) -> Matrix:
        """B^T: products x inputs."""
        return _floats(matrices(self)[0])

    @property
    def weights(self) -> Matrix:
        """G: products x taps."""
        return _floats(matrices(self)[1])

    @property
    def output(self) -> Matrix:
        """A^T: outputs x products."""
        return _floats(matrices(self)[2])


@dataclass(frozen=True)
class Method:
    """The algorithm down the columns of an image and the one along its rows.

    Where it `rounds`, the operands of its products are rounded to bf16, after the transforms.
    """

    vertical: Algorithm
    horizontal: Algorithm
    rounds: bool = False

    @cached_property
    def products(self) -> int:
        return self.vertical.products * self.horizontal.products

    @cached_property
    def outputs(self) -> int:
        """Pixels of an output tile."""
        return self.vertical.outputs * self.horizontal.outputs

    @cached_property
    def multiplications(self) -> int:
        """What an output tile takes directly."""
        return self.outputs * self.vertical.taps * self.horizontal.taps

    @cached_property
    def name(self) -> str:
        """As in `4x4_3x3` or, of stride 2, `3x3_3x3_s2x2`, without what it rounds."""
        v, h = self.vertical, self.horizontal
        stride = "" if (v.stride, h.stride) == (1, 1) else f"_s{v.stride}x{h.stride}"
        return f"{v.outputs}x{h.outputs}_{v.taps}x{h.taps}{stride}"

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        outputs, taps, *stride = self.name.split("_")
        text = f"F({', '.join([outputs, taps])})" + "".join(f" stride {s[1:]}" for s in stride)
        return text + (" in bf16" if self.rounds else "")


def _floats(matrix: Exact) -> Matrix:
    return tuple(tuple(map(float, row)) for row in matrix)


@cache
def matrices(a: Algorithm) -> tuple[Exact, Exact, Exact]:
    """B^T, G and A^T: those of the parts that the taps fall into, one after the other."""
    transform, weights, output = [], [], [[] for _ in range(a.outputs)]
    for taps in _parts(a.taps, a.stride):
        part = _evaluation(a.outputs, len(taps))
        indices = [taps[0] + a.stride * i for i in range(a.outputs + len(taps) - 1)]
        transform += [_spread(row, indices, a.inputs) for row in part[0]]
        weights += [_spread(row, taps, a.taps) for row in part[1]]
        for row, more in zip(output, part[2]):
            row += more
    return transform, weights, output


def _parts(taps: int, stride: int) -> list[list[int]]:
    """The taps of each phase of the stride, in pieces of at most LONGEST."""
    parts = []
    for phase in range(min(stride, taps)):
        left = list(range(phase, taps, stride))
        pieces = -(-len(left) // LONGEST)
        while left:
            size = -(-len(left) // pieces)
            parts.append(left[:size])
            left, pieces = left[size:], pieces - 1
    return parts


def _spread(row: Sequence[int | Fraction], indices: Sequence[int], size: int) -> list[int | Fraction]:
    wide: list[int | Fraction] = [0] * size
    for index, value in zip(indices, row):
        wide[index] = value
    return wide


def _evaluation(outputs: int, taps: int) -> tuple[Exact, Exact, Exact]:
    """The matrices of F(outputs, taps) of stride 1; a single tap or output is multiplied as it is."""
    from fractions import Fraction  # not above: only the compiler asks for matrices

    count = outputs + taps - 1
    if min(outputs, taps) == 1:
        unit = [[int(i == j) for j in range(count)] for i in range(count)]
        return (unit, [[1]] * count, unit) if taps == 1 else (unit, unit, [[1] * count])
    points = POINTS[: count - 1]
    assert len(points) == count - 1
    transform, weights = [], []
    for point in points:
        others = [q for q in points if q != point]
        scale = prod(point - q for q in others)
        transform.append([*_polynomial(others), 0])
        weights.append([Fraction(point**j, scale) for j in range(taps)])
    transform.append(_polynomial(points))
    weights.append([int(j == taps - 1) for j in range(taps)])
    output = [[*(point**k for point in points), int(k == outputs - 1)] for k in range(outputs)]
    return transform, weights, output


def _polynomial(roots: Sequence[int]) -> list[int]:
    """The coefficients of the product of (x - root), lowest first."""
    coefficients = [1]
    for root in roots:
        shifted = [0, *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, 0])]
    return coefficients
