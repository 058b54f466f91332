"""Every register tile keeps its accumulators in registers: a spilled one costs a quarter of the speed."""

from __future__ import annotations

import pytest
from support.spills import STORE, Variant, count_spills, spills_in

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES, bf16_products, current
from cpuruntime.ops.matmul import matmul
from cpuruntime.ops.tiles.integer_shapes import integer_shapes, kinds
from cpuruntime.ops.tiles.tile_shapes import UNROLL, lane_rows, low_rows, tile_shapes, winograd_shapes
from cpuruntime.program.convolution import quantised_depthwise
from cpuruntime.program.convolution.depthwise import MOST_TAPS

CONVOLUTIONS: list[Variant] = [("convolution", (*shape, UNROLL, VECTOR_BYTES)) for shape in tile_shapes()]
PRODUCTS: list[Variant] = [("matmul", shape) for shape in tile_shapes()]
# The largest lane tiles for every number of kernel columns that they slide over.
DEPTHWISE: list[Variant] = [("depthwise", (lane_rows(1)[0], 1, None, 1, 1))]
DEPTHWISE += [("depthwise", (lane_rows(t)[0], t, stride, 1, 1)) for t in range(2, MOST_TAPS + 1) for stride in (1, 2)]
# Groups within a vector have their inputs moved to the lanes of their outputs.
DEPTHWISE += [("depthwise", (lane_rows(3, i)[0], 3, stride, i, 4)) for stride in (1, 2) for i in (1, 2, 4)]
DEPTHWISE += [("depthwise", (lane_rows(3, 8)[0], 3, stride, 8, 8)) for stride in (1, 2)] if LANES >= 8 else []
GROUPED: list[Variant] = [("grouped_convolution", (*shape, 4, VECTOR_BYTES)) for shape in tile_shapes()]
# First layers read pixels of three floats; strides move the constants in the addresses.
FIRST = tile_shapes()[0]
OTHERS: list[Variant] = [("convolution", (*FIRST, 3, 2 * 12)), ("convolution", (*FIRST, UNROLL, 2 * VECTOR_BYTES))]
INTEGER: list[Variant] = [
    ("quantised_product", (kind, *shape, "rows", False)) for kind in kinds() for shape in integer_shapes(kind)
]
INTEGER += [
    ("quantised_depthwise", (quantised_depthwise.lane_rows(taps)[0], taps, stride, False))
    for taps in (3, quantised_depthwise.MOST_TAPS) for stride in (1, 2)
]  # fmt: skip
ROUNDING = (False, True) if bf16_products() else (False,)
WINOGRAD: list[Variant] = [("winograd_product", (*s, rounds)) for s in winograd_shapes() for rounds in ROUNDING]
VARIANTS = [*CONVOLUTIONS, *PRODUCTS, *DEPTHWISE, *GROUPED, *OTHERS, *INTEGER, *WINOGRAD]
# More accumulators than registers.
TOO_LARGE: Variant = ("convolution", (current().registers, 2, UNROLL, VECTOR_BYTES))

TOO_LARGE_INTEGER: Variant = ("quantised_product", ("w16", current().registers, 2, "rows", False))


@pytest.fixture(scope="module")
def spills() -> dict[Variant, int]:
    return count_spills([TOO_LARGE, TOO_LARGE_INTEGER, *VARIANTS])


@pytest.mark.every_isa
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v[0]}-{'x'.join(map(str, v[1]))}")
def test_no_accumulator_is_spilled(variant: Variant, spills: dict[Variant, int]) -> None:
    assert spills[variant] == 0


@pytest.mark.every_isa
def test_spills_are_counted(spills: dict[Variant, int]) -> None:
    assert spills[TOO_LARGE] >= current().registers
    assert spills[TOO_LARGE_INTEGER] >= 1


@pytest.mark.parametrize(
    ("tile", "parts"),
    [(FIRST, [FIRST, (low_rows(*FIRST) % FIRST[0], FIRST[1])]), ((1, 2), [(1, 2), (1, 4)])],
    ids=["and a lower tile", "and a pair of tiles"],
)  # fmt: skip
def test_parts_of_products_store_whole_vectors_without_a_mask(
    tile: tuple[int, int], parts: list[tuple[int, int]]
) -> None:
    stores = len(STORE.findall(matmul(*tile).assembly()))
    shared = len(parts) - 1  # the parts' last stores may be one, which they jump to
    assert stores >= sum(rows * columns for rows, columns in parts) - shared


@pytest.mark.parametrize(
    ("assembly", "count"),
    [
        ("\tvmovups\t%zmm3, 64(%rsp)", 1),
        ("\tmovaps\t%xmm1, (%rsp,%rax)", 1),
        ("\tmovq\t%rsp, %rbp\n\tvmovaps\t%ymm1, -64(%rbp)\n\tvmovaps\t%ymm2, (%rsp)", 2),
        ("\tvmovups\t%zmm3, -64(%rbp)", 0),
        ("\tvmovdqu64\t%zmm3, 64(%rsp)", 0),
        ("\tvmovups\t%zmm3, 64(%rax)", 0),
        ("\tvmovups\t64(%rsp), %zmm3", 0),
        ("\tvmovss\t%xmm3, 64(%rsp)", 0),
    ],
)
def test_what_counts_as_a_spill(assembly: str, count: int) -> None:
    assert spills_in(assembly) == count
