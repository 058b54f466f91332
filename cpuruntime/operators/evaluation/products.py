"""Products of matrices, and quantisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node, Type
from cpuruntime.operators.evaluation.casts import cast
from cpuruntime.operators.evaluation.convolution import centred, requantise
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, is_float, normal_axis, optional, wide


def _matmul(node: Node, arrays: Arrays) -> np.ndarray:
    a, b = arrays
    return np.asarray(np.matmul(wide(a), wide(b))).astype(a.dtype)


def _gemm(node: Node, arrays: Arrays) -> np.ndarray:
    a, b, c = wide(arrays[0]), wide(arrays[1]), optional(arrays, 2)
    a = a.T if attribute(node, "transA") else a
    b = b.T if attribute(node, "transB") else b
    alpha, beta = attribute(node, "alpha"), attribute(node, "beta")
    y = a @ b if alpha == 1 else alpha * (a @ b)
    if c is not None and beta != 0:
        y = y + (c if beta == 1 else beta * wide(c))
    return y.astype(arrays[0].dtype)


def _einsum(node: Node, arrays: Arrays) -> np.ndarray:
    equation = node.attributes["equation"].replace(" ", "")
    return np.asarray(np.einsum(equation, *map(wide, arrays), optimize=len(arrays) > 2)).astype(arrays[0].dtype)


def _along_rows(array: np.ndarray, zero_point: Any) -> np.ndarray:
    """The left factor's zero points are one for each row; those of the right one for each column."""
    zero = None if zero_point is None else np.asarray(zero_point)
    return centred(array, zero[..., None] if zero is not None and zero.ndim == 1 and zero.size > 1 else zero)


def _matmul_integer(node: Node, arrays: Arrays) -> np.ndarray:
    product = _along_rows(arrays[0], optional(arrays, 2)) @ centred(arrays[1], optional(arrays, 3))
    return np.asarray(product).astype(np.int64).astype(np.int32)


def _qlinear_matmul(node: Node, arrays: Arrays) -> np.ndarray:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = arrays
    product = _along_rows(a, a_zero) @ centred(b, b_zero)
    a_scale = a_scale[..., None] if a_scale.ndim == 1 and a_scale.size > 1 else a_scale
    scale = a_scale.astype(np.float32) * b_scale.astype(np.float32) / y_scale.astype(np.float32)
    y_zero = y_zero[..., None] if y_zero.ndim == 1 and y_zero.size > 1 else y_zero
    return requantise((product * (scale.reshape(()) if scale.size == 1 else scale)).astype(np.float32), y_zero)


def _spread(node: Node, array: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Scales or zero points for each element of `x`: one, one for each place of an axis, or one for each block."""
    if array.size == 1 and array.ndim <= 1:
        return array.reshape(())
    axis, block = normal_axis(node, attribute(node, "axis"), x.ndim), attribute(node, "block_size")
    if not block:
        if array.ndim != 1 or array.size != x.shape[axis]:
            raise ModelError(f"{node.where}: {list(array.shape)} scales for {x.shape[axis]} elements of axis {axis}.")
        return array.reshape([-1 if place == axis else 1 for place in range(x.ndim)])
    spread = np.repeat(array, block, axis)
    return np.take(spread, range(x.shape[axis]), axis)


def _quantize_linear(node: Node, arrays: Arrays) -> np.ndarray:
    x, scale, zero = arrays[0], _spread(node, arrays[1], arrays[0]), optional(arrays, 2)
    named = attribute(node, "output_dtype")
    to = Type(zero.dtype) if zero is not None else Type.from_onnx(named) if named else Type.u8
    precision = attribute(node, "precision")
    if precision:
        wanted = Type.from_onnx(precision).to_dtype()
        y = wide((wide(x).astype(wanted) / wide(scale).astype(wanted)).astype(wanted))
    else:
        y = np.asarray(wide(x) / wide(scale).astype(wide(x).dtype if is_float(x.dtype) else np.float32))
    offset = None if zero is None else _spread(node, zero, x)
    if not to.is_integral():
        y = y if offset is None else y + wide(offset)
        return cast(np.asarray(y), to, bool(attribute(node, "saturate") != 0))
    least, most = -(2 ** (to.bitwidth - 1)) if to.is_signed() else 0, 2 ** (to.bitwidth - to.is_signed()) - 1
    whole = np.rint(y).astype(np.float64) + (0 if offset is None else offset.astype(np.float64))
    return np.clip(np.nan_to_num(whole, nan=least), least, most).astype(np.int64).astype(to.to_dtype())


def _dequantize_linear(node: Node, arrays: Arrays) -> np.ndarray:
    x, scale, zero = arrays[0], arrays[1], optional(arrays, 2)
    named = attribute(node, "output_dtype")
    wanted = Type.from_onnx(named).to_dtype() if named else scale.dtype
    y = x.astype(np.float64) if x.dtype == np.int32 else x.astype(np.float32)
    y = y if zero is None else y - _spread(node, zero, x).astype(y.dtype)
    return (y.astype(np.float32) * wide(_spread(node, scale, x)).astype(np.float32)).astype(wanted)


def _dynamic_quantize_linear(node: Node, arrays: Arrays) -> tuple[np.ndarray, ...]:
    x = arrays[0]
    low, high = np.float32(x.min(initial=0)), np.float32(x.max(initial=0))
    scale = (high - low) / np.float32(255) if high != low else np.float32(1)
    zero = np.rint(np.clip(-low / scale, 0, 255))
    y = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8)
    return y, np.asarray(scale, np.float32), np.asarray(zero).astype(np.uint8)


TABLE: dict[str, Rule] = {
    "DequantizeLinear": _dequantize_linear,
    "DynamicQuantizeLinear": _dynamic_quantize_linear,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul_integer,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize_linear,
}
