"""Matrix products: a constant right side is packed at compile time, another one by a step before the product."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Compressed, Node, Type
from cpuruntime.operators.shape_rules import broadcast
from cpuruntime.ops.matmul import matmul, pack_columns, packed_bytes
from cpuruntime.ops.matmul_typed import TYPES, typed_matmul
from cpuruntime.ops.movement import fill
from cpuruntime.program.lowerings.compressed_product import emit_compressed
from cpuruntime.program.lowerings.packed_matrices import MatrixPacking
from cpuruntime.program.lowerings.strassen import emit_strassen, strassen_pays, strassen_tiling
from cpuruntime.program.plan.candidate import Candidate, Query
from cpuruntime.program.plan.compressed_weights import has_kernel
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.epilogue import activation_fields, limits, whole_vectors
from cpuruntime.program.plan.lowering import Methods, dtype_name, lowering, only_float32
from cpuruntime.program.plan.storage import Address
from cpuruntime.program.tuning.tiles import Grid, Tiling, rank_tilings
from cpuruntime.records import record

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
    exact = exact or isinstance(node.require(1).constant, Compressed)
    return fully_connected_methods(prod(node.require(0).static_shape) // inner, inner, columns, exact)


@lowering("FullyConnected", domain="cpuruntime", check=_check_fully_connected, methods=_methods)
def lower_fully_connected(emitter: Emitter, node: Node) -> None:
    """y[M, N] = x[M, K] @ w[K, N] + bias + residual, then the activation."""
    emit_fully_connected(emitter, node, emitter.methods[node].choice)


def emit_fully_connected(emitter: Emitter, node: Node, by_strassen: bool) -> None:
    """The product of a node, which need not be one of the graph, by the method chosen for it."""
    constant = node.require(1).data
    inner, columns = constant.shape
    source = emitter.plain(node.require(0))
    residual = None if node.input(3) is None else emitter.plain(node.require(3)).address
    target = emitter.new_plain(node.outputs[0])
    rows = source.size // inner
    activation, fields = _epilogue(emitter, node, columns)
    fields |= {"target": target.address, "target_row": columns * 4}
    if residual is not None:
        fields |= {"residual": residual, "residual_row": columns * 4}
    if isinstance(constant, Compressed) and has_kernel(constant):
        emit_compressed(emitter, constant, rows, source.address, activation, fields)
        return
    if by_strassen:
        tiling = strassen_tiling(rows, inner, columns, emitter.threads)
        emit_strassen(emitter, tiling, constant, rows, source.address, activation, fields)
        return
    if residual is not None:
        fields["residual_batch"] = rows * columns * 4

    def emit(emitter: Emitter, tiling: Tiling) -> None:
        weights = _pack(emitter, None, constant, (1, inner, columns), tiling.columns)
        sizes = dict(batch=1, rows=rows, inner=inner, columns=columns, weights_batch=0, source_batch=0)
        _emit_product(emitter, activation, tiling, source=source.address, weights=weights, **sizes, **fields)

    product = _Product((1, rows, inner), (1, inner, columns), 0)
    _emit_fastest(emitter, node, product, rows, constant, emit)


def _emit_fastest(
    emitter: Emitter, node: Node, product: _Product, rows: int, constant: np.ndarray | None,
    emit: Callable[[Emitter, Tiling], None],
) -> None:  # fmt: skip
    """A product of `rows` rows by the fastest tiling; of a constant right side, if it is one."""
    inner, columns = product.b[-2:]
    grid = Grid(1, rows, -(-columns // LANES), inner, rows * inner * 4, pairs=True)
    query = Query(("matmul",), product, grid, node.input(3) is not None, node.attributes.get("activation", ""))

    def is_ready(tiling: Tiling) -> bool:
        return constant is not None and emitter.weights.is_packed(_key(emitter, constant, tiling.columns))

    emitter.emit_fastest(query, rank_tilings(grid, emitter.threads), emit, is_ready)


def _key(emitter: Emitter, constant: np.ndarray, tile_columns: int) -> Hashable:
    """The key of a right side that is packed for tiles."""
    return (emitter.weights.identity(constant), "columns", tile_columns)


def _emit_product(
    emitter: Emitter, activation: str, tiling: Tiling, *, batch: int, rows: int, inner: int, columns: int,
    **fields: Any,
) -> None:  # fmt: skip
    emitter.emit(
        tiling.fit(rows, lambda tall: matmul(tall, tiling.columns, activation)), "plain",
        flops=2 * batch * rows * inner * columns, notes=str(tiling), batch=batch, rows=rows, inner=inner,
        columns=columns, source_row=inner * 4, target_batch=rows * columns * 4, chunk=tiling.chunk, **fields,
    )  # fmt: skip


def _epilogue(emitter: Emitter, node: Node, columns: int) -> tuple[str, dict[str, Any]]:
    """The epilogue of a product's kernel: the activation, "" for a clamp or none, and its argument fields."""
    activation, parameters = activation_fields(node)
    bias = whole_vectors(emitter, node.input(2), columns)
    return activation, dict(limits=limits(emitter, node), bias=bias, **parameters)


@record
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
        return broadcast(self.a[:-2], self.b[:-2])


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
    product = _product(node)
    if prod(product.batches[: product.outer]) > MOST_STEPS:
        return f"MatMul has a kernel for up to {MOST_STEPS} repetitions of stacks, not for {product.a} @ {product.b}"
    types = {dtype_name(value) for value in (*node.inputs, *node.outputs) if value is not None}
    return None if len(types) == 1 and types <= set(TYPES) else only_float32(node)


def _lower_typed(emitter: Emitter, node: Node, product: _Product) -> None:
    """A product of another type than float32: a step for each place of the outer axes."""
    a, b, target = emitter.plain(node.require(0)), emitter.plain(node.require(1)), emitter.new_plain(node.outputs[0])
    (rows, inner), columns, size = product.a[-2:], product.b[-1], target.dtype.itemsize
    batches = prod(product.batches[product.outer :])
    stack = batches * rows * columns * size
    strides = [0 if prod(s[product.outer : -2]) == 1 else prod(s[-2:]) * size for s in (product.a, product.b)]
    for index, place in enumerate(np.ndindex(product.batches[: product.outer])):
        at_a, at_b = (
            _stack_index(place, shape[: product.outer]) * prod(shape[product.outer :]) * size
            for shape in (product.a, product.b)
        )
        emitter.emit(
            typed_matmul(target.dtype.name), "plain", flops=2 * batches * rows * inner * columns,
            source=a.address + at_a, right=b.address + at_b, target=target.address + index * stack,
            batch=batches, rows=rows, inner=inner, columns=columns, source_batch=strides[0], right_batch=strides[1],
        )  # fmt: skip


@lowering("MatMul", check=_check_matmul)
def lower_matmul(emitter: Emitter, node: Node) -> None:
    """The product of two tensors; a right side that is not constant is packed by a step of its own."""
    product = _product(node)
    if product.a[-1] == 0:
        target = emitter.new_plain(node.outputs[0])
        emitter.emit(fill, "plain", target=target.address, size=target.nbytes, pattern=0)
        return
    if node.outputs[0].element_type != Type.f32:
        _lower_typed(emitter, node, product)
        return
    right = node.require(1)
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    address = emitter.plain(right).address if right.constant is None else None
    (rows, inner), columns = product.a[-2:], product.b[-1]
    batches = prod(product.batches[product.outer :])
    repeats = prod(product.b[product.outer : -2]) == 1
    if repeats:
        rows, batches = rows * prod(product.a[product.outer : -2]), 1
    moves = prod(product.a[product.outer : -2]) > 1 and not repeats
    sizes = dict(batch=batches, rows=rows, inner=inner, columns=columns, source_batch=rows * inner * 4 if moves else 0)
    activation, fields = _epilogue(emitter, node, columns)
    fields["target_row"] = columns * 4

    def emit(emitter: Emitter, tiling: Tiling) -> None:
        size = packed_bytes(inner, columns, tiling.columns)
        packed = _pack(emitter, address, right.constant, product.b, tiling.columns)
        stack = rows * inner * 4 * (batches if moves else 1), batches * rows * columns * 4, size * batches
        for index, place in enumerate(np.ndindex(product.batches[: product.outer])):
            at_a, at_b = (_stack_index(place, shape[: product.outer]) for shape in (product.a, product.b))
            _emit_product(
                emitter, activation, tiling, source=source.address + at_a * stack[0],
                target=target.address + index * stack[1], weights=packed + at_b * stack[2],
                weights_batch=0 if repeats else size, **sizes, **fields,
            )  # fmt: skip

    _emit_fastest(emitter, node, product, rows, right.constant, emit)


def _stack_index(place: tuple[int, ...], extents: tuple[int, ...]) -> int:
    """Which of the stacks of an operand with these outer extents is used at a place of the result."""
    index = 0
    for position, extent in zip(place, extents):
        index = index * extent + (position if extent > 1 else 0)
    return index


def _pack(
    emitter: Emitter, address: Address | None, constant: np.ndarray | None, shape: tuple[int, ...], tile_columns: int
) -> Address:
    """All matrices of a right side, packed at compile time when they are constant and not at an address."""
    (inner, columns), batch = shape[-2:], prod(shape[:-2])
    size = packed_bytes(inner, columns, tile_columns)
    sizes = dict(batch=batch, inner=inner, columns=columns, tile_columns=tile_columns, target_batch=size)
    if constant is None:
        packed = Address(emitter.scratch(batch * size))
        strides = dict(source_batch=inner * columns * 4, source_row=columns * 4, source_column=4)
        emitter.emit(pack_columns, "plain", source=address, target=packed, **sizes, **strides)
        return packed
    packing = MatrixPacking(batch, inner, columns, tile_columns)
    return emitter.weights.packed(_key(emitter, constant, tile_columns), batch * size, packing, constant)
