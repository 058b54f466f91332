"""Quantised convolutions and products to test: random nodes, and their results by NumPy in int64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cpuruntime.graph import Node, Type, Value
from cpuruntime.ops.tiles.integer_shapes import AMX, integer_shapes, kinds
from cpuruntime.program.convolution import quantised
from cpuruntime.program.lowerings import quantised_product
from cpuruntime.program.tuning import integer_tiles

from .programs import NodeProgram, same_for_threads

TYPES = {"u1": Type.u8, "i1": Type.i8, "f4": Type.f32, "i4": Type.i32}
EACH_KIND = pytest.mark.parametrize("kind", kinds())


def force_kind(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Makes the planner take tiles of a kind and of two shapes, so that few kernels are compiled.

    `vnni` and `amx`, which are taken wherever they are there, are computed by other instructions where the processor
    lacks theirs.
    """
    found = dict.fromkeys((*(other for other in kinds() if other not in ("vnni", "amx")), kind))
    monkeypatch.setattr(integer_tiles, "VECTOR_COST", {other: 1.0 if other == kind else 1e6 for other in found})
    for module in (quantised, quantised_product):
        monkeypatch.setattr(module, "kinds", lambda: tuple(found))
    monkeypatch.setattr(integer_tiles, "integer_shapes", _two_shapes)


def _two_shapes(kind: str) -> tuple[tuple[int, int], ...]:
    widest, *others = integer_shapes(kind)
    return widest, others[-1] if kind in AMX else (4, 1)


def constant(name: str, array: np.ndarray) -> Value:
    """A value that holds an array."""
    return Value(name, TYPES[array.dtype.str[1:]], array.shape, constant=array)


def numbers(dtype: str, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Random bytes, the extremes among them."""
    limits = np.iinfo(dtype)
    return np.random.default_rng([seed, *shape]).integers(limits.min, limits.max + 1, shape).astype(dtype)


def requantise(
    sums: np.ndarray, multiplier: Any, bias: Any, attributes: dict[str, Any], dtype: str, residual: Any = None
) -> np.ndarray:
    """The epilogue; `sums` are int64, the parameters broadcast to them."""
    if bias is not None and bias.dtype == np.int32:
        sums = sums + bias
    assert np.abs(sums).max() < 2**31
    result = sums.astype(np.float32) * multiplier
    if bias is not None and bias.dtype == np.float32:
        result = result + bias
    if residual is not None:
        if "inner" in attributes:
            scale, low, high = attributes["inner"]
            result = np.rint(np.clip(result, low, high)) * np.float32(scale)
        result += np.float32(attributes["residual_scale"]) * (
            residual.astype(np.float32) - attributes["residual_zero"]
        )
    if dtype == "f4":
        return result
    zero = attributes["y_zero"]
    return np.clip(np.rint(result).astype(np.int64) + zero, attributes["low"], attributes["high"]).astype(dtype)


def limits_of(dtype: str) -> dict[str, int]:
    """Attributes of a result of bytes: a zero point in the middle, and a lower limit above the type's."""
    if dtype == "f4":
        return {}
    limits = np.iinfo(dtype)
    return dict(y_zero=int(limits.min) + 100, low=int(limits.min) + 10, high=int(limits.max))


def convolution_sums(x: np.ndarray, weights: np.ndarray, attributes: dict[str, Any]) -> np.ndarray:
    """Sums of products of a 2-D convolution in int64; operands less their zero points."""
    down, right = attributes["strides"]
    top, left, bottom, end = attributes["pads"]
    image = np.pad(x.astype(np.int64), [(0, 0), (0, 0), (top, bottom), (left, end)])
    group, (outputs, inputs, height, width) = attributes["group"], weights.shape
    reach = [(n - 1) * d + 1 for n, d in zip((height, width), attributes["dilations"])]
    windows = np.lib.stride_tricks.sliding_window_view(image, reach, axis=(2, 3))
    windows = windows[:, :, ::down, ::right, :: attributes["dilations"][0], :: attributes["dilations"][1]]
    n, _, rows, columns = windows.shape[:4]
    parts = windows.reshape(n, group, inputs, rows, columns, height, width)
    kernels = weights.astype(np.int64).reshape(group, outputs // group, inputs, height, width)
    sums = np.einsum("ngiyxhw,goihw->ngoyx", parts, kernels, optimize=True)
    return sums.reshape(n, outputs, rows, columns)


def check_convolution(
    x: tuple[int, ...], channels: int, kernel: tuple[int, int], *, strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0), dilations: Sequence[int] = (1, 1), group: int = 1, source: str = "u1",
    weights: str = "i1", zeros: bool = False, result: str = "u1", bias: str | None = "i4", residual: str | None = None,
    inner: Sequence[float] = (), fill: Sequence[int] = (),
) -> NodeProgram:  # fmt: skip
    """Plans a convolution and compares what 1, 2 and 3 threads compute, bit by bit.

    `inner` is how results are rounded before a residual is added: a scale and two limits. `fill` are one number for
    all of the source and one for all weights, in place of random ones.
    """
    data, w = numbers(source, x), numbers(weights, (channels, x[1] // group, *kernel), 1)
    if fill:
        data[...], w[...] = fill
    rng = np.random.default_rng(2)
    low = 100 if weights == "u1" else -5
    attributes = dict(
        kernel_shape=list(kernel), strides=list(strides), dilations=list(dilations), pads=list(pads), group=group,
        x_zero=7 if source == "u1" else -3,
        weights_zero=rng.integers(low, low + 10, channels).tolist() if zeros else [],
        residual_zero=9, residual_scale=0.37, **limits_of(result),
    )  # fmt: skip
    if inner:
        attributes["inner"] = [float(number) for number in inner]
    sums = convolution_sums(
        data.astype(np.int64) - attributes["x_zero"],
        w.astype(np.int64) - np.array(attributes["weights_zero"] or [0]).reshape(-1, 1, 1, 1), attributes,
    )  # fmt: skip
    spread = rng.uniform(0.5, 1.5, channels) * 60 / (1 + np.abs(sums).mean())
    multiplier = spread.astype(np.float32)
    offsets = None if bias is None else rng.uniform(-1000, 1000, channels).astype(bias)
    values = [Value("x", TYPES[source], x), constant("w", w), constant("m", multiplier)]
    values.append(None if offsets is None else constant("b", offsets))
    arrays = [data]
    if residual is not None:
        arrays.append(numbers(residual, sums.shape, 3))
        values.append(Value("r", TYPES[residual], sums.shape))
    node = Node(
        "QuantisedConvolution", "c", values, [Value("y", TYPES[result], sums.shape)], attributes, "cpuruntime", 1
    )
    along = (-1, 1, 1)
    expected = requantise(
        sums, multiplier.reshape(along), None if offsets is None else offsets.reshape(along), attributes, result,
        arrays[1] if residual is not None else None,
    )  # fmt: skip
    planned = NodeProgram(node, threads=3)
    np.testing.assert_array_equal(same_for_threads(planned, *arrays), expected)
    return planned
