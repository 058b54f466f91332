"""Matrix products: by constants, and of two values."""

from __future__ import annotations

from math import prod

import numpy as np

from cpuruntime.devices.gpu.kernels.functions import SMOOTH
from cpuruntime.devices.gpu.kernels.product import ARGUMENTS, Product, Tile
from cpuruntime.devices.gpu.lower.emitter import Emitter, Place
from cpuruntime.devices.gpu.lower.walks import Walk, contiguous, copy, floats, whole
from cpuruntime.graph import Node, Value


def activation_of(node: Node) -> tuple[str, tuple[float, ...]]:
    """The activation that a node of the passes applies, and its numbers."""
    return node.attributes["activation"], tuple(node.attributes["activation_arguments"])


def check_activation(node: Node) -> str | None:
    """Why the activation of a node cannot be computed."""
    activation = node.attributes["activation"]
    return None if activation in SMOOTH else f"no kernel for {node.op_type} followed by {activation}"


def emit_product(
    emitter: Emitter, tile: Tile, a: Place, b: Place, c: Place, sizes: dict[str, int], batches: int = 1,
    bias: Place | None = None, bias_kind: str = "", residual: Place | None = None, table: Place | None = None,
    activation: str = "", numbers: tuple[float, ...] = (), packed_a: bool = False, packed_b: bool = False,
    is_mapped: bool = False,
) -> None:  # fmt: skip
    """Launch a product; `sizes` are the `ARGUMENTS` that are not 0, and `inner` and `frames` not 1."""
    kernel = Product(
        a.element_type, b.element_type, c.element_type, tile, bias_kind if bias else "",
        residual.element_type if residual else "", activation, numbers, packed_a, packed_b, table is not None,
        is_mapped,
    )  # fmt: skip
    buffers = [place.buffer for place in (a, b, c, bias, residual, table) if place is not None]
    given = dict.fromkeys(ARGUMENTS, 0) | {"inner": 1, "frames": 1} | sizes
    height, width = tile.extent
    groups = -(-given["N"] // width), -(-given["M"] // height), batches
    emitter.launch(kernel.source, [*buffers, *(int(given[name]) for name in ARGUMENTS)], groups, tile.group)


def rows_for_vectors(emitter: Emitter, value: Value, columns: int, tile: Tile) -> Place:
    """A right operand whose rows vectors read: a copy where that would read behind the memory of a user."""
    place = emitter.place(value)
    if tile.depth or columns % tile.columns == 0 or not emitter.is_outside(value):
        return place
    return copied(emitter, whole(place), place.shape)


def copied(emitter: Emitter, source: Walk, shape: tuple[int, ...]) -> Place:
    """A copy of a walk in rows, in scratch memory."""
    scratch = emitter.scratch(prod(shape))
    target = Place(scratch.buffer, scratch.element_type, shape)
    copy(emitter, source, whole(target), shape)
    return target


def panels(weights: np.ndarray, columns: int) -> np.ndarray:
    """[K, N] as [N / columns, K, columns], filled up with zeros."""
    depth, width = weights.shape
    padded = np.zeros((depth, -(-width // columns) * columns), np.float32)
    padded[:, :width] = weights
    return padded.reshape(depth, -1, columns).transpose(1, 0, 2)


def pack(weights: np.ndarray, tile: Tile) -> np.ndarray:
    """[groups, outputs, terms] in tiles of rows, or for local tiles turned."""
    if tile.depth:
        return weights.transpose(0, 2, 1)
    groups, outputs, terms = weights.shape
    padded = np.zeros((groups, -(-outputs // tile.rows) * tile.rows, terms), np.float32)
    padded[:, :outputs] = weights
    return padded.reshape(groups, -1, tile.rows, terms).transpose(0, 1, 3, 2)


def tile_for(emitter: Emitter, kind: str, rows: int, columns: int, depth: int) -> Tile:
    """The tile for a product of these sizes."""
    return emitter.choose(f"{kind} {rows} {columns} {depth}", emitter.tuning.tiles(rows, columns))


def lower_fully_connected(emitter: Emitter, node: Node) -> None:
    """x @ w + bias + residual, then the activation."""
    x, weights, bias, residual = node.require(0), node.require(1), node.input(2), node.input(3)
    depth, columns = weights.static_shape
    rows = prod(x.static_shape[:-1])
    tile = tile_for(emitter, "rows", rows, columns, depth)
    is_packed = not tile.depth
    b: Place
    if is_packed:
        b = emitter.packed(
            (weights, "panels", tile.columns, emitter.precision), (), emitter.precision,
            lambda: panels(np.asarray(weights.data), tile.columns),
        )  # fmt: skip
    else:
        b = emitter.constant(weights.data, (weights,), emitter.precision)
    activation, numbers = activation_of(node)
    residual_place = None if residual is None else emitter.place(residual)
    sizes = {
        "M": rows, "N": columns, "K": depth, "a_row": depth, "a_step": 1, "c_row": columns,
        "b_step": tile.columns if is_packed else columns, "b_column": 1,
    }  # fmt: skip
    emit_product(
        emitter, tile, emitter.place(x), b, emitter.new(node.outputs[0]), sizes, bias=bias and floats(emitter, bias),
        bias_kind="column", residual=residual_place, activation=activation, numbers=numbers, packed_b=is_packed,
    )  # fmt: skip


def check_fully_connected(node: Node) -> str | None:
    """Why a FullyConnected has no kernel."""
    weights = node.input(1)
    if weights is None or weights.constant is None:
        return "FullyConnected has a kernel for constant weights"
    return check_activation(node)


def lower_matmul(emitter: Emitter, node: Node) -> None:
    """Products of two values with batches before the last two axes."""
    left, right, output = node.require(0), node.require(1), node.outputs[0]
    a_shape, b_shape = left.static_shape, right.static_shape
    a_shape = a_shape if len(a_shape) > 1 else (1, *a_shape)
    b_shape = b_shape if len(b_shape) > 1 else (*b_shape, 1)
    batch = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    rows, depth, columns = a_shape[-2], a_shape[-1], b_shape[-1]
    if len(b_shape) == 2 or prod(b_shape[:-2]) == 1:
        rows, batch, a_shape = prod(a_shape[:-1]), (), (prod(a_shape[:-1]), depth)
    tile = tile_for(emitter, "batch", rows, columns, depth)
    a, b = emitter.place(left), rows_for_vectors(emitter, right, columns, tile)
    a, outer, inner, a_steps = _batched(emitter, a, a_shape, batch)
    b, _, _, b_steps = _batched(emitter, b, b_shape if batch else b_shape[-2:], batch)
    sizes = {
        "M": rows, "N": columns, "K": depth, "a_row": depth, "a_step": 1, "b_step": columns, "b_column": 1,
        "c_row": columns, "inner": inner, "a_outer": a_steps[0], "a_inner": a_steps[1], "b_outer": b_steps[0],
        "b_inner": b_steps[1], "c_outer": inner * rows * columns, "c_inner": rows * columns,
    }  # fmt: skip
    emit_product(emitter, tile, a, b, emitter.new(output), sizes, outer * inner)


def _batched(
    emitter: Emitter, place: Place, shape: tuple[int, ...], batch: tuple[int, ...]
) -> tuple[Place, int, int, tuple[int, int]]:
    """The operand with its steps along two levels of batches, copied where there are more levels to repeat."""
    matrix = prod(shape[-2:])
    if not batch:
        return place, 1, 1, (0, 0)
    own = (*[1] * (len(batch) - len(shape) + 2), *shape[:-2])
    outer, inner = prod(batch[:-1]), batch[-1]
    if own == batch:
        return place, outer, inner, (inner * matrix, matrix)
    if prod(own) == 1:
        return place, outer, inner, (0, 0)
    if own[:-1] == batch[:-1]:
        return place, outer, inner, (matrix, 0)
    if prod(own[:-1]) == 1:
        return place, outer, inner, (0, matrix)
    steps = [0 if size == 1 else step * matrix for size, step in zip(own, contiguous(own))]
    walk = Walk(place, place.begin, (*steps, shape[-1], 1))
    return copied(emitter, walk, (*batch, *shape[-2:])), outer, inner, (inner * matrix, matrix)
