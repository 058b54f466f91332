"""Operators that move elements: Transpose, Slice, Split, Concat, Expand, Tile, Pad, DepthToSpace, SpaceToDepth."""

from __future__ import annotations

from itertools import product

import numpy as np
from support.kernels import LANES

from cases.case import Case, Tensor, constant, integers

TYPES = (np.float32, np.int64, np.bool_, np.int8)
PERMUTATIONS = ((3, 1, 0, 2), (0, 2, 3, 1), (0, 3, 1, 2), (2, 0, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3))
SLICES = (
    ("steps", (0, 0, 0), (6, 9, 37), (2, 3, 5)),
    ("backwards", (100, 100, 100), (-100, -100, -100), (-1, -2, -1)),
    ("inner part", (1, -4, 5), (100, -1, -5), (1, 1, 1)),
    ("nothing", (3, 0, 0), (3, 9, 37), (1, 1, 1)),
)
PADS = (
    (0, 0, 1, 2, 0, 0, 3, 4), (1, 2, 0, 0, 0, 1, 0, 0), (0, 0, -1, 2, 0, 0, 3, -2), (0, -1, 0, 0, 0, 0, -2, 0),
)  # fmt: skip
REPEATED = ((0, 2, 1, 3), (2, 0, 0, 3), (1, 3, 2, 0))

CASES = [
    *(
        Case(f"Transpose {np.dtype(t).name} {axes}", "Transpose", (Tensor((3, 5, LANES + 2, 7), t),), dict(perm=axes))
        for t, axes in product(TYPES, PERMUTATIONS)
    ),
    Case("Transpose of rank 8", "Transpose", (Tensor((2, 3, 2, 3, 2, 3, 2, 3)),), dict(perm=(7, 5, 3, 1, 6, 4, 2, 0))),
    *(
        Case(
            f"Slice {np.dtype(dtype).name}, {name}",
            "Slice",
            (Tensor((6, 9, 37), dtype), integers(*begins), integers(*ends), integers(0, 1, 2), integers(*steps)),
        )
        for dtype in (np.float32, np.int8)
        for name, begins, ends, steps in SLICES
    ),
    Case("Split in uneven parts", "Split", (Tensor((2, 6, 7, 5)), integers(4, 3)), dict(axis=2), outputs=2),
    Case("Split in halves", "Split", (Tensor((2, 6, 7, 5)), None), dict(axis=1, num_outputs=2), outputs=2),
    *(
        Case(f"Concat in axis {axis}", "Concat", (Tensor((2, 5, 4, 4)),) * 3, dict(axis=axis)) for axis in (0, 1, 2, -1)
    ),
    *(
        Case(f"Expand {np.dtype(t).name} {'x'.join(map(str, shape))}", "Expand", (Tensor(shape, t), integers(3, 4, 5)))
        for t in TYPES
        for shape in ((3, 1, 5), (1, 4, 1), (3, 4, 1), (1, 1, 1), (5,))
    ),
    *(Case(f"Tile {np.dtype(t).name}", "Tile", (Tensor((3, 4), t), integers(2, 3))) for t in TYPES),
    Case("Tile two of six axes", "Tile", (Tensor((2, 3, 1, 2, 3, 2)), integers(1, 2, 1, 1, 3, 1))),
    Case("Tile all of four axes", "Tile", (Tensor((2, 3, 1, 2)), integers(3, 2, 4, 2))),
    *(
        Case(
            f"Pad {np.dtype(t).name}",
            "Pad",
            (Tensor((3, 4), t), integers(1, 0, 2, 3), constant(1 if t == np.bool_ else 5, t)),
        )
        for t in TYPES
    ),
    *(
        Case(f"Pad {pads} with {value}", "Pad", (Tensor((2, 3, 5, 6)), integers(*pads), value and constant(value)))
        for pads, value in product(PADS, (None, -1.5))
    ),
    Case("Pad with a computed value", "Pad", (Tensor((2, 3, 5)), integers(1, 2, 3, 4, 0, 1), Tensor((1,)))),
    Case("Pad of axes", "Pad", (Tensor((2, 3, 5)), integers(1, 2, 3, 4), constant(0.25), integers(-1, 0))),
    *(
        Case(f"Pad {mode} {pads} of rank {len(shape)}", "Pad", (Tensor(shape), integers(*pads)), dict(mode=mode))
        for mode, (top, left, bottom, right) in product(("reflect", "edge", "wrap"), REPEATED)
        for shape, pads in (
            ((3, 5), (top, left, bottom, right)),
            ((2, 3, 5, 4), (0, 0, top, left, 0, 0, bottom, right)),
        )
    ),
    *(
        Case(f"DepthToSpace {channels} by {size} {mode}", "DepthToSpace", (Tensor((2, channels, 3, 5)),),
             dict(blocksize=size, mode=mode))
        for (channels, size), mode in product(((4, 2), (18, 3), (64, 2), (128, 2), (256, 4)), ("DCR", "CRD"))
    ),
    *(
        Case(f"SpaceToDepth {channels} by {size}", "SpaceToDepth", (Tensor((2, channels, 4 * size, 3 * size)),),
             dict(blocksize=size))
        for channels, size in ((3, 2), (16, 2), (40, 3))
    ),
]  # fmt: skip
