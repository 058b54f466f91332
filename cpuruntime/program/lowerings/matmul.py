"""Matrix products: a constant right side is packed at compile time, another one by a step before the product."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Node, Value
from cpuruntime.ops.matmul import matmul, pack_columns, packed_bytes
from cpuruntime.program.lowerings.elementwise_steps import parameter_fields
from cpuruntime.program.lowerings.strassen import choose_strassen, emit_strassen
from cpuruntime.program.plan.epilogue import clamp_limits, limits, padded_bias
from cpuruntime.program.plan.lowering import lowering, only_float32
from cpuruntime.program.plan.packing import run_kernel
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.storage import Address, Plain
from cpuruntime.program.tuning.candidate import Comparison
from cpuruntime.program.tuning.tiles import Tiling, rank_tilings

MOST_STEPS = 256
"""The most steps a MatMul may take."""


def _value(node: Node, index: int) -> Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _check_fully_connected(node: Node) -> str | None:
    weights, bias = node.inputs[1], node.input(2)
    if weights is None or weights.constant is None or (bias is not None and bias.constant is None):
        return "FullyConnected has a kernel for constant weights and bias"
    if 0 in (*node.outputs[0].static_shape, *weights.static_shape):
        return "FullyConnected has no kernel for empty tensors"
    return only_float32(node)


@lowering("FullyConnected", domain="cpuruntime", check=_check_fully_connected)
def lower_fully_connected(planner: Planner, node: Node) -> None:
    """y[M, N] = x[M, K] @ w[K, N] + bias + residual, then the activation."""
    x, w, bias, residual_value = _value(node, 0), _value(node, 1), node.input(2), node.input(3)
    constant = w.constant
    assert constant is not None
    inner, columns = w.static_shape
    source = planner.plain(x)
    residual = None if residual_value is None else planner.plain(residual_value)
    target = planner.new_plain(node.outputs[0])
    rows = source.size // inner
    strassen = None if planner.exact else choose_strassen(rows, inner, columns, planner.threads)
    if strassen is not None:
        activation, fields = _epilogue(planner, node, columns, None if bias is None else bias.constant, residual)
        fields.update(target=target.address, target_row=columns * 4)
        emit_strassen(planner, strassen, constant, rows, source.address, activation, fields)
        return
    sizes = dict(batch=1, rows=rows, inner=inner, columns=columns)

    def emit(planner: Planner, tiling: Tiling, comparisons: tuple[Comparison, ...] = ()) -> None:
        weights = _pack_constant(planner, constant, tiling.columns)
        _emit_product(
            planner, node, tiling, sizes, source.address, target.address, weights, comparisons=comparisons,
            bias=None if bias is None else bias.constant, residual=residual, weights_batch=0, source_batch=0,
        )  # fmt: skip

    candidates = rank_tilings(1, rows, -(-columns // LANES), inner, source.nbytes, planner.threads)
    activation = node.attributes.get("activation", "")
    tiling = planner.choose("matmul", (*sizes.values(), residual is not None, activation), candidates, emit)
    emit(planner, tiling.choice, (tiling.comparison,))


def _pack_constant(planner: Planner, weights: np.ndarray, tile_columns: int) -> Address:
    """The packed right side [K, N], by the kernel that packs it at run time too."""
    inner, columns = weights.shape
    size = packed_bytes(inner, columns, tile_columns)

    def fill(memory: np.ndarray) -> None:
        run_kernel(
            pack_columns, source=weights.ctypes.data, target=memory.ctypes.data, source_row=weights.strides[0],
            source_column=weights.strides[1], batch=1, inner=inner, columns=columns, tile_columns=tile_columns,
        )  # fmt: skip

    return planner.weights.pack((planner.weights.identity(weights), "columns", tile_columns), size, fill)


def _emit_product(
    planner: Planner, node: Node, tiling: Tiling, sizes: dict[str, int], source: Address, target: Address,
    weights: Address, *, bias: np.ndarray | None, residual: Plain | None, weights_batch: int, source_batch: int,
    comparisons: tuple[Comparison, ...],
) -> None:  # fmt: skip
    rows, inner, columns, batch = sizes["rows"], sizes["inner"], sizes["columns"], sizes["batch"]
    activation, fields = _epilogue(planner, node, columns, bias, residual)
    if residual is not None:
        fields.update(residual_batch=rows * columns * 4)
    planner.emit(
        matmul(tiling.rows, tiling.columns, activation), "plain", flops=2 * batch * rows * inner * columns,
        notes=str(tiling), comparisons=comparisons,
        source=source, source_batch=source_batch, source_row=inner * 4,
        target=target, target_batch=rows * columns * 4, target_row=columns * 4,
        weights=weights, weights_batch=weights_batch, chunk=tiling.chunk, **sizes, **fields,
    )  # fmt: skip


def _epilogue(
    planner: Planner, node: Node, columns: int, bias: np.ndarray | None, residual: Plain | None
) -> tuple[str, dict[str, Any]]:
    """What a product's kernel does before its store: the activation that is no clamp, and the fields for the rest."""
    padded = padded_bias(bias, columns, LANES)
    fields: dict[str, Any] = dict(
        limits=limits(planner, node),
        bias=planner.weights.constant((planner.weights.identity(padded), "bias"), padded),
    )
    activation = ""
    if clamp_limits(node) is None:
        activation = node.attributes["activation"]
        fields.update(parameter_fields(activation, node.attributes["activation_arguments"]))
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
    a, b = _value(node, 0).static_shape, _value(node, 1).static_shape
    a, b = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    outer = 0
    while a[outer:-2] != b[outer:-2] and prod(a[outer:-2]) != 1 and prod(b[outer:-2]) != 1:
        outer += 1
    return _Product(a, b, outer)


def _check_matmul(node: Node) -> str | None:
    if any(0 in _value(node, index).static_shape for index in (0, 1)):
        return "MatMul has no kernel for empty tensors"
    product = _product(node)
    if prod(product.batches[: product.outer]) > MOST_STEPS:
        return f"MatMul has a kernel for up to {MOST_STEPS} repetitions of stacks, not for {product.a} @ {product.b}"
    return only_float32(node)


@lowering("MatMul", check=_check_matmul)
def lower_matmul(planner: Planner, node: Node) -> None:
    """The product of two tensors; a right side that is not constant is packed by a step of its own."""
    product = _product(node)
    right = _value(node, 1)
    source, target = planner.plain(_value(node, 0)), planner.new_plain(node.outputs[0])
    address = planner.plain(right).address if right.constant is None else None
    (rows, inner), columns = product.a[-2:], product.b[-1]
    batches = prod(product.batches[product.outer :])
    repeats = prod(product.b[product.outer : -2]) == 1
    if repeats:
        rows, batches = rows * prod(product.a[product.outer : -2]), 1
    moves = prod(product.a[product.outer : -2]) > 1 and not repeats
    sizes = dict(batch=batches, rows=rows, inner=inner, columns=columns)

    def emit(planner: Planner, tiling: Tiling, comparisons: tuple[Comparison, ...] = ()) -> None:
        size = packed_bytes(inner, columns, tiling.columns)
        packed = _pack_stack(planner, address, right.constant, product.b, tiling.columns)
        stack = rows * inner * 4 * (batches if moves else 1), batches * rows * columns * 4, size * batches
        for index, place in enumerate(np.ndindex(product.batches[: product.outer])):
            at_a, at_b = (_stack_index(place, shape[: product.outer]) for shape in (product.a, product.b))
            _emit_product(
                planner, node, tiling, sizes,
                source.address + at_a * stack[0], target.address + index * stack[1], packed + at_b * stack[2],
                bias=None, residual=None, weights_batch=0 if repeats else size,
                source_batch=rows * inner * 4 if moves else 0, comparisons=comparisons,
            )  # fmt: skip

    candidates = rank_tilings(1, rows, -(-columns // LANES), inner, rows * inner * 4, planner.threads)
    kind = (product.a, product.b, right.constant is not None, node.attributes.get("activation", ""))
    tiling = planner.choose("matmul", kind, candidates, emit)
    emit(planner, tiling.choice, (tiling.comparison,))


def _stack_index(place: tuple[int, ...], extents: tuple[int, ...]) -> int:
    """Which of the stacks of an operand with these outer extents is used at a place of the result."""
    index = 0
    for position, extent in zip(place, extents):
        index = index * extent + (position if extent > 1 else 0)
    return index


def _pack_stack(
    planner: Planner, address: Address | None, constant: np.ndarray | None, shape: tuple[int, ...], tile_columns: int
) -> Address:
    """All matrices of a right side, packed at compile time when they are constant and not at an address."""
    (inner, columns), batch = shape[-2:], prod(shape[:-2])
    size = packed_bytes(inner, columns, tile_columns)
    sizes = dict(
        source_batch=inner * columns * 4, source_row=columns * 4, source_column=4, target_batch=size, batch=batch,
        inner=inner, columns=columns, tile_columns=tile_columns,
    )  # fmt: skip
    if constant is None:
        packed = Address(planner.scratch(batch * size))
        planner.emit(pack_columns, "plain", source=address, target=packed, **sizes)
        return packed
    array = np.ascontiguousarray(constant)

    def fill(memory: np.ndarray) -> None:
        run_kernel(pack_columns, source=array.ctypes.data, target=memory.ctypes.data, **sizes)

    key = (planner.weights.identity(constant), "stack", tile_columns)
    return planner.weights.pack(key, batch * size, fill)
