"""The choice of register tiles and of Winograd's method: always one that fits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import ceil, prod
from typing import Any

import pytest

from cpuruntime.compiler.isa import LANES, X86
from cpuruntime.graph import Scope, Size, typical
from cpuruntime.host.caches import Caches
from cpuruntime.ops.tiles import tile_shapes
from cpuruntime.ops.tiles.tile_shapes import lane_rows
from cpuruntime.ops.winograd import scratch_bytes
from cpuruntime.program.convolution import winograd_choice
from cpuruntime.program.convolution.depthwise import MOST_TAPS, choose_rows
from cpuruntime.program.convolution.winograd_choice import (
    WinogradSizes,
    WinogradTiling,
    fit_winograd,
    methods,
    rank_methods,
    rank_winograd,
)
from cpuruntime.program.plan.step import KernelChoice
from cpuruntime.program.tuning import tiles
from cpuruntime.program.tuning.bf16_tiles import rank_amx_tilings, rank_bf16_tilings
from cpuruntime.program.tuning.core import Core, core
from cpuruntime.program.tuning.integer_tiles import IntegerGrid, rank_integer_tilings
from cpuruntime.program.tuning.tiles import Grid, Tiling

ISAS = {"avx512", "avx2", "generic", "neon"}

LINES = (1, 7, 112)
PIXELS = (*range(1, 40), 49, 56, 196, 784, 3136, 50176)
BLOCKS = (*range(1, 20), 32, 63, 64, 128)
WORK = ((1, 0), (147, 10**5), (4608, 10**8))  # products in one result, bytes of the source


def sampled(*axes: Sequence[Any], count: int) -> list[tuple[Any, ...]]:
    """Points of the grid, the same in every run; both ends of each axis are among them."""
    chosen = random.Random(0)
    ends = product(*((axis[0], axis[-1]) for axis in axes))
    return [*ends, *(tuple(chosen.choice(axis) for axis in axes) for _ in range(count))]


def choose(*arguments: int) -> Tiling:
    *sizes, threads = arguments
    return tiles.rank_fitting.__wrapped__(Grid(*sizes), threads, (sizes[1], sizes[2]))[0].choice


@pytest.fixture(params=sorted(ISAS))
def shapes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """The tiles of one instruction set, which are the ones chosen from."""
    assert tile_shapes.BY_ISA.keys() == ISAS
    found = tile_shapes.BY_ISA[request.param]
    monkeypatch.setattr(tiles, "tile_shapes", lambda: found)
    return set(found)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_tile_fits_and_its_chunks_cover_everything(shapes: set[tuple[int, int]], threads: int) -> None:
    for lines, pixels, blocks, (inner, source_bytes) in sampled(LINES, PIXELS, BLOCKS, WORK, count=400):
        tiling = choose(lines, pixels, blocks, inner, source_bytes, threads)
        assert (tiling.rows, tiling.columns) in shapes
        assert tiling.rows <= pixels
        assert tiling.columns <= blocks
        assert 1 <= tiling.chunk <= lines * -(-pixels // tiling.rows)


def test_the_tile_does_not_depend_on_the_number_of_threads(shapes: set[tuple[int, int]]) -> None:
    for pixels, blocks in sampled(PIXELS, BLOCKS, count=100):
        chosen = {(t.rows, t.columns) for t in (choose(1, pixels, blocks, 576, 10**6, n) for n in (1, 2, 3, 16, 100))}
        assert len(chosen) == 1


def test_large_layers_get_tiles_that_use_most_registers() -> None:
    tiling = choose(1, 3136, 16, 256, 3136 * 1024, 1)
    largest = max(rows * columns for rows, columns in tile_shapes.tile_shapes())
    assert tiling.rows * tiling.columns >= largest / 2


def test_work_of_one_column_tile_is_cut_for_threads() -> None:
    for threads in (2, 3, 8):
        tiling = choose(1, 3136, 2, 64, 3136 * 256, threads)
        pieces = ceil(ceil(3136 / tiling.rows) / tiling.chunk) * ceil(2 / tiling.columns)
        assert pieces % threads == 0 or pieces >= 8 * threads


def test_a_source_beyond_the_cache_is_worked_on_in_parts() -> None:
    whole, parts = choose(1, 3136, 32, 64, 10**5, 1), choose(1, 3136, 32, 64, 10**7, 1)
    assert whole.chunk == -(-3136 // whole.rows)
    assert parts.chunk < whole.chunk / 4


def test_rows_are_split_with_the_fewest_computed_twice() -> None:
    assert tile_shapes.split_rows(14, 6, 4) == (1, 2)
    assert tile_shapes.split_rows(7, 4, 3) == (1, 1)
    assert tile_shapes.split_rows(7, 7, 7) == (1, 0)
    for count in range(6, 60):
        high, low = tile_shapes.split_rows(count, 6, 4)
        assert count <= 6 * high + 4 * low <= count + (count % 2 if count != 9 else 3)


def test_a_row_takes_weights_in_two_streams_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid(1, 1, 64, 2048, 8192, pairs=True)
    for speed, columns in ((1, 8), (1.25, 4)):
        monkeypatch.setattr(tiles, "core", lambda speed=speed: replace(core(), two_streams=speed))
        choice = tiles.rank_fitting.__wrapped__(grid, 1, (1, 64))[0].choice
        assert (choice.rows, choice.columns) == (1, columns)


@pytest.fixture
def zen3(monkeypatch: pytest.MonkeyPatch) -> Core:
    """A core with AVX2 and caches of 32 KB, 512 KB and 4 MB of 32, as the one that is estimated for."""
    made = Core.of("avx2", Caches(2**19, 2**25, 2**15, 2**22))
    for module in (tiles, winograd_choice):
        monkeypatch.setattr(module, "core", lambda: made)
    monkeypatch.setattr(tile_shapes, "current", lambda: next(isa for isa in X86 if isa.name == "avx2"))
    return made


LAYERS_1X1 = ((64, 256, 56), (256, 64, 56), (128, 512, 28), (512, 128, 28), (1024, 256, 14), (2048, 512, 7))
"""Of ResNet-50: inputs, outputs, pixels squared."""


@pytest.mark.parametrize("layer", LAYERS_1X1)
def test_tiles_for_avx2_have_more_accumulators_than_multiply_adds_wait_for(
    zen3: Core, layer: tuple[int, int, int]
) -> None:
    inputs, outputs, extent = layer
    pixels = extent**2
    tiling = choose(1, pixels, outputs // 8, inputs, 4 * inputs * pixels, 1)
    assert (tiling.rows, tiling.columns) in {(6, 2), (5, 2), (4, 3)}
    assert tiling.rows * tiling.columns > zen3.ports * zen3.cycles


def test_winograds_memory_follows_the_caches(zen3: Core) -> None:
    assert zen3.scratch == 2**21
    layer = WinogradSizes(1, 1, 32, 32, 57, 55, (3, 3))  # of no other test: estimates are remembered by sizes
    for method in methods(layer.kernel, layer.strides):
        best = rank_winograd(layer, method, 1)[0].choice
        assert scratch_bytes(method, 32, 32, best.group) <= zen3.scratch
        assert best.rows * best.columns > zen3.ports * zen3.cycles


def test_an_estimate_counts_lower_tiles() -> None:
    rows, columns = tile_shapes.tile_shapes()[0]
    low = tile_shapes.low_rows(rows, columns)
    assert low < rows

    def cost(pixels: int) -> float:
        ranked = tiles.rank_fitting.__wrapped__(Grid(1, pixels, columns, 576, 0), 1, (pixels, columns))
        return next(c.cost for c in ranked if (c.choice.rows, c.choice.columns) == (rows, columns))

    assert cost(rows + low) < cost(2 * rows)


@pytest.mark.parametrize("isa", sorted(ISAS))
def test_there_is_a_tile_for_a_single_row_and_column(isa: str) -> None:
    assert (1, 1) in tile_shapes.BY_ISA[isa]


@pytest.mark.parametrize("taps", range(1, MOST_TAPS + 1))
def test_lane_tiles_fit(taps: int) -> None:
    assert list(lane_rows(taps)) == sorted(lane_rows(taps), reverse=True)
    for width in range(1, 60):
        assert choose_rows(width, taps) <= width


def test_lane_tiles_are_as_wide_as_the_image_when_they_can() -> None:
    for rows in lane_rows(3):
        assert choose_rows(rows, 3) == rows
        assert choose_rows(2 * rows, 3) >= rows


EXTENTS = ((1, 3), (1, 2, 9, 32), (1, 5, 32), (1, 2, 3, 7, 14), (1, 2, 7, 33), ((3, 3), (5, 5), (1, 3)))
LAYERS = [WinogradSizes(batch, 1, *sizes) for batch, *sizes in sampled(*EXTENTS, count=60)]
LAYERS += [WinogradSizes(1, 4, 1, 2, 14, 14, (3, 3)), WinogradSizes(3, 2, 8, 8, 9, 5, (5, 5))]
LAYERS += [WinogradSizes(1, 1, 9, 9, 28, 28, (3, 3), (2, 2))]


def tilings(layer: WinogradSizes, threads: int) -> list[tuple[float, WinogradTiling]]:
    ranked = (rank_winograd(layer, method, threads) for method in methods(layer.kernel, layer.strides))
    return [(one.cost, one.choice) for candidates in ranked for one in candidates]


def test_winograds_tilings_fit() -> None:
    for layer in LAYERS:
        for threads in (1, 2, 16):
            for cost, tiling in tilings(layer, threads):
                outputs_y, outputs_x = tiling.method.vertical.outputs, tiling.method.horizontal.outputs
                assert (tiling.tiles_x - 1) * outputs_x < layer.width <= tiling.tiles_x * outputs_x
                assert (tiling.tiles_y - 1) * outputs_y < layer.height <= tiling.tiles_y * outputs_y
                assert tiling.rows <= tiling.group <= layer.batch * tiling.tiles_x * tiling.tiles_y
                assert tiling.columns <= layer.out_blocks
                size = scratch_bytes(tiling.method, layer.in_blocks, layer.out_blocks, tiling.group)
                assert size <= core().scratch or tiling.group == tiling.rows
                assert cost > 0


def test_the_best_method_comes_first_and_all_are_there() -> None:
    for layer in LAYERS:
        ranked = rank_methods(layer)
        assert {one.choice for one in ranked} == {None, *methods(layer.kernel, layer.strides)}
        assert ranked[0].cost == min(one.cost for one in ranked)


def test_winograd_is_chosen_where_it_does_a_fraction_of_the_work() -> None:
    blocks = 64 // LANES
    assert rank_methods(WinogradSizes(1, 1, blocks, blocks, 56, 56, (3, 3)))[0].choice is not None
    assert rank_methods(WinogradSizes(1, 2, blocks, blocks, 28, 28, (5, 5)))[0].choice is not None
    assert rank_methods(WinogradSizes(1, 1, blocks, blocks, 1, 1, (3, 3)))[0].choice is None


@pytest.mark.parametrize(
    ("kernel", "strides", "names"),
    [
        ((3, 3), (1, 1), ["4x4_3x3", "3x3_3x3", "2x2_3x3"]),
        ((3, 3), (2, 2), ["3x3_3x3_s2x2", "2x2_3x3_s2x2"]),
        ((5, 5), (1, 1), ["2x2_5x5"]),
        ((1, 7), (1, 1), ["1x3_1x7"]),
        ((3, 1), (1, 1), ["4x1_3x1", "3x1_3x1", "2x1_3x1"]),
        ((1, 1), (1, 1), []),
        ((1, 1), (2, 2), []),
        ((11, 11), (4, 4), []),
    ],
)
def test_winograds_methods(kernel: tuple[int, int], strides: tuple[int, int], names: list[str]) -> None:
    assert [method.name for method in methods(kernel, strides)] == names


def open_sizes(*extents: int, ratio: int) -> list[Size]:
    """Sizes in a model whose inputs have `ratio` times as many elements as the extents."""
    scope = Scope(extents)
    found = scope.sizes()
    scope.volume = ratio * prod(found)
    return found


def numbers(found: Sequence[Any], *extents: int) -> list[int]:
    """The values of sizes at other extents of the model's inputs."""
    scope = next(number.scope for number in found if isinstance(number, Size))
    scope.choose(extents)
    return [typical(number) for number in found]


WIDTHS = (*range(2, 40), 77, 640, 5000)


@pytest.mark.parametrize("least", [0, 3, 60])
def test_an_open_width_takes_a_tile_that_fits(
    shapes: set[tuple[int, int]], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "rank_fitting", tiles.rank_fitting.__wrapped__)
    (width,) = Scope([9]).sizes()
    choice = tiles.rank_tilings(Grid(width, width + least, 4, 576, 64 * width), 2)[0].choice
    made = choice.fit(width + least, lambda rows: (rows, choice.columns))
    rows = made.kernels if isinstance(made, KernelChoice) else (made,)
    assert set(rows) <= shapes
    for extent in WIDTHS:
        (chunk,) = numbers([choice.chunk], extent)
        assert (made.at_hand if len(rows) > 1 else made)[0] <= extent + least
        assert chunk >= 1
    assert rows[-1] == (choice.rows, choice.columns)
    assert len(rows) == 1 or least < choice.rows


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("ratio", [20, 2_000])
def test_open_images_take_a_tiling_of_winograds_method_that_fits(threads: int, ratio: int) -> None:
    chosen = set()
    for height, width in ((9, 5), (40, 50), (7, 100)):
        layer = WinogradSizes(1, 1, 8, 8, *open_sizes(height, width, ratio=ratio), (3, 3))
        chosen.add(tuple(one.choice for one in rank_methods(layer.of_class())))
        for method in methods(layer.kernel, layer.strides):
            (found,) = fit_winograd(layer, method, threads)
            tiling = found.choice
            for extents in product((2, 3, 7, 8, 50, 640), repeat=2):
                group, *tiles_of = numbers([tiling.group, tiling.tiles_y, tiling.tiles_x], *extents)
                outputs = method.vertical.outputs, method.horizontal.outputs
                assert tiles_of == [-(-extent // each) for extent, each in zip(extents, outputs)]
                assert 1 <= group <= prod(tiles_of)
                assert scratch_bytes(method, 8, 8, group) <= core().scratch
    assert len(chosen) == 1


@pytest.mark.skipif(LANES < 8, reason="no tiles of VNNI")
@pytest.mark.parametrize("pixels", [1, 30, 4096])
def test_amx_which_no_processor_has_run_is_never_the_first_choice(pixels: int) -> None:
    grid = IntegerGrid(1, 1, pixels, 64, 1024, 1024 * pixels)
    tried = rank_integer_tilings(grid, {"vnni": 0.0}, 2)
    both = rank_integer_tilings(grid, {"vnni": 0.0, "amx": 0.0}, 2)
    assert both[0] == tried[0]
    assert [each.choice.kind for each in both].count("amx") == 1
    (by_tiles,) = (each for each in both if each.choice.kind == "amx")
    assert (by_tiles.cost < 1.1 * both[0].cost) == (pixels > 1)
    assert "never tested on a processor with AMX" in by_tiles.name


@pytest.mark.parametrize(("pixels", "threads"), [(16, 1), (100, 2), (4096, 3)])
def test_amx_is_the_second_choice_for_bf16_where_a_line_fills_a_tile_register(pixels: int, threads: int) -> None:
    grid = Grid(1, pixels, 64, 512, pixels * 2048)
    (by_tiles,) = rank_amx_tilings(grid, threads)
    assert by_tiles.choice.rows <= pixels
    assert by_tiles.cost > rank_bf16_tilings(grid, threads)[0].cost
    assert rank_amx_tilings(replace(grid, pixels=15), threads) == ()
