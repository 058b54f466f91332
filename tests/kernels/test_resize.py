"""Resizing by tables of offsets and weights, against the same sums in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import VECTOR_BYTES, Guarded, blocked, blocked_holding, guarded, holding, run

from cpuruntime.ops.resize import resize_nearest, resize_plain, resize_weighted
from cpuruntime.ops.resize_taps import POSITION_NAMES, ROUNDING_NAMES, resize_taps
from cpuruntime.program.lowerings.resize_tables import POSITIONS, ROUNDINGS, Taps, cubic, linear, nearest, positions

pytestmark = pytest.mark.every_isa

SIZES = [((1, 1), (1, 1)), ((1, 5), (4, 3)), ((6, 7), (12, 14)), ((9, 40), (4, 61)), ((3, 33), (3, 17))]


def taps_of(count: int, source: int, target: int) -> Taps:
    at = positions("half_pixel", target / source, source, target)
    if count == 1:
        return nearest(at, "floor", source)
    return linear(at, source) if count == 2 else cubic(at, source, -0.75, False)


def tables(rows: Taps, columns: Taps, row: int, pixel: int) -> dict[str, Guarded]:
    return {
        "rows": holding(rows.indices * row),
        "row_weights": holding(rows.weights),
        "columns": holding(columns.indices * pixel),
        "column_weights": holding(columns.weights),
    }


def expected(x: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    x = np.einsum("nctkw,tk->nctw", x[:, :, rows.indices].astype(np.float64), rows.weights)
    return np.einsum("nchtk,tk->ncht", x[:, :, :, columns.indices], columns.weights)


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_blocked(taps: int, source: tuple[int, int], target: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 19, *source)).astype(np.float32)
    given, result = blocked_holding(x, (0, 1, 0, 2)), blocked((2, 19, *target), (0, 2, 1, 0))
    rows, columns = taps_of(taps, source[0], target[0]), taps_of(taps, source[1], target[1])
    found = tables(rows, columns, given.array.strides[2], VECTOR_BYTES)
    fields = given.fields("source") | result.fields("target")
    del fields["source_row"]
    fields |= dict(batch=2, blocks=given.array.shape[1], height=target[0], width=target[1])
    if taps == 1:
        run(resize_nearest(4), result, **fields, rows=found["rows"].address, columns=found["columns"].address)
    else:
        scratch = guarded((3, source[1] * VECTOR_BYTES), np.uint8)
        fields |= {name: table.address for name, table in found.items()}
        run(resize_weighted(taps), result, **fields, scratch=scratch.address, scratch_size=scratch.array.strides[0])
        scratch.check()
    np.testing.assert_allclose(result.plain(), expected(x, rows, columns), 1e-5, 1e-5)


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_plain(taps: int, source: tuple[int, int], target: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, *source)).astype(np.float32)
    given, result = holding(x), guarded((2, 3, *target))
    scratch = guarded((3, source[1]))
    rows, columns = taps_of(taps, source[0], target[0]), taps_of(taps, source[1], target[1])
    found = tables(rows, columns, source[1] * 4, 4)
    run(
        resize_plain, result, source=given.address, source_image=source[0] * source[1] * 4, target=result.address,
        images=6, in_width=source[1], height=target[0], width=target[1], row_taps=taps, column_taps=taps, beyond=0.0,
        scratch=scratch.address, scratch_size=source[1] * 4, **{name: table.address for name, table in found.items()},
    )  # fmt: skip
    scratch.check()
    np.testing.assert_allclose(result.array, expected(x, rows, columns), 1e-5, 1e-5)


def test_ties_between_neighbours() -> None:
    at = np.array([0.5, 1.5, 2.4, 2.6, 9.0], np.float32)
    found = {name: nearest(at, name, 6).indices[:, 0].tolist() for name in ROUNDINGS}
    assert found == {
        "round_prefer_floor": [0, 1, 2, 3, 5],
        "round_prefer_ceil": [1, 2, 2, 3, 5],
        "floor": [0, 1, 2, 2, 5],
        "ceil": [1, 2, 3, 3, 5],
    }


AXES = ((1, 1), (1, 5), (5, 1), (7, 14), (14, 7), (40, 61), (61, 40), (33, 33), (256, 255), (3, 1000))
SCALES = (0.0, 0.5, 1.0, 1.7, 3.0)
MODES = [(1, rounding, 0) for rounding in ROUNDING_NAMES] + [(2, "floor", 0), (4, "floor", 0), (4, "floor", 1)]


@np.errstate(invalid="ignore")
def made_by_numpy(mode: tuple[int, str, int], position: str, scale: float, source: int, target: int) -> Taps:
    taps, rounding, outside = mode
    at = positions(position, scale or target / source, source, target)
    if taps == 1:
        return nearest(at, rounding, source)
    return linear(at, source) if taps == 2 else cubic(at, source, -0.6, bool(outside))


@pytest.mark.parametrize("position", POSITION_NAMES)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_tables_made_by_a_step_are_those_made_when_planned(mode: tuple[int, str, int], position: str) -> None:
    taps, rounding, outside = mode
    for source, target in AXES:
        for scale in SCALES:
            wanted = made_by_numpy(mode, position, scale, source, target)
            indices, weights = guarded((target, taps), np.int64), guarded((target, taps), np.float32)
            run(
                resize_taps, indices, indices=indices.address, weights=weights.address, source=source, target=target,
                step=12, taps=taps, position=POSITION_NAMES.index(position), rounding=ROUNDING_NAMES.index(rounding),
                exclude_outside=outside, scale=scale, coefficient=-0.6,
            )  # fmt: skip
            np.testing.assert_array_equal(indices.array, 12 * wanted.indices, f"{source} to {target} by {scale}")
            if taps > 1:
                np.testing.assert_allclose(weights.array, wanted.weights, 0, 1e-6)
            weights.check()


def test_names_of_positions_and_roundings() -> None:
    assert tuple(POSITIONS) == POSITION_NAMES
    assert tuple(ROUNDINGS) == ROUNDING_NAMES
