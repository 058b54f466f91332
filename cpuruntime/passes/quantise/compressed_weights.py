"""Constant matrices that a model has in few bits -> constants that kernels read as they are."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Compressed, Graph, Node, Type, Value
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import is_onnx
from cpuruntime.passes.quantise.scales import is_usable

_ADDED = {Type.i8: 128, Type.u8: 0, Type.i4: 8, Type.u4: 0, Type.i2: 8, Type.u2: 0}
"""What makes elements unsigned, by type."""

_REAL = (Type.f32, Type.f16, Type.bf16)
_KINDS = {Type.i8: "u8", Type.u8: "u8"}
SMALLEST, LARGEST, WHOLE = 16, 256, 128
"""Weights that share a scale: at least and at most, and a multiple of the least; where a column has a single scale."""


def run(graph: Graph, quantises_rows: bool = True) -> bool:
    """DequantizeLinear of constants in blocks, or with a scale for each column, that a MatMul or Gemm has as its right
    side, transposed or not -> a compressed constant. Columns of 8 bits stay where activations are quantised, too."""
    editor = Editor(graph)
    takes_columns = not any(is_onnx(node, "QuantizeLinear", "DynamicQuantizeLinear") for node in graph.nodes)
    for node in editor.nodes():
        if is_onnx(node, "MatMul", "Gemm") and node.require(1).element_type is Type.f32:
            _compress(editor, node, takes_columns, quantises_rows)
    return editor.finish()


def is_found(graph: Graph) -> bool:
    """Whether some DequantizeLinear has a constant in few bits, or in blocks, or one that is computed of constants."""
    for node in graph.nodes:
        if is_onnx(node, "DequantizeLinear"):
            x = node.require(0)
            if x.constant is not None or (x.producer is not None and not is_onnx(x.producer, "QuantizeLinear")):
                return True
    return False


def _compress(editor: Editor, node: Node, takes_columns: bool, quantises_rows: bool) -> None:
    right = node.require(1)
    swapped = is_onnx(node, "Gemm") and bool(node.attributes.get("transB", 0))
    maker, turned = _maker(right), swapped
    if is_onnx(maker, "Transpose") and len(maker.outputs[0].shape or ()) == 2:
        maker, turned = _maker(maker.require(0)), not turned
    if maker is None or not is_onnx(maker, "DequantizeLinear"):
        return
    if maker.require(0).element_type in _KINDS and not maker.attributes.get("block_size", 0) and not takes_columns:
        return
    matrix = _matrix(maker, turned)
    if matrix is None:
        return
    matrix.quantises_rows = quantises_rows
    if swapped:
        node.attributes = {**node.attributes, "transB": 0}
    editor.set_input(node, 1, editor.constant(f"{right.name}/compressed", matrix))


def _maker(value: Value) -> Node | None:
    """What makes a value, but for casts from and to half types: no rounding is computed between."""
    maker = value.producer
    while is_onnx(maker, "Cast") and all(each.element_type in _REAL for each in (maker.require(0), *maker.outputs)):
        maker = maker.require(0).producer
    return maker


def _matrix(maker: Node, turned: bool) -> Compressed | None:
    """What a DequantizeLinear makes, [K, N], which it has transposed where it is `turned`."""
    x, scale, zero = maker.require(0), maker.require(1), maker.input(2)
    if x.element_type not in _ADDED or any(value is not None and value.constant is None for value in (x, scale, zero)):
        return None
    numbers, scales = np.asarray(x.data), np.asarray(scale.data, np.float32)
    if numbers.ndim != 2 or 0 in numbers.shape or not is_usable(scales):
        return None
    zeros = np.zeros((), np.int16) if zero is None else np.asarray(zero.data).astype(np.int16)
    axis, block = maker.attributes.get("axis", 1) % 2, maker.attributes.get("block_size", 0)
    if turned:
        numbers, scales, zeros, axis = numbers.T, scales.T, zeros.T, 1 - axis
    inner, columns = numbers.shape
    if not block:
        if scales.size not in (1, columns) or (scales.size > 1 and axis != 1) or zeros.size not in (1, scales.size):
            return None
        block = inner
        scales, zeros = (np.broadcast_to(part.reshape(1, -1), (1, columns)) for part in (scales, zeros))
    elif axis != 0 or scales.shape != (-(-inner // block), columns) or zeros.shape not in ((), scales.shape):
        return None
    group = _group(block, inner)
    if not group:
        return None
    repeats = -(-inner // group)
    if repeats != len(scales):
        scales, zeros = (np.repeat(part, -(-block // group), 0)[:repeats] for part in (scales, np.atleast_2d(zeros)))
    return Compressed(
        _KINDS.get(x.element_type, "u4"), _unsigned(numbers, _ADDED[x.element_type]), group,
        np.ascontiguousarray(scales), _zeros(zeros + _ADDED[x.element_type]),
    )  # fmt: skip


def _group(block: int, inner: int) -> int:
    """How many weights of a column share a scale for kernels; 0 where they have none for such blocks."""
    if block >= inner:
        return WHOLE
    while block > LARGEST and block % 2 == 0:
        block //= 2
    return block if SMALLEST <= block <= LARGEST and block % SMALLEST == 0 else 0


def _unsigned(numbers: np.ndarray, added: int) -> np.ndarray:
    return numbers.astype(np.uint8) if not added else (numbers.astype(np.int16) + added).astype(np.uint8)


def _zeros(zeros: np.ndarray) -> np.ndarray | int:
    """One number where all are the same."""
    first = int(zeros.reshape(-1)[0])
    return first if (zeros == first).all() else np.ascontiguousarray(zeros.astype(np.uint8))
