"""Pooling kernels against ONNX's reference and ONNX Runtime."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from support.judge import onnx_runtime_session
from support.kernels import LANES, Blocked, block, blocked, blocked_holding, run

from cpuruntime.ops import pooling

OPSET = 22


def model(operator: str, attributes: dict[str, Any]) -> onnx.ModelProto:
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4) for name in "xy"]
    graph = helper.make_graph([node], "pool", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def reference(operator: str, x: np.ndarray, **attributes: Any) -> np.ndarray:
    return ReferenceEvaluator(model(operator, attributes)).run(None, {"x": x})[0]


def onnx_runtime(operator: str, x: np.ndarray, **attributes: Any) -> np.ndarray:
    return onnx_runtime_session(model(operator, attributes)).run(None, {"x": x})[0]


def pool(
    average: bool,
    x: np.ndarray,
    size: tuple[int, int],
    kernel_shape: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilations: tuple[int, int] = (1, 1),
    count_include_pad: int = 0,
    halo: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Blocked:
    """Runs the kernel into a target of `size`; the source's halo holds what no window may read."""
    source = blocked_holding(x, halo, halo_value=1e30)
    target = blocked((*x.shape[:2], *size), halo=(1, 2, 1, 1), halo_value=7.0)
    run(
        pooling.pool(average),
        target,
        **source.fields("source"),
        **target.fields("target"),
        batch=x.shape[0], blocks=source.array.shape[1],
        in_height=x.shape[2], in_width=x.shape[3], height=size[0], width=size[1],
        kernel_height=kernel_shape[0], kernel_width=kernel_shape[1],
        stride_height=strides[0], stride_width=strides[1],
        dilation_height=dilations[0], dilation_width=dilations[1],
        pad_top=pads[0], pad_left=pads[1], pad_bottom=pads[2], pad_right=pads[3], include_pad=count_include_pad,
    )  # fmt: skip
    assert np.isfinite(target.array).all()
    return target


def data(*shape: int, seed: int = 0) -> np.ndarray:
    """Mostly negative, so that zeros taken from the padding would win."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) - 3


def attributes_of(kernel: Any, strides: Any, pads: Any, dilations: Any, ceil_mode: int) -> dict[str, Any]:
    return {"kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations, "ceil_mode": ceil_mode}


def check(average: bool, x: np.ndarray, include_pad: int = 0, **attributes: Any) -> None:
    """Against ONNX Runtime: ONNX's reference misreads some asymmetric paddings and overhangs."""
    operator = "AveragePool" if average else "MaxPool"
    given = attributes | ({"count_include_pad": include_pad} if average else {})
    expected = onnx_runtime(operator, x, **given)
    del attributes["ceil_mode"]
    target = pool(average, x, expected.shape[2:], count_include_pad=include_pad, halo=(1, 1, 2, 1), **attributes)
    np.testing.assert_allclose(target.plain(), expected, rtol=1e-5 if average else 0)


KERNELS = [
    ((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
    ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    ((3, 3), (2, 2), (0, 0, 1, 1), (1, 1)),
    ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    ((3, 3), (1, 1), (2, 0, 1, 2), (1, 1)),
    ((2, 3), (1, 1), (0, 2, 1, 1), (2, 1)),
    ((3, 2), (1, 1), (1, 1, 0, 0), (1, 2)),
    ((2, 2), (3, 4), (1, 0, 1, 1), (1, 1)),
    ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    ((5, 4), (1, 2), (2, 3, 4, 1), (1, 1)),
    ((3, 3), (2, 1), (1, 2, 1, 2), (2, 2)),
]


@pytest.mark.every_isa
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_windows(average: bool, kernel: Any) -> None:
    for ceil_mode, include_pad in product((0, 1), (0, 1) if average else (0,)):
        check(average, data(1, LANES + 1, 9, 11), include_pad, **attributes_of(*kernel, ceil_mode))


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 8, 9, 10, 13, 17])
def test_widths(average: bool, width: int) -> None:
    for strides in ((1, 1), (2, 2)):
        check(average, data(1, 3, 3, width), **attributes_of((3, 3), strides, (1, 1, 1, 1), (1, 1), 0))


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("channels", [1, LANES - 1, LANES, LANES + 1, 3 * LANES + 5])
def test_channels_and_batch(average: bool, channels: int) -> None:
    for kernel in KERNELS[:4]:
        check(average, data(3, channels, 6, 7), **attributes_of(*kernel, 0))


@pytest.mark.parametrize("average", [False, True])
def test_window_as_large_as_the_image(average: bool) -> None:
    check(average, data(2, LANES, 6, 9), **attributes_of((6, 9), (1, 1), (0, 0, 0, 0), (1, 1), 0))
    check(average, data(2, LANES, 1, 1), **attributes_of((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 0))


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(("strides", "kernel"), [((3, 3), (2, 2)), ((2, 2), (2, 3)), ((1, 3), (3, 4))])
def test_ceil_mode_overhang(average: bool, strides: tuple[int, int], kernel: tuple[int, int]) -> None:
    for include_pad in (0, 1) if average else (0,):
        for pads in ((0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 1, 0)):
            check(average, data(1, 3, 8, 10), include_pad, **attributes_of(kernel, strides, pads, (1, 1), 1))


@pytest.mark.parametrize(("average", "outside"), [(False, -np.inf), (True, 0.0)])
def test_windows_outside_of_the_image(average: bool, outside: float) -> None:
    x = data(1, LANES, 1, 1)
    source, target = blocked_holding(x), blocked((1, LANES, 2, 6))
    run(
        pooling.pool(average), target, **source.fields("source"), **target.fields("target"),
        batch=1, blocks=1, in_height=1, in_width=1, height=2, width=6,
        kernel_height=2, kernel_width=2, stride_height=1, stride_width=1, dilation_height=3, dilation_width=3,
        pad_top=1, pad_left=3, pad_bottom=3, pad_right=5, include_pad=0,
    )  # fmt: skip
    expected = np.full((1, LANES, 2, 6), outside, np.float32)
    np.testing.assert_array_equal(target.plain()[:, :, 0], expected[:, :, 0])
    expected[:, :, 1, [0, 3]] = x[:, :, 0]
    np.testing.assert_array_equal(target.plain(), expected)


@pytest.mark.parametrize("position", range(9))
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_the_maximum_of_a_window_with_a_nan_is_nan(position: int, strides: tuple[int, int]) -> None:
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3) - 20
    x[0, 0, position // 3, position % 3] = np.nan
    source, target = blocked_holding(np.repeat(x, LANES, axis=1)), blocked((1, LANES, 1, 1))
    arguments = block(
        pooling.pool(False), **source.fields("source"), **target.fields("target"),
        batch=1, blocks=1, in_height=3, in_width=3, height=1, width=1, kernel_height=3, kernel_width=3,
        stride_height=strides[0], stride_width=strides[1], dilation_height=1, dilation_width=1,
        pad_top=0, pad_left=0, pad_bottom=0, pad_right=0, include_pad=0,
    )  # fmt: skip
    pooling.pool(False)(arguments)
    assert np.isnan(target.plain()).all()


def test_infinities() -> None:
    x = np.full((1, LANES, 3, 3), -np.inf, np.float32)
    x[:, 0, 1, 1] = np.inf
    expected = reference("MaxPool", x, kernel_shape=[2, 2])
    source, target = blocked_holding(x), blocked(expected.shape)
    run(
        pooling.pool(False), target, **source.fields("source"), **target.fields("target"),
        batch=1, blocks=1, in_height=3, in_width=3, height=2, width=2, kernel_height=2, kernel_width=2,
        stride_height=1, stride_width=1, dilation_height=1, dilation_width=1,
        pad_top=0, pad_left=0, pad_bottom=0, pad_right=0, include_pad=0,
    )  # fmt: skip
    np.testing.assert_array_equal(target.plain(), expected)


@pytest.mark.every_isa
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (7, 7), (2, 4), (5, 9)])
@pytest.mark.parametrize("halo", [(0, 0, 0, 0), (1, 2, 1, 1)], ids=["dense", "halo"])
def test_global(average: bool, size: tuple[int, int], halo: tuple[int, int, int, int]) -> None:
    x = data(3, 3 * LANES + 5, *size)
    source, target = blocked_holding(x, halo, halo_value=1e30), blocked((*x.shape[:2], 1, 1))
    fields = target.fields("target")
    del fields["target_row"]
    run(
        pooling.global_pool(average), target, **source.fields("source"), **fields,
        batch=3, blocks=source.array.shape[1], height=size[0], width=size[1],
    )  # fmt: skip
    expected = reference("GlobalAveragePool" if average else "GlobalMaxPool", x)
    np.testing.assert_allclose(target.plain(), expected, rtol=1e-5 if average else 0)
    assert np.isfinite(target.array).all()
