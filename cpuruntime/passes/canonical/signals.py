"""Fourier transforms become products with a table of sines and cosines."""

from __future__ import annotations

from math import prod

import numpy as np

from cpuruntime.graph import Extent, Node, Type, Value
from cpuruntime.passes.canonical.compositions import Writer
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import all_f32, is_onnx, scalar

LARGEST_TABLE = 1 << 22
"""Numbers of a table; a transform that needs more stays."""


@sweep
def run(editor: Editor, node: Node) -> None:
    """DFT and STFT of f32 whose shapes are static and whose lengths are constants."""
    if not is_onnx(node, "DFT", "STFT") or not all_f32(node.inputs[0], *node.outputs):
        return
    short, shape = node.op_type == "STFT", node.inputs[0].shape or ()
    has_parts = shape[-1:] in ((1,), (2,)) if len(shape) == 3 or not short else len(shape) == 2
    if node.inputs[0].is_static and node.outputs[0].is_static and has_parts:
        with Writer(editor, node) as write:
            (_short_time_transform if short else _transform)(write)


def _table(length: int, given: int, parts: int, inverse: bool, onesided: bool) -> np.ndarray | None:
    """What `given` numbers of `parts` parts become, [given * parts, results * their parts]; None for a large table."""
    half = length // 2 + 1
    back = inverse and onesided
    count, results = (half if back else length), (length if back or not onesided else half)
    if given * parts * results * 2 > LARGEST_TABLE:
        return None
    turns = np.outer(np.arange(given), np.arange(results)) % length
    angles = turns * (2 * np.pi / length * (1 if inverse else -1))
    cosine, sine = np.cos(angles), np.sin(angles)
    table = np.array([[cosine, sine], [-sine, cosine]])[:parts]  # [part, part of the result, number, result]
    table[:, :, count:] = 0
    if inverse:
        table /= length
    if back:
        # Only half of the spectrum is given; the other half mirrors it.
        table[:, :, 1 : (length + 1) // 2] *= 2
        table = table[:, :1]
    return table.transpose(2, 0, 3, 1).reshape(given * parts, -1)


def _transform(write: Writer) -> None:
    node, x = write.node, write.node.inputs[0]
    shape, result = x.static_shape, node.outputs[0].static_shape
    rank, length, axis = len(shape), None, node.attributes.get("axis", 1)
    if node.version >= 20:
        axis = -2 if node.input(2) is None else scalar(node.input(2))
    if node.input(1) is not None:
        length = scalar(node.input(1))
        if length is None:
            return
    if axis is None or not -rank <= axis < rank or axis % rank == rank - 1:
        return
    inverse, onesided = (bool(node.attributes.get(name, 0)) for name in ("inverse", "onesided"))
    axis = int(axis) % rank
    if length is None:
        length = 2 * (shape[axis] - 1) if inverse and onesided else shape[axis]
    if length < 1 or (inverse and onesided and shape[-1] != 2):
        return
    table = _table(int(length), int(shape[axis]), int(shape[-1]), inverse, onesided)
    others = [dimension for dimension in range(rank - 1) if dimension != axis]
    extents = [shape[dimension] for dimension in others]
    if table is None or prod(extents) * table.shape[1] != prod(result):
        return
    order = [*others, axis, rank - 1]
    if order != list(range(rank)):
        x = write("Transpose", x, shape=tuple(shape[dimension] for dimension in order), perm=order)
    x = write.internal("Reshape", x, shape=(*extents, table.shape[0]))
    x = write("MatMul", x, write.constant(table, np.float32), shape=(*extents, table.shape[1]))
    moved = (*extents, result[axis], result[-1])
    x = write.internal("Reshape", x, shape=moved)
    if order != list(range(rank)):
        write("Transpose", x, shape=result, perm=[order.index(dimension) for dimension in range(rank)])


def _short_time_transform(write: Writer) -> None:
    """Frames of the signal, times the window, transformed each."""
    node, x = write.node, write.node.inputs[0]
    result, window = node.outputs[0].static_shape, node.input(2)
    step, length = scalar(node.input(1)), scalar(node.input(3))
    if length is None and window is not None and window.is_static:
        length = prod(window.static_shape)
    if step is None or not length or (window is not None and not all_f32(window)):
        return
    batch, size, *given = x.static_shape
    parts = int(prod(given))
    length, step, frames = int(length), int(step), result[1]
    if not 0 < length <= size or step < 1:
        return
    table = _table(length, length, parts, False, bool(node.attributes.get("onesided", 1)))
    fits = (frames - 1) * step + length <= size
    if table is None or not fits or (batch, frames, table.shape[1]) != (*result[:2], prod(result[2:])):
        return
    if window is not None and window.is_static and prod(window.static_shape) != length:
        return
    if not given:
        x = write.internal("Reshape", x, shape=(batch, size, 1))
    x = write("Gather", x, _places(write, frames, step, length), shape=(batch, frames, length, parts), axis=1)
    if window is not None and window.constant is not None:
        table *= np.repeat(window.constant.reshape(-1), parts)[:, None]
    elif window is not None:
        column: Value = write.internal("Reshape", window, shape=(length, 1))
        x = write("Mul", x, column, shape=x.static_shape)
    x = write.internal("Reshape", x, shape=(batch, frames, length * parts))
    x = write("MatMul", x, write.constant(table, np.float32), shape=(batch, frames, table.shape[1]))
    write.internal("Reshape", x, shape=result)


def _places(write: Writer, frames: Extent, step: int, length: int) -> Value:
    """The places of the elements of each frame, [frames, length]."""
    if isinstance(frames, int):
        return write.constant(np.arange(frames)[:, None] * step + np.arange(length))
    end = write.editor.value(f"{write.node.name}/end", Type.i64, ())
    end.sizes = np.array(frames * step, object)
    starts = write("Range", write.constant(0), end, write.constant(step), shape=(frames,))
    column = write.internal("Reshape", starts, shape=(frames, 1))
    return write("Add", column, write.constant(np.arange(length)), shape=(frames, length))
