"""Matrix products of bytes give the bits of NumPy's int64 arithmetic, by every kind of tile and for all threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.programs import NodeProgram, same_for_threads
from support.quantised import EACH_KIND, TYPES, constant, force_kind, limits_of, numbers, requantise

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Node, Value
from cpuruntime.ops.tiles.integer_shapes import SIDE, kinds
from cpuruntime.program.lowerings import quantised_product
from cpuruntime.program.lowerings.catalogue import find_lowering
from cpuruntime.program.plan.integer_weights import PAIR, Excess, PackedWeights

pytestmark = pytest.mark.every_isa


def node_of(
    a: np.ndarray, b: np.ndarray, result: str, multiplier: np.ndarray, bias: np.ndarray | None, zeros: list[int],
    computed: bool = False, more: tuple[np.ndarray, ...] = (),
) -> Node:  # fmt: skip
    """The product's node; `more` are the scale of the rows and the zero point, known at run time."""
    right = Value("b", TYPES[b.dtype.str[1:]], b.shape) if computed else constant("b", b)
    values = [Value("a", TYPES[a.dtype.str[1:]], a.shape), right, constant("m", multiplier)]
    values.append(None if bias is None else constant("bias", bias))
    values += [Value(f"more{i}", TYPES[array.dtype.str[1:]], array.shape) for i, array in enumerate(more)]
    shape = (*a.shape[:-1], b.shape[-1])
    attributes = dict(a_zero=5, b_zero=zeros, **limits_of(result))
    return Node(
        "QuantisedMatMul", "p", values, [Value("y", TYPES[result], shape)], attributes, "cpuruntime", 1
    )


CASES: dict[str, tuple[Any, ...]] = {
    "whole tiles": ((3, 50, 64), (64, 48), "u1", "i1", "u1", [], "i4"),
    "tails, zero points": ((3, 13, 61), (61, 45), "i1", "i1", "i1", [1] * 45, "f4"),
    "unsigned weights to float32": ((7, 100), (100, 33), "u1", "u1", "f4", list(range(100, 133)), None),
    "one row": ((1, 3), (3, 5), "i1", "i1", "u1", [], "i4"),
    "many steps": ((77, 200), (200, 90), "u1", "i1", "f4", [], "f4"),
}


@EACH_KIND
@pytest.mark.parametrize("name", CASES)
def test_constant_weights(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    force_kind(monkeypatch, kind)
    left, right, a_type, b_type, result, zeros, bias_type = CASES[name]
    a, b = numbers(a_type, left), numbers(b_type, right, 1)
    rng = np.random.default_rng(2)
    multiplier = (rng.uniform(0.5, 1.5, right[-1]) / right[0] ** 0.5 / 60).astype(np.float32)
    bias = None if bias_type is None else rng.uniform(-1000, 1000, right[-1]).astype(bias_type)
    node = node_of(a, b, result, multiplier, bias, zeros)
    sums = (a.astype(np.int64) - 5) @ (b.astype(np.int64) - np.array(zeros or [0]))
    got = same_for_threads(NodeProgram(node, threads=3), a)
    np.testing.assert_array_equal(got, requantise(sums, multiplier, bias, node.attributes, result))


def test_tiles_of_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    test_constant_weights("tails, zero points", "vnni", monkeypatch)


@pytest.mark.parametrize("name", ["whole tiles", "many steps"])
def test_tiles_of_amx(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    chosen = quantised_product.quantised_product
    monkeypatch.setattr(quantised_product, "quantised_product", lambda *of: used.append(of[0]) or chosen(*of))
    test_constant_weights(name, "amx", monkeypatch)
    assert set(used) == {"amx"}


@pytest.mark.parametrize(
    ("left", "right", "dtype", "zero"), [
        ((2, 3, 20, 30), (2, 3, 30, 19), "u1", 128), ((9, 64), (64, 32), "i1", -4),
        ((2, 7, 101), (2, 101, 3 * LANES + 5), "u1", 0), ((1, 3), (3, 2), "i1", 127),
    ],
)
@pytest.mark.parametrize("kind", ["w16", "vnni", "amx"])
def test_two_activations(
    left: tuple[int, ...], right: tuple[int, ...], dtype: str, zero: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "amx" and -(-right[-1] // LANES) * LANES < SIDE:
        pytest.skip("a tile register takes more columns than there are vectors")
    monkeypatch.setattr(quantised_product, "kinds", lambda: (kind,))
    a, b = numbers(dtype, left), numbers(dtype, right, 1)
    multiplier = np.full(1, 1e-3, np.float32)
    node = node_of(a, b, "u1", multiplier, None, [zero], computed=True)
    sums = (a.astype(np.int64) - 5) @ (b.astype(np.int64) - zero)
    got = same_for_threads(NodeProgram(node, threads=3), a, b)
    np.testing.assert_array_equal(got, requantise(sums, multiplier, None, node.attributes, "u1"))


@EACH_KIND
@pytest.mark.parametrize("by_row", [False, True])
def test_scales_and_zero_points_known_at_run_time(by_row: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    force_kind(monkeypatch, kind)
    a, b = numbers("u1", (11, 40)), numbers("i1", (40, 24), 1)
    scale = np.linspace(0.01, 0.02, 11 if by_row else 1, dtype=np.float32)
    multiplier = np.linspace(0.01, 0.03, 24, dtype=np.float32)
    bias = np.linspace(-3, 3, 24, dtype=np.float32)
    zero = np.array(77, np.uint8)
    node = node_of(a, b, "f4", multiplier, bias, [], more=(scale, zero))
    sums = (a.astype(np.int64) - 77) @ b.astype(np.int64)
    expected = requantise(sums, scale[:, None] * multiplier, bias, node.attributes, "f4")
    np.testing.assert_array_equal(same_for_threads(NodeProgram(node, threads=3), a, scale, zero), expected)


def test_pairs_that_could_saturate_are_cut() -> None:
    weights = numbers("i1", (48, 64))
    weights[:8, :4] = [[127, 127, -128, -128]]
    excess = Excess.of(weights)
    kept = weights.astype(np.int64)
    kept[excess.rows, excess.columns] -= excess.values
    pairs = np.stack([np.maximum(kept, 0), np.maximum(-kept, 0)]).reshape(2, 48, -1, 2).sum(-1)
    assert pairs.max() == PAIR
    assert np.abs(excess.values.astype(int)).max() <= PAIR
    for sign in (1, -1):  # what is cut needs no cut itself
        taken = np.zeros_like(kept)
        taken[excess.rows, excess.columns] = np.maximum(sign * excess.values.astype(int), 0)
        assert taken.reshape(48, -1, 2).sum(-1).max() <= PAIR
    assert 0 < excess.share(weights) <= 1
    assert Excess.of(np.clip(weights, -64, 64)).share(weights) == 0


@pytest.mark.skipif("ubs" not in kinds(), reason="tiles of bytes")
@pytest.mark.parametrize("inner", [64, 200])
def test_gathered_steps(inner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes pick more than they have places for, from all vectors of channels, and the extremes."""
    force_kind(monkeypatch, "ubs")
    monkeypatch.setattr(quantised_product, "extra_work", lambda *given: (True, 0.0))
    a, b = numbers("u1", (13, inner)), (numbers("i1", (inner, 45), 1) // 2).astype(np.int8)
    b[4:6, 3], b[12:32, 7], b[46:50, 8], a[0], a[1] = -128, 127, -128, 255, 0
    multiplier = np.full(45, 1e-3, np.float32)
    node = node_of(a, b, "f4", multiplier, None, [])
    planned = NodeProgram(node, threads=3)
    assert [step.arguments["gathered"] for step in planned.program.steps] == [1]
    sums = (a.astype(np.int64) - 5) @ b.astype(np.int64)
    expected = requantise(sums, multiplier, None, node.attributes, "f4")
    np.testing.assert_array_equal(same_for_threads(planned, a), expected)


def test_what_gathered_steps_take_never_saturates() -> None:
    weights = numbers("i1", (24, 192))
    excess = Excess.of(weights)
    taken, places, rest = excess.split(96)
    assert len(taken.rows) + len(rest.rows) == len(excess.rows)
    assert len(rest.rows)
    lanes = np.zeros((24, 2, 2, 4), np.int64)
    unit = taken.rows, taken.columns // 96, taken.columns % 96 // 64, places
    assert len(set(zip(*unit))) == len(taken.rows)
    lanes[unit] = taken.values
    assert np.abs(lanes.reshape(24, 2, 2, 2, 2).sum(-1)).max() <= PAIR


def test_extra_steps_are_those_of_each_column() -> None:
    weights = np.zeros((2 * LANES, 16), np.int8)
    weights[LANES, 8:10] = 127
    packed = PackedWeights("ubs", weights, 2, [0], Excess.of(weights))
    assert packed.extras() == [0, 1, -1 - 8]


@pytest.mark.parametrize(("inner", "has_kernel"), [(33_025, True), (33_026, False)])
def test_sums_of_two_activations_have_a_kernel_where_they_fit(inner: int, has_kernel: bool) -> None:
    a, b = np.zeros((1, inner), np.uint8), np.zeros((inner, 1), np.uint8)
    found = find_lowering(node_of(a, b, "u1", np.ones(1, "f4"), None, [0], True))
    assert has_kernel == (not isinstance(found, str))


def test_stacks_of_other_shapes_have_no_kernel() -> None:
    a, b = numbers("u1", (2, 3, 4)), numbers("u1", (3, 4, 5))
    assert "stacks of the same shape" in str(find_lowering(node_of(a, b, "u1", np.ones(1, "f4"), None, [0], True)))
