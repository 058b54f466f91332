"""Convolutions and pools."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from evaluation.variants.variant import Draw, Variant


def _geometry(d: Draw, kernel: list[int], dilated: bool, least: int = 0) -> tuple[list[int], dict[str, Any]]:
    """Extents of an image, and the attributes of windows that fit into it."""
    rank = len(kernel)
    dilations = [d.choose(1, 1, 2) if dilated else 1 for _ in kernel]
    attributes: dict[str, Any] = d.some(strides=[d.number(1, 3) for _ in kernel])
    if max(dilations) > 1:
        attributes["dilations"] = dilations
    auto = d.choose("pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID", "none")
    if auto == "pads":
        attributes["pads"] = [d.number(0, k - 1) for k in kernel * 2]
    elif auto != "none":
        attributes["auto_pad"] = auto
    reach = [(k - 1) * step + 1 for k, step in zip(kernel, dilations)]
    return [max(least, n + d.number(0, 6)) for n in reach[:rank]], attributes


def _kernel(d: Draw) -> list[int]:
    return [d.number(1, 4) for _ in range(d.choose(1, 2, 2, 3))]


def _conv(op_type: str, d: Draw) -> Variant:
    opset, kernel, group = d.opset(op_type), _kernel(d), d.choose(1, 1, 2)
    extents, attributes = _geometry(d, kernel, True)
    inner, outer = d.number(1, 3), group * d.number(1, 3)
    attributes |= {"group": group} if group > 1 else {}
    attributes |= d.some(kernel_shape=kernel)
    shape, weights = [d.number(1, 2), group * inner, *extents], [outer, inner, *kernel]
    if op_type == "Conv":
        bias = d.array([outer]) if d.chance() else None
        return Variant(op_type, opset, [d.array(shape), d.array(weights), bias], attributes)
    numbers = [d.random.integers(0, 256, size).astype(np.uint8) for size in (shape, weights)]
    zero = np.array(d.number(0, 255), np.uint8)
    if op_type == "ConvInteger":
        return Variant(op_type, opset, [*numbers, zero if d.chance() else None, np.uint8(0) + zero], attributes)
    scales = [np.asarray(d.random.uniform(0.01, 0.1), np.float32) for _ in range(3)]
    many = [outer] if d.chance() else []
    weight_scale = np.asarray(d.random.uniform(0.01, 0.1, many), np.float32)
    bias = d.random.integers(-500, 500, outer).astype(np.int32) if d.chance() else None
    return Variant(op_type, opset, [numbers[0], scales[0], zero, numbers[1], weight_scale, np.zeros(many, np.uint8),
                                    scales[2] * np.float32(40), np.uint8(0) + zero, bias], attributes)  # fmt: skip


def _conv_transpose(d: Draw) -> Variant:
    opset, kernel, group = d.opset("ConvTranspose"), _kernel(d), d.choose(1, 1, 2)
    strides, dilations = [d.number(1, 3) for _ in kernel], [d.choose(1, 1, 2) for _ in kernel]
    extents = [d.number(2, 5) for _ in kernel]
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, **d.some(kernel_shape=kernel)}
    attributes |= {"group": group} if group > 1 else {}
    full = [(n - 1) * s + (k - 1) * step + 1 for n, s, k, step in zip(extents, strides, kernel, dilations)]
    how = d.choose("pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID", "output_shape", "none")
    if how == "pads":
        attributes["pads"] = [d.number(0, min(k - 1, (n - 1) // 2)) for k, n in zip(kernel * 2, full * 2)]
    elif how == "output_shape":
        attributes["output_shape"] = [max(1, n - d.number(-1, 3)) for n in full]
        attributes |= d.some(auto_pad=d.choose("SAME_UPPER", "SAME_LOWER"))
    elif how != "none":
        attributes["auto_pad"] = how
    if d.chance(0.3):
        attributes["output_padding"] = [d.number(0, max(s, step) - 1) for s, step in zip(strides, dilations)]
    inner, outer = d.number(1, 3), d.number(1, 3)
    bias = d.array([group * outer]) if d.chance() else None
    x, weights = d.array([d.number(1, 2), group * inner, *extents]), d.array([group * inner, outer, *kernel])
    return Variant("ConvTranspose", opset, [x, weights, bias], attributes)


def _pool(op_type: str, d: Draw) -> Variant:
    opset, kernel = d.opset(op_type), _kernel(d)
    since = {"AveragePool": (10, 19), "LpPool": (18, 18), "MaxPool": (10, 10)}[op_type]
    extents, attributes = _geometry(d, kernel, opset >= since[1])
    attributes["kernel_shape"] = kernel
    if opset >= since[0]:
        attributes |= d.some(ceil_mode=d.number(0, 1))
    if op_type == "AveragePool":
        attributes |= d.some(count_include_pad=d.number(0, 1))
    if op_type == "LpPool":
        attributes |= d.some(p=d.number(1, 3))
    x = d.array([d.number(1, 2), d.number(1, 3), *extents])
    outputs = [True]
    if op_type == "MaxPool":
        if opset >= 12 and d.chance(0.2):
            x = np.clip(np.nan_to_num(x * 10), -100, 100).astype(d.choose(np.int8, np.uint8))
        if opset >= 8 and d.chance(0.4) and x.dtype == np.float32:
            outputs = [True, True]
            attributes |= d.some(storage_order=d.number(0, 1))
    return Variant(op_type, opset, [x], attributes, outputs)


def _global(op_type: str, d: Draw) -> Variant:
    x = d.array([d.number(1, 2), d.number(1, 3), *(d.number(1, 5) for _ in range(d.number(1, 3)))])
    return Variant(op_type, d.opset(op_type), [x], d.some(p=d.number(1, 3)) if op_type == "GlobalLpPool" else {})


def _max_unpool(d: Draw) -> Variant:
    kernel = [d.number(1, 3), d.number(1, 3)]
    pooled = [d.number(1, 3), d.number(1, 3)]
    extents = [n * k for n, k in zip(pooled, kernel)]
    x = d.array([1, d.number(1, 2), *pooled])
    places = d.random.permutation(x[0, 0].size * kernel[0] * kernel[1])[: x[0, 0].size].reshape(1, 1, *pooled)
    indices = np.concatenate([places + channel * extents[0] * extents[1] for channel in range(x.shape[1])], 1)
    return Variant("MaxUnpool", d.opset("MaxUnpool"), [x, indices.astype(np.int64)],
                   {"kernel_shape": kernel, "strides": kernel})  # fmt: skip


GENERATORS: dict[str, Callable[[Draw], Variant]] = {
    **{name: partial(_conv, name) for name in ("Conv", "ConvInteger", "QLinearConv")},
    **{name: partial(_pool, name) for name in ("AveragePool", "LpPool", "MaxPool")},
    **{name: partial(_global, name) for name in ("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool")},
    "ConvTranspose": _conv_transpose,
    "MaxUnpool": _max_unpool,
}
