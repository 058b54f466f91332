"""Products of matrices, and quantisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from evaluation.variants.elementwise import broadcastable
from evaluation.variants.variant import Draw, Variant

from cpuruntime.graph import Type


def _matrices(d: Draw) -> tuple[list[int], list[int]]:
    """The shapes of two factors."""
    rows, inner, columns = (d.number(1, 6) for _ in range(3))
    lead = d.shape(0, 2, empty=0)
    a, b = [*broadcastable(d, lead), rows, inner], [*broadcastable(d, lead), inner, columns]
    if d.chance(0.15):
        a = a[-1:]
    elif d.chance(0.15):
        b = [inner]
    return a, b


def _matmul(d: Draw) -> Variant:
    opset, (a, b) = d.opset("MatMul"), _matrices(d)
    dtype = d.choose(np.float32, np.float64, np.float32, *([np.int32, np.int64] if opset >= 9 else []))
    return Variant("MatMul", opset, [d.array(a, dtype), d.array(b, dtype)])


def _gemm(d: Draw) -> Variant:
    opset, (m, k, n) = d.opset("Gemm"), (d.number(1, 6) for _ in range(3))
    left, right = d.number(0, 1), d.number(0, 1)
    a, b = d.array([k, m] if left else [m, k]), d.array([n, k] if right else [k, n])
    c = d.array(broadcastable(d, [m, n]))
    attributes = {"transA": left, "transB": right, **d.some(alpha=0.5, beta=d.choose(0.3, 2.0, 0.0))}
    return Variant("Gemm", opset, [a, b] if opset >= 11 and d.chance(0.3) else [a, b, c], attributes)


def _einsum(d: Draw) -> Variant:
    equation, *shapes = d.choose(
        ("ij,jk->ik", "ab", "bc"), ("bij,bjk->bik", "dab", "dbc"), ("ij->ji", "ab"), ("ij->", "ab"), ("ii->i", "aa"),
        ("i,j", "a", "b"), ("...ij,...jk->...ik", "dab", "dbc"), ("bhid,bhjd->bhij", "deab", "decb"),
        ("ij,ij", "ab", "ab"),
        ("ijk->j", "abc"), ("ba,bc", "ab", "ac"),
    )  # fmt: skip
    extents = {letter: d.number(1, 5) for letter in "abcde"}
    arrays = [d.array([extents[letter] for letter in shape], d.choose(np.float32, np.float32)) for shape in shapes]
    return Variant("Einsum", 12, arrays, {"equation": equation})


def _bytes(d: Draw, shape: list[int], dtype: type) -> np.ndarray:
    limits = np.iinfo(dtype)
    return d.random.integers(limits.min, limits.max + 1, shape).astype(dtype)


def _matmul_integer(d: Draw) -> Variant:
    a, b = _matrices(d)
    a, b = (a if len(a) > 1 else [1, *a]), (b if len(b) > 1 else [*b, 1])
    left, right = np.uint8, d.choose(np.uint8, np.int8)
    inputs = [_bytes(d, a, left), _bytes(d, b, right) // 2]  # ONNX Runtime's sums of two products saturate
    if d.chance(0.7):
        inputs.append(_bytes(d, [], left))
        if d.chance(0.7):
            inputs.append(_bytes(d, d.choose([], [b[-1]] if len(b) == 2 else []), right))
    return Variant("MatMulInteger", 10, inputs)


def _scale(d: Draw, shape: list[int] | tuple[int, ...] = ()) -> np.ndarray:
    return np.asarray(d.random.uniform(0.01, 0.1, shape), np.float32)


def _qlinear_matmul(d: Draw) -> Variant:
    a, b = _matrices(d)
    a, b = (a if len(a) > 1 else [1, *a]), (b if len(b) > 1 else [*b, 1])
    dtype = np.uint8
    columns = [b[-1]] if d.chance(0.3) and len(b) == 2 else []
    return Variant("QLinearMatMul", d.opset("QLinearMatMul"), [
        _bytes(d, a, dtype), _scale(d), _bytes(d, [], dtype), _bytes(d, b, dtype), _scale(d, columns),
        _bytes(d, columns, dtype), np.float32(d.random.uniform(0.5, 2)), _bytes(d, [], dtype)])  # fmt: skip


_INTEGERS = (np.uint8, np.int8)


def _narrow(d: Draw, shape: list[int], name: str) -> np.ndarray:
    """Numbers of a type that NumPy lacks."""
    numbers = d.random.integers(0, 8, shape) if name == "u4" else d.random.integers(-8, 8, shape)
    return numbers.astype(Type(name).to_dtype())


def _quantize_narrow(d: Draw, opset: int) -> Variant:
    shape, name = d.shape(1, 4, empty=0), d.choose("f8e4m3", "f8e5m2", *(["i4", "u4"] if opset >= 21 else []))
    zero = np.zeros((), Type(name).to_dtype()) if name.startswith("f8") else _narrow(d, [], name)
    attributes = d.some(saturate=d.number(0, 1)) if name.startswith("f8") else {}
    return Variant("QuantizeLinear", opset, [d.array(shape, np.float32, 3.0), _scale(d), zero], attributes)


def _quantize(d: Draw) -> Variant:
    opset, shape = d.opset("QuantizeLinear"), d.shape(1, 4, empty=0)
    if opset >= 19 and d.chance(0.3):
        return _quantize_narrow(d, opset)
    dtype = d.choose(*_INTEGERS, *([np.int16, np.uint16] if opset >= 21 else []))
    axis = d.number(0, len(shape) - 1)
    parts = [shape[axis]] if opset >= 13 and d.chance() else []
    zero = _bytes(d, parts, dtype) if d.chance(0.8) else None
    attributes = {"axis": axis} if parts else {}
    return Variant("QuantizeLinear", opset, [d.array(shape, np.float32, 3.0), _scale(d, parts), zero], attributes)


def _dequantize(d: Draw) -> Variant:
    opset, shape = d.opset("DequantizeLinear"), d.shape(1, 4, empty=0)
    if opset >= 19 and d.chance(0.3):
        name = d.choose("f8e4m3", "f8e5m2", "f8e4m3fnuz", *(["i4", "u4"] if opset >= 21 else []))
        zero = None if name.startswith("f8") or d.chance(0.3) else _narrow(d, [], name)
        return Variant("DequantizeLinear", opset, [_narrow(d, shape, name), _scale(d), zero])
    dtype = d.choose(*_INTEGERS, np.int32, *([np.int16, np.uint16] if opset >= 21 else []))
    axis = d.number(0, len(shape) - 1)
    parts, block = [], 0
    if opset >= 21 and d.chance(0.4) and len(shape) > 1:
        block = d.number(1, shape[axis])
        parts = [-(-extent // block) if place == axis else extent for place, extent in enumerate(shape)]
    elif opset >= 13 and d.chance():
        parts = [shape[axis]]
    zero = np.zeros(parts, dtype) if dtype is np.int32 else _bytes(d, parts, dtype)
    attributes = {"axis": axis} if parts else {}
    attributes |= {"block_size": block} if block else {}
    inputs = [_bytes(d, shape, dtype), _scale(d, parts), zero if d.chance(0.8) else None]
    return Variant("DequantizeLinear", opset, inputs, attributes)


def _dynamic(d: Draw) -> Variant:
    return Variant("DynamicQuantizeLinear", 11, [d.array(d.shape(1, 3, empty=0))], {}, [True, True, True])


GENERATORS: dict[str, Callable[[Draw], Variant]] = {
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul_integer,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize,
}
