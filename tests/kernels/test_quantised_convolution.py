"""Convolutions of bytes give the bits of NumPy's int64 arithmetic, by every kind of tile and for all threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.programs import GuardedInstance
from support.quantised import (
    EACH_KIND,
    check_convolution,
    constant,
    convolution_sums,
    force_kind,
    numbers,
    requantise,
)

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.ops.tiles.integer_shapes import integer_shapes
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.convolution.quantised_winograd import suits_winograd
from cpuruntime.program.lowerings.catalogue import find_lowering
from cpuruntime.program.pattern import Pattern
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.template import Template
from cpuruntime.program.tuning import integer_tiles

pytestmark = pytest.mark.every_isa

CASES: dict[str, tuple[Any, ...]] = {
    "pointwise": ((1, 16, 5, 7), 24, (1, 1)),
    "channels of no block, signed": ((2, 19, 5, 7), 27, (1, 1), dict(source="i1", result="i1", residual="i1")),
    "residual": ((2, 19, 5, 7), 27, (3, 3), dict(pads=(1, 1, 1, 1), residual="u1", bias="f4")),
    "residual of bytes": ((2, 19, 5, 7), 43, (1, 1), dict(residual="u1", inner=(0.7, -100, 90))),
    "stride": ((1, 32, 9, 11), 16, (3, 3), dict(pads=(1, 1, 1, 1), strides=(2, 2), bias="f4")),
    "first layer": ((1, 3, 20, 21), 16, (7, 7), dict(pads=(3, 2, 1, 0), strides=(2, 2))),
    "dilation, signed": ((1, 16, 9, 11), 16, (3, 3), dict(pads=(2, 2, 2, 2), dilations=(2, 2), source="i1")),
    "pointwise with stride to float32": ((1, 16, 9, 11), 16, (1, 1), dict(strides=(2, 3), result="f4")),
    "tall kernel": ((1, 16, 12, 11), 16, (3, 1), dict(pads=(1, 0, 1, 0))),
    "groups of blocks": ((1, 4 * LANES, 9, 11), 4 * LANES, (3, 3), dict(pads=(1, 1, 1, 1), group=4)),
    "groups within blocks": ((1, 12, 9, 11), 24, (3, 3), dict(pads=(1, 1, 1, 1), group=4, zeros=True)),
    "unsigned weights": ((1, 16, 9, 11), 16, (3, 3), dict(pads=(1, 1, 1, 1), weights="u1", zeros=True)),
    "few channels, dilated": ((1, 5, 9, 11), 16, (3, 3), dict(pads=(1, 2, 1, 2), dilations=(1, 2), source="i1")),
    "few channels, pointwise": ((1, 3, 9, 11), 16, (1, 1), dict(strides=(2, 1))),
    "no bias": ((1, 16, 1, 1), 40, (1, 1), dict(bias=None)),
}


def kernels_of(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernels of a case, whose results are right to the bit, where a kind of tile is taken if it suits."""
    force_kind(monkeypatch, kind)
    x, channels, kernel, *options = CASES[name]
    planned = check_convolution(x, channels, kernel, **(options[0] if options else {}))
    return " ".join(step.kernel.name for step in planned.program.steps)


@EACH_KIND
@pytest.mark.parametrize("name", CASES)
def test_bits(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "quantised_" in kernels_of(name, kind, monkeypatch)


@pytest.mark.parametrize("name", ["channels of no block, signed", "first layer"])
def test_tiles_of_vnni(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "quantised_vnni" in kernels_of(name, "vnni", monkeypatch)


POINTWISE = [name for name in CASES if "pointwise" in name or name in ("residual of bytes", "no bias")]


@pytest.mark.parametrize("name", [*POINTWISE, "channels of no block, signed"])
def test_tiles_of_amx(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ("quantised_amx" in kernels_of(name, "amx", monkeypatch)) == ("strides" not in CASES[name][-1])


def test_tiles_of_amx_in_groups_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a tile lie two pixels apart, and runs end within tile registers."""
    force_kind(monkeypatch, "amx")
    window = dict(pads=(0, 3, 0, 2), strides=(1, 2), group=2, source="i1", residual="i1")
    for dilation in (1, 2):
        planned = check_convolution((2, 48, 1, 90), 96, (1, 3), dilations=(1, dilation), **window)
        assert any("quantised_amx" in step.kernel.name for step in planned.program.steps)


@pytest.mark.parametrize(
    ("x", "kernel", "options"),
    [
        ((2, LANES + 3, 9, 8), (3, 3), dict(pads=(1, 1, 1, 1), residual="i1", inner=(0.7, -100, 90))),
        ((1, LANES, 9, 17), (3, 3), dict(strides=(2, 2), source="i1", result="i1", zeros=True)),
        ((1, LANES, 9, 8), (2, 3), dict(pads=(3, 2, 2, 3), dilations=(2, 1), weights="u1", zeros=True)),
        ((1, LANES, 2, 1), (3, 3), dict(pads=(1, 1, 1, 1), result="f4", bias="f4")),
    ],
    ids=["residual", "stride, signed", "dilated rows, unsigned", "one pixel to float32"],
)  # fmt: skip
def test_depthwise(x: tuple[int, ...], kernel: tuple[int, int], options: dict[str, Any]) -> None:
    planned = check_convolution(x, x[1], kernel, group=x[1], **options)
    assert any(step.kernel.name.startswith("quantised_depthwise") for step in planned.program.steps)


@pytest.mark.parametrize(("x", "w"), [(255, -128), (0, 127)])
def test_extremes_of_depthwise(x: int, w: int) -> None:
    check_convolution((1, LANES, 3, 8), LANES, (3, 3), group=LANES, fill=(x, w))


@pytest.mark.parametrize(("kernel", "group"), [(3, 1), (1, 1), (3, 16)], ids=["direct", "pointwise", "depthwise"])
@EACH_KIND
def test_one_plan_for_many_sizes(kernel: int, group: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    force_kind(monkeypatch, kind)
    pattern = Pattern([Value("x", Type.u8, (None, 16, None, None))], [(2, 16, 9, 11)])
    scope, sizes, _ = pattern.sizes()
    weights = numbers("i1", (16, 16 // group, kernel, kernel))
    window = dict(kernel_shape=[kernel] * 2, strides=[1, 1], dilations=[1, 1], pads=[kernel // 2] * 4, group=group)
    attributes = dict(**window, x_zero=3, weights_zero=[], y_zero=128, low=0, high=255)
    multiplier = np.full(16, 1e-3, np.float32)
    x, y = Value("x", Type.u8, sizes[0]), Value("y", Type.u8, sizes[0])
    inputs = [x, constant("w", weights), constant("m", multiplier)]
    node = Node("QuantisedConvolution", "c", inputs, [y], attributes, "cpuruntime", 1)
    planner = Planner(Graph("sizes", [x], [y], [node]), WeightStore(), threads=2)
    planner.plan()
    template = Template(planner, scope)
    for shape in [(2, 16, 9, 11), (3, 16, 9, 11), (2, 16, 40, 33), (5, 16, 17, 8), (2, 16, 8, 70), (2, 16, 3, 2)]:
        program = template.at([extent for extent in shape if extent != 16])
        assert program is not None
        data = numbers("u1", shape)
        sums = convolution_sums(data.astype(np.int64) - 3, weights, attributes)
        got = GuardedInstance(program).run_all(data, threads=2)[0]
        np.testing.assert_array_equal(got, requantise(sums, multiplier[0], None, attributes, "u1"))


def force_winograd(monkeypatch: pytest.MonkeyPatch) -> None:
    force_kind(monkeypatch, "w16")
    monkeypatch.setattr(integer_tiles, "integer_shapes", integer_shapes)
    for cost in ("PIXEL_COST", "SUM_COST"):
        monkeypatch.setattr(integer_tiles, cost, -1e6)


@pytest.mark.parametrize(
    ("x", "channels", "options"),
    [
        ((2, 19, 9, 11), 27, dict(pads=(1, 1, 1, 1), residual="u1", inner=(0.7, -100, 90))),
        ((1, 16, 8, 8), 2 * LANES, dict(pads=(1, 0, 0, 1), source="i1", result="i1", residual="i1")),
        ((1, 16, 7, 6), LANES + 8, dict(pads=(2, 2, 2, 2), weights="u1", zeros=True, result="f4", bias="f4")),
        ((1, 16, 3, 3), 2 * LANES, dict()),
    ],
    ids=["odd sizes, residual", "signed", "unsigned weights to float32", "one pixel"],
)
def test_winograd(
    x: tuple[int, ...], channels: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    force_winograd(monkeypatch)
    planned = check_convolution(x, channels, (3, 3), **options)
    assert any(step.kernel.name.startswith("quantised_winograd") for step in planned.program.steps)


@pytest.mark.parametrize("x", [0, 255])
@pytest.mark.parametrize("w", [-128, 127])
def test_extremes_of_winograd(x: int, w: int, monkeypatch: pytest.MonkeyPatch) -> None:
    force_winograd(monkeypatch)
    check_convolution((1, 64, 4, 4), 16, (3, 3), pads=(1, 1, 1, 1), fill=(x, w))


@pytest.mark.parametrize(("channels", "suits"), [(1841, True), (1843, False)])
def test_winograd_is_taken_where_four_times_the_sums_fit(channels: int, suits: bool) -> None:
    x, y = Value("x", Type.u8, (1, channels, 4, 4)), Value("y", Type.u8, (1, 8, 4, 4))
    weights = np.broadcast_to(np.int8(-127), (8, channels, 3, 3))
    window = dict(kernel_shape=[3, 3], strides=[1, 1], dilations=[1, 1], pads=[1, 1, 1, 1], group=1)
    g = Geometry.of(Node("QuantisedConvolution", "c", [x], [y], window, "cpuruntime", 1))
    assert suits_winograd(g, weights) == suits


@EACH_KIND
@pytest.mark.parametrize("x", [0, 255])
@pytest.mark.parametrize("w", [-128, 127])
def test_extremes_never_saturate(x: int, w: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    force_kind(monkeypatch, kind)
    check_convolution((1, 64, 2, 3), 16, (1, 1), fill=(x, w))


@pytest.mark.parametrize("source", ["u1", "i1"])
def test_the_convolution_that_saturates_elsewhere_is_exact(source: str) -> None:
    """64 products of the largest operands; other runtimes give half of it or nothing."""
    largest = 255 if source == "u1" else 127
    planned = check_convolution((1, 64, 1, 1), 16, (1, 1), source=source, fill=(largest, 127), result="f4", bias=None)
    assert planned.kernels == []


def test_a_convolution_with_computed_weights_has_no_kernel() -> None:
    x, w = Value("x", Type.u8, (1, 8, 4, 4)), Value("w", Type.i8, (8, 8, 1, 1))
    m = Value("m", Type.f32, (8,), constant=np.ones(8, np.float32))
    node = Node("QuantisedConvolution", "c", [x, w, m], [Value("y", Type.u8, (1, 8, 4, 4))], {}, "cpuruntime", 1)
    assert "constant weights" in str(find_lowering(node))
