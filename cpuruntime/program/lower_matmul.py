"""Matrix products: a constant right side is packed at compile time, another one by a step before the product."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from cpuruntime.graph.graph import Node, Value
from cpuruntime.ops.isa import LANES
from cpuruntime.ops.matmul import matmul, pack_columns, packed_bytes
from cpuruntime.program.elementwise_steps import parameter_fields
from cpuruntime.program.epilogue import clamp_limits, limits, padded_bias
from cpuruntime.program.lowering import lowering, only_float32
from cpuruntime.program.packing import run_kernel
from cpuruntime.program.planner import Planner
from cpuruntime.program.storage import Address, Plain
from cpuruntime.program.tiles import Tiling, choose_tiling


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
    assert w.constant is not None
    inner, columns = w.static_shape
    source = planner.plain(x)
    residual = None if residual_value is None else planner.plain(residual_value)
    target = planner.new_plain(node.outputs[0])
    rows = source.size // inner
    tiling = choose_tiling(1, rows, -(-columns // LANES), inner, source.nbytes, planner.threads)
    weights = _pack_constant(planner, w.constant, tiling.columns)
    sizes = dict(batch=1, rows=rows, inner=inner, columns=columns)
    _emit_product(
        planner, node, tiling, sizes, source, target, weights,
        bias=None if bias is None else bias.constant, residual=residual, weights_batch=0, source_batch=0,
    )  # fmt: skip


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
    planner: Planner, node: Node, tiling: Tiling, sizes: dict[str, int], source: Plain, target: Plain, weights: Address,
    *, bias: np.ndarray | None, residual: Plain | None, weights_batch: int, source_batch: int,
) -> None:  # fmt: skip
    rows, inner, columns, batch = sizes["rows"], sizes["inner"], sizes["columns"], sizes["batch"]
    padded = padded_bias(bias, columns, LANES)
    fields: dict[str, Any] = dict(limits=limits(planner, node))
    activation = ""
    if clamp_limits(node) is None:
        activation = node.attributes["activation"]
        fields.update(parameter_fields(activation, node.attributes["activation_arguments"]))
    if residual is not None:
        fields.update(residual=residual.address, residual_batch=rows * columns * 4, residual_row=columns * 4)
    planner.emit(
        matmul(tiling.rows, tiling.columns, activation), "plain", flops=2 * batch * rows * inner * columns,
        notes=f"tile {tiling.rows}x{tiling.columns}, chunk {tiling.chunk}",
        source=source.address, source_batch=source_batch, source_row=inner * 4,
        target=target.address, target_batch=rows * columns * 4, target_row=columns * 4,
        weights=weights, weights_batch=weights_batch,
        bias=planner.weights.constant((planner.weights.identity(padded), "bias"), padded),
        chunk=tiling.chunk, **sizes, **fields,
    )  # fmt: skip


def _batches(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:-2] if len(shape) > 2 else ()


def _check_matmul(node: Node) -> str | None:
    a, b = _value(node, 0).static_shape, _value(node, 1).static_shape
    if len(a) < 2 or len(b) < 2:
        return "MatMul has a kernel for matrices, not for vectors"
    if 0 in (*a, *b):
        return "MatMul has no kernel for empty tensors"
    if _batches(a) != _batches(b) and prod(_batches(a)) != 1 and prod(_batches(b)) != 1:
        return f"MatMul has a kernel for equal batches or a single one, not for {list(a)} @ {list(b)}"
    return only_float32(node)


@lowering("MatMul", check=_check_matmul)
def lower_matmul(planner: Planner, node: Node) -> None:
    """The product of two activations, the right one packed by a step of its own."""
    a, b = planner.plain(_value(node, 0)), planner.plain(_value(node, 1))
    target = planner.new_plain(node.outputs[0])
    (rows, inner), columns = a.shape[-2:], b.shape[-1]
    batches, packs = prod(_batches(target.shape)), prod(_batches(b.shape))
    if packs == 1 and batches > 1:
        rows, batches = rows * batches, 1
    tiling = choose_tiling(1, rows, -(-columns // LANES), inner, rows * inner * 4, planner.threads)
    size = packed_bytes(inner, columns, tiling.columns)
    packed = Address(planner.scratch(packs * size))
    planner.emit(
        pack_columns, "plain", source=b.address, source_batch=inner * columns * 4, source_row=columns * 4,
        source_column=4, target=packed, target_batch=size, batch=packs, inner=inner, columns=columns,
        tile_columns=tiling.columns,
    )  # fmt: skip
    source_batch = rows * inner * 4 if prod(_batches(a.shape)) > 1 else 0
    _emit_product(
        planner, node, tiling, dict(batch=batches, rows=rows, inner=inner, columns=columns), a, target, packed,
        bias=None, residual=None, weights_batch=size if packs > 1 else 0, source_batch=source_batch,
    )  # fmt: skip


