"""Matrix products: of weights and of activations, transposed, broadcast, with extents around vectors."""

from __future__ import annotations

from itertools import product

from support.kernels import LANES

from cases.case import Case, Tensor, weights

PRODUCTS = (
    ((2, 3, 5, 8), (2, 3, 8, 20)), ((2, 3, 5, 8), (8, 20)), ((4, 8), (2, 3, 8, 20)), ((2, 1, 5, 8), (3, 8, 20)),
    ((1, 7), (7, 131)), ((9, 131), (131, 7)), ((3, 16, 9), (3, 9, 16)),
)  # fmt: skip


def shown(*shapes: tuple[int, ...]) -> str:
    """`5x8 8x20`."""
    return " ".join("x".join(map(str, shape)) for shape in shapes)


CASES = [
    *(Case(f"MatMul {shown(a, b)}", "MatMul", (Tensor(a), Tensor(b))) for a, b in PRODUCTS),
    *(
        Case(f"MatMul {shown(x)} by weights of {columns}", "MatMul", (Tensor(x), weights(30, columns)))
        for x in ((1, 30), (7, 30), (2, 5, 30), (2, 3, 4, 30))
        for columns in (1, LANES - 1, LANES, LANES + 1, 8 * LANES, 9 * LANES + 1)
    ),
    *(
        Case(
            f"Gemm{' transA' * a}{' transB' * b}, {kind} bias",
            "Gemm",
            (Tensor((20, 6) if a else (6, 20)), weights(*((33, 20) if b else (20, 33))), bias),
            dict(transA=a, transB=b, alpha=0.5, beta=2.0),
        )
        for (a, b), (kind, bias) in product(
            product((0, 1), (0, 1)),
            (
                ("no", None),
                ("row", weights(33)),
                ("column", weights(6, 1)),
                ("one", weights()),
                ("full", weights(6, 33)),
            ),
        )
    ),
    *(
        Case(
            f"Gemm of activations{' transA' * a}{' transB' * b}",
            "Gemm",
            (Tensor((20, 6) if a else (6, 20)), Tensor((33, 20) if b else (20, 33)), Tensor((6, 33))),
            dict(transA=a, transB=b, alpha=2.0),
        )
        for a, b in product((0, 1), (0, 1))
    ),
]
