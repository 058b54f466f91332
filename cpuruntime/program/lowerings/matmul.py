"""Matrix products: a constant right side is packed at compile time, another one by a step before the product."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Node
from cpuruntime.ops.matmul import matmul, pack_columns, packed_bytes
from cpuruntime.program.lowerings.strassen import emit_strassen, strassen_pays, strassen_tiling
from cpuruntime.program.plan.candidate import Candidate, Comparison, Query
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import activation_fields, limits, whole_vectors
from cpuruntime.program.plan.lowering import Methods, lowering, only_float32
from cpuruntime.program.plan.packing import run_kernel
from cpuruntime.program.plan.storage import Address, Plain
from cpuruntime.program.tuning.tiles import Grid, Tiling, rank_tilings

MOST_STEPS = 256
"""The most steps a MatMul may take."""


def _check_fully_connected(node: Node) -> str | None:
    weights, bias = node.inputs[1], node.input(2)
    if weights is None or weights.constant is None or (bias is not None and bias.constant is None):
        return "FullyConnected has a kernel for constant weights and bias"
    if 0 in (*node.outputs[0].static_shape, *weights.static_shape):
        return "FullyConnected has no kernel for empty tensors"
    return only_float32(node)


def fully_connected_methods(rows: int, inner: int, columns: int, exact: bool) -> Methods:
    """Whether the product of a FullyConnected is computed by Strassen's method."""
    pays = not exact and strassen_pays(rows, inner, columns)
    candidate = Candidate(pays, "Strassen" if pays else "direct", 0.0)
    return Methods(Query(("matmul", "strassen"), (rows, inner, columns)), [candidate])


def _methods(node: Node, exact: bool) -> Methods:
    inner, columns = node.require(1).static_shape
    return fully_connected_methods(prod(node.require(0).static_shape) // inner, inner, columns, exact)


@lowering("FullyConnected", domain="cpuruntime", check=_check_fully_connected, methods=_methods)
def lower_fully_connected(emitter: Emitter, node: Node) -> None:
    """y[M, N] = x[M, K] @ w[K, N] + bias + residual, then the activation."""
    emit_fully_connected(emitter, node, emitter.methods[node].choice)


def emit_fully_connected(emitter: Emitter, node: Node, by_strassen: bool) -> None:
    """The product of a node, which need not be one of the graph, by the method chosen for it."""
    bias, residual_value = node.input(2), node.input(3)
    constant = node.require(1).data
    inner, columns = constant.shape
    source = emitter.plain(node.require(0))
    residual = None if residual_value is None else emitter.plain(residual_value)
    target = emitter.new_plain(node.outputs[0])
    rows = source.size // inner
    if by_strassen:
        activation, fields = _epilogue(emitter, node, columns, None if bias is None else bias.constant, residual)
        fields.update(target=target.address, target_row=columns * 4)
        tiling = strassen_tiling(rows, inner, columns, emitter.threads)
        emit_strassen(emitter, tiling, constant, rows, source.address, activation, fields)
        return
    sizes = dict(batch=1, rows=rows, inner=inner, columns=columns)

    def emit(emitter: Emitter, tiling: Tiling, comparisons: tuple[Comparison, ...] = ()) -> None:
        weights = _pack_constant(emitter, constant, tiling.columns)
        _emit_product(
            emitter, node, tiling, sizes, source.address, target.address, weights, comparisons=comparisons,
            bias=None if bias is None else bias.constant, residual=residual, weights_batch=0, source_batch=0,
        )  # fmt: skip

    grid = Grid(1, rows, -(-columns // LANES), inner, source.nbytes)
    product = _Product((1, rows, inner), (1, inner, columns), 0)
    query = Query(("matmul",), product, grid, residual is not None, node.attributes.get("activation", ""))
    tiling = emitter.choose(query, rank_tilings(grid, emitter.threads), emit)
    emit(emitter, tiling.choice, (tiling.comparison,))


def _pack_constant(emitter: Emitter, weights: np.ndarray, tile_columns: int) -> Address:
    """The packed right side [K, N], by the kernel that packs it at run time too."""
    inner, columns = weights.shape
    size = packed_bytes(inner, columns, tile_columns)

    def fill(memory: np.ndarray) -> None:
        run_kernel(
            pack_columns, source=weights.ctypes.data, target=memory.ctypes.data, source_row=weights.strides[0],
            source_column=weights.strides[1], batch=1, inner=inner, columns=columns, tile_columns=tile_columns,
        )  # fmt: skip

    return emitter.weights.pack((emitter.weights.identity(weights), "columns", tile_columns), size, fill)


def _emit_product(
    emitter: Emitter, node: Node, tiling: Tiling, sizes: dict[str, int], source: Address, target: Address,
    weights: Address, *, bias: np.ndarray | None, residual: Plain | None, weights_batch: int, source_batch: int,
    comparisons: tuple[Comparison, ...],
) -> None:  # fmt: skip
    rows, inner, columns, batch = sizes["rows"], sizes["inner"], sizes["columns"], sizes["batch"]
    activation, fields = _epilogue(emitter, node, columns, bias, residual)
    if residual is not None:
        fields.update(residual_batch=rows * columns * 4)
    emitter.emit(
        matmul(tiling.rows, tiling.columns, activation), "plain", flops=2 * batch * rows * inner * columns,
        notes=str(tiling), comparisons=comparisons,
        source=source, source_batch=source_batch, source_row=inner * 4,
        target=target, target_batch=rows * columns * 4, target_row=columns * 4,
        weights=weights, weights_batch=weights_batch, chunk=tiling.chunk, **sizes, **fields,
    )  # fmt: skip


def _epilogue(
    emitter: Emitter, node: Node, columns: int, bias: np.ndarray | None, residual: Plain | None
) -> tuple[str, dict[str, Any]]:
    """The epilogue of a product's kernel: the activation, "" for a clamp or none, and its argument fields."""
    padded = whole_vectors(bias, columns)
    fields: dict[str, Any] = dict(
        limits=limits(emitter, node),
        bias=emitter.constant(padded),
    )
    activation, parameters = activation_fields(node)
    fields.update(parameters)
    if residual is not None:
        fields.update(residual=residual.address, residual_row=columns * 4)
    return activation, fields


@dataclass(frozen=True)
class _Product:
    """A MatMul as products of stacks of matrices: `a` and `b` are their shapes with as many axes as the larger has.

    Along the first `outer` axes one side may repeat while the other does not, which takes a step for each place; along
    the others both have the same extents, or one side has a single matrix.
    """

    a: tuple[int, ...]
    b: tuple[int, ...]
    outer: int

    @property
    def batches(self) -> tuple[int, ...]:
        """The leading axes of the result."""
        return np.broadcast_shapes(self.a[:-2], self.b[:-2])


def _product(node: Node) -> _Product:
    a, b = node.require(0).static_shape, node.require(1).static_shape
    a, b = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    outer = 0
    while a[outer:-2] != b[outer:-2] and prod(a[outer:-2]) != 1 and prod(b[outer:-2]) != 1:
        outer += 1
    return _Product(a, b, outer)


def _check_matmul(node: Node) -> str | None:
    if any(0 in node.require(index).static_shape for index in (0, 1)):
        return "MatMul has no kernel for empty tensors"
    product = _product(node)
    if prod(product.batches[: product.outer]) > MOST_STEPS:
        return f"MatMul has a kernel for up to {MOST_STEPS} repetitions of stacks, not for {product.a} @ {product.b}"
    return only_float32(node)


@lowering("MatMul", check=_check_matmul)
def lower_matmul(emitter: Emitter, node: Node) -> None:
    """The product of two tensors; a right side that is not constant is packed by a step of its own."""
    product = _product(node)
    right = node.require(1)
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    address = emitter.plain(right).address if right.constant is None else None
    (rows, inner), columns = product.a[-2:], product.b[-1]
    batches = prod(product.batches[product.outer :])
    repeats = prod(product.b[product.outer : -2]) == 1
    if repeats:
        rows, batches = rows * prod(product.a[product.outer : -2]), 1
    moves = prod(product.a[product.outer : -2]) > 1 and not repeats
    sizes = dict(batch=batches, rows=rows, inner=inner, columns=columns)

    def emit(emitter: Emitter, tiling: Tiling, comparisons: tuple[Comparison, ...] = ()) -> None:
        size = packed_bytes(inner, columns, tiling.columns)
        packed = _pack_stack(emitter, address, right.constant, product.b, tiling.columns)
        stack = rows * inner * 4 * (batches if moves else 1), batches * rows * columns * 4, size * batches
        for index, place in enumerate(np.ndindex(product.batches[: product.outer])):
            at_a, at_b = (_stack_index(place, shape[: product.outer]) for shape in (product.a, product.b))
            _emit_product(
                emitter, node, tiling, sizes,
                source.address + at_a * stack[0], target.address + index * stack[1], packed + at_b * stack[2],
                bias=None, residual=None, weights_batch=0 if repeats else size,
                source_batch=rows * inner * 4 if moves else 0, comparisons=comparisons,
            )  # fmt: skip

    grid = Grid(1, rows, -(-columns // LANES), inner, rows * inner * 4)
    query = Query(("matmul",), product, grid, activation=node.attributes.get("activation", ""))
    tiling = emitter.choose(query, rank_tilings(grid, emitter.threads), emit)
    emit(emitter, tiling.choice, (tiling.comparison,))


def _stack_index(place: tuple[int, ...], extents: tuple[int, ...]) -> int:
    """Which of the stacks of an operand with these outer extents is used at a place of the result."""
    index = 0
    for position, extent in zip(place, extents):
        index = index * extent + (position if extent > 1 else 0)
    return index


def _pack_stack(
    emitter: Emitter, address: Address | None, constant: np.ndarray | None, shape: tuple[int, ...], tile_columns: int
) -> Address:
    """All matrices of a right side, packed at compile time when they are constant and not at an address."""
    (inner, columns), batch = shape[-2:], prod(shape[:-2])
    size = packed_bytes(inner, columns, tile_columns)
    sizes = dict(
        source_batch=inner * columns * 4, source_row=columns * 4, source_column=4, target_batch=size, batch=batch,
        inner=inner, columns=columns, tile_columns=tile_columns,
    )  # fmt: skip
    if constant is None:
        packed = Address(emitter.scratch(batch * size))
        emitter.emit(pack_columns, "plain", source=address, target=packed, **sizes)
        return packed
    array = np.ascontiguousarray(constant)

    def fill(memory: np.ndarray) -> None:
        run_kernel(pack_columns, source=array.ctypes.data, target=memory.ctypes.data, **sizes)

    key = (emitter.weights.identity(constant), "stack", tile_columns)
    return emitter.weights.pack(key, batch * size, fill)
