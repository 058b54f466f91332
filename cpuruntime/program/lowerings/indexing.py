"""Elements and slices by tensors of indices, the best elements along an axis, cumulative sums, triangles."""

from __future__ import annotations

from math import prod

import numpy as np

from cpuruntime.compiler.typed import FLOATS, INTEGERS
from cpuruntime.errors import ModelError, printable
from cpuruntime.graph import Extent, Node, Value
from cpuruntime.ops import indexing, topk
from cpuruntime.ops.cumulative import cumulative, triangle
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import along, axis_of, dtype_name, is_movable, lowering
from cpuruntime.program.plan.storage import Address, Plain

SUMMED = ("float32", "float64", "int32", "int64")
NUMBERS = (*FLOATS, *INTEGERS)


def _check_elements(node: Node) -> str | None:
    value = node.require(0)
    if not is_movable(value):
        return f"{node.op_type} has no kernel for {value.element_type.get_type_name()}"
    if len(value.static_shape) > indexing.AXES:
        return f"{node.op_type} has a kernel for up to {indexing.AXES} dimensions, not for {len(value.static_shape)}"
    if node.attributes.get("reduction", "none") != "none" and dtype_name(value) not in NUMBERS:
        return f"{node.op_type} has no kernel that combines {value.element_type.get_type_name()}"
    return None


def _fault(emitter: Emitter, node: Node, extents: list[int]) -> Address:
    """The word that a kernel sets when an index is beyond an extent; ModelError where any index would be."""
    message = f"{node.where}: an index in '{printable(node.require(1).name)}' is out of range; "
    if 0 in extents:
        raise ModelError(f"{message}an axis of '{printable(node.require(0).name)}' has no elements.")
    pieces: list[str | Extent] = [f"{message}it must be between "]
    for extent in extents:
        pieces += [-extent, " and ", extent - 1, ", "]
    return emitter.fault(*pieces[:-1], ".")


def _padded(numbers: list[int], neutral: int) -> list[int]:
    return [neutral] * (indexing.AXES - len(numbers)) + numbers


def _elements(emitter: Emitter, node: Node, data: Plain, indices: Plain) -> dict[str, object]:
    """The fields of kernels by element, of the tensor that is indexed."""
    axis = axis_of(node, 0, len(data.shape))
    strides = [0 if dimension == axis else stride for dimension, stride in enumerate(data.strides)]
    return dict(
        indices=indices.address, index_bytes=indices.dtype.itemsize, element=data.dtype.itemsize,
        extent=data.shape[axis], axis_stride=data.strides[axis], sizes=_padded(list(indices.shape), 1),
        strides=_padded(strides, 0), fault=_fault(emitter, node, [data.shape[axis]]),
    )  # fmt: skip


def _check_fit(node: Node, data: Plain, indices: Plain) -> None:
    """ModelError where the indices lie outside of the data along another axis than theirs."""
    axis = axis_of(node, 0, len(data.shape))
    if len(indices.shape) != len(data.shape):
        raise ModelError(f"{node.where}: {len(indices.shape)} dimensions of indices, {len(data.shape)} of data.")
    for dimension, (have, want) in enumerate(zip(data.shape, indices.shape)):
        if dimension != axis and want > have:
            raise ModelError(
                f"{node.where}: extent {want} of '{printable(node.require(1).name)}' along axis {dimension} > extent "
                f"{have} of '{printable(node.require(0).name)}'."
            )


@lowering("GatherElements", check=_check_elements)
def lower_gather_elements(emitter: Emitter, node: Node) -> None:
    """One element for each index."""
    data, indices = emitter.plain(node.require(0)), emitter.plain(node.require(1))
    target = emitter.new_plain(node.outputs[0])
    _check_fit(node, data, indices)
    if target.size:
        fields = _elements(emitter, node, data, indices)
        emitter.emit(indexing.gather_elements, "plain", source=data.address, target=target.address, **fields)


@lowering("ScatterElements", "Scatter", check=_check_elements)
def lower_scatter_elements(emitter: Emitter, node: Node) -> None:
    """A copy of the data, then one update for each index."""
    data, indices, updates = (emitter.plain(node.require(index)) for index in range(3))
    target = _copied(emitter, node, data)
    _check_fit(node, data, indices)
    if updates.shape != indices.shape:
        raise ModelError(f"{node.where}: updates {list(updates.shape)} != indices {list(indices.shape)}.")
    if indices.size:
        kernel = indexing.scatter_elements(node.attributes.get("reduction", "none"), data.dtype.name)
        fields = _elements(emitter, node, target, indices)
        emitter.emit(kernel, "plain", source=updates.address, target=target.address, **fields)


def _copied(emitter: Emitter, node: Node, data: Plain) -> Plain:
    target = emitter.new_plain(node.outputs[0])
    emitter.copy(data.address, target.address, (data.nbytes,), (1,), (1,), 1)
    return target


def _tuples(emitter: Emitter, node: Node, data: Plain, indices: Plain, lead: int) -> dict[str, object]:
    """The fields of kernels by tuple; the first `lead` axes of both are the batch."""
    depth = indices.shape[-1]
    if lead + depth > len(data.shape):
        raise ModelError(
            f"{node.where}: tuples of {depth} indices for '{printable(node.require(0).name)}' {list(data.shape)}."
        )
    extents, strides = list(data.shape[lead : lead + depth]), list(data.strides[lead : lead + depth])
    rest = [0] * (indexing.AXES - depth)
    return dict(
        indices=indices.address, index_bytes=indices.dtype.itemsize, element=data.dtype.itemsize, depth=depth,
        inner_bytes=prod(data.shape[lead + depth :]) * data.dtype.itemsize, batches=prod(data.shape[:lead]),
        tuples=prod(indices.shape[lead:-1]), batch_stride=prod(data.shape[lead:]) * data.dtype.itemsize,
        extents=extents + rest, strides=strides + rest, fault=_fault(emitter, node, extents),
    )  # fmt: skip


@lowering("GatherND", check=_check_elements)
def lower_gather_nd(emitter: Emitter, node: Node) -> None:
    """One slice for each tuple of indices."""
    data, indices = emitter.plain(node.require(0)), emitter.plain(node.require(1))
    target = emitter.new_plain(node.outputs[0])
    lead = node.attributes.get("batch_dims", 0)
    if not indices.shape or not 0 <= lead < len(indices.shape):
        raise ModelError(f"{node.where}: batch_dims {lead} for indices {list(indices.shape)}.")
    if data.shape[:lead] != indices.shape[:lead]:
        raise ModelError(f"{node.where}: the first {lead} axes of {list(data.shape)} and {list(indices.shape)} differ.")
    if target.size:
        fields = _tuples(emitter, node, data, indices, lead)
        emitter.emit(indexing.gather_tuples, "plain", source=data.address, target=target.address, **fields)


@lowering("ScatterND", check=_check_elements)
def lower_scatter_nd(emitter: Emitter, node: Node) -> None:
    """A copy of the data, then one slice for each tuple of indices."""
    data, indices, updates = (emitter.plain(node.require(index)) for index in range(3))
    target = _copied(emitter, node, data)
    if not indices.shape or updates.shape != (*indices.shape[:-1], *data.shape[indices.shape[-1] :]):
        raise ModelError(
            f"{node.where}: updates {list(updates.shape)} do not fit indices {list(indices.shape)} into "
            f"{list(data.shape)}."
        )
    if updates.size:
        kernel = indexing.scatter_tuples(node.attributes.get("reduction", "none"), data.dtype.name)
        fields = _tuples(emitter, node, target, indices, 0)
        emitter.emit(kernel, "plain", source=updates.address, target=target.address, **fields)


def _check_one_hot(node: Node) -> str | None:
    if dtype_name(node.require(0)) not in ("int32", "int64"):
        return f"OneHot has a kernel for indices of i32 and i64, not of {node.require(0).element_type.get_type_name()}"
    values = node.require(2)
    if not is_movable(values):
        return f"OneHot has no kernel for {values.element_type.get_type_name()}"
    return None


@lowering("OneHot", check=_check_one_hot)
def lower_one_hot(emitter: Emitter, node: Node) -> None:
    """Two values, the second where an index says so."""
    indices, values = emitter.plain(node.require(0)), emitter.plain(node.require(2))
    target = emitter.new_plain(node.outputs[0])
    axis = axis_of(node, -1, len(target.shape))
    if target.size:
        emitter.emit(
            indexing.one_hot, "plain", target=target.address, indices=indices.address, values=values.address,
            element=target.dtype.itemsize, index_bytes=indices.dtype.itemsize, outer=prod(target.shape[:axis]),
            depth=target.shape[axis], inner=prod(target.shape[axis + 1 :]),
        )  # fmt: skip


def _check_top_k(node: Node) -> str | None:
    value = node.require(0)
    if dtype_name(value) not in NUMBERS:
        return f"TopK has no kernel for {value.element_type.get_type_name()}"
    if len(node.inputs) > 1 and node.require(1).numbers is None:
        return "TopK has a kernel for a k that is known only"
    return None


@lowering("TopK", check=_check_top_k)
def lower_top_k(emitter: Emitter, node: Node) -> None:
    """The best elements along an axis and their indices; always sorted."""
    source = emitter.plain(node.require(0))
    axis = axis_of(node, -1, len(source.shape))
    count = next(value for value in node.outputs if value.name).static_shape[axis]
    # An unused result is written to scratch memory.
    values, indices = (
        emitter.new_plain(value).address if value.name
        else Address(emitter.scratch(prod((*source.shape[:axis], count, *source.shape[axis + 1 :])) * itemsize))
        for value, itemsize in zip([*node.outputs, Value("")], (source.dtype.itemsize, 8))
    )  # fmt: skip
    if count > source.shape[axis]:
        raise ModelError(f"{node.where}: k = {count} of {source.shape[axis]} elements.")
    if count and source.size:
        emitter.emit(
            topk.top_k(bool(node.attributes.get("largest", 1)), source.dtype.name), "plain", source=source.address,
            values=values, indices=indices, heaps=Address(emitter.scratch(count * topk.ENTRY * emitter.threads)),
            element=source.dtype.itemsize, count=count, **along(source.shape, axis),
        )  # fmt: skip


def _check_cumulative(node: Node) -> str | None:
    if dtype_name(node.require(0)) not in SUMMED:
        return f"{node.op_type} has no kernel for {node.require(0).element_type.get_type_name()}"
    return None


def _check_one(node: Node, value: Value) -> None:
    if prod(value.static_shape) != 1:
        shape = list(value.static_shape)
        raise ModelError(f"{node.where}: input 1 has the shape {shape}; it must be one integer.")


@lowering("CumProd", "CumSum", check=_check_cumulative)
def lower_cumulative(emitter: Emitter, node: Node) -> None:
    """Cumulative sums or products along an axis that may be computed."""
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    _check_one(node, node.require(1))
    axis, rank = emitter.plain(node.require(1)), len(source.shape)
    if node.require(1).constant is not None or not rank:
        axis_of(node, int(node.require(1).data.reshape(())) if rank else 0, rank)
    message = f"{node.where}: the axis must be between {-rank} and {rank - 1}."
    emitter.emit(
        cumulative(source.dtype.name, node.op_type == "CumProd"), "plain", source=source.address,
        target=target.address, size=source.size, exclusive=node.attributes.get("exclusive", 0),
        reverse=node.attributes.get("reverse", 0), axis=axis.address, axis_bytes=axis.dtype.itemsize,
        extents=emitter.rows([source.shape]), rank=rank,
        fault=emitter.fault(message),
    )  # fmt: skip


def _check_triangle(node: Node) -> str | None:
    return "Trilu needs matrices" if len(node.require(0).static_shape) < 2 else _check_elements(node)


@lowering("Trilu", check=_check_triangle)
def lower_triangle(emitter: Emitter, node: Node) -> None:
    """The upper or lower triangle of each matrix."""
    source, target = emitter.plain(node.require(0)), emitter.new_plain(node.outputs[0])
    zero = emitter.constant(np.zeros(1, np.int64))
    if node.input(1) is not None:
        _check_one(node, node.require(1))
    *lead, rows, columns = source.shape
    emitter.emit(
        triangle, "plain", source=source.address, target=target.address, element=source.dtype.itemsize, zero=zero,
        batch=prod(lead), rows=rows, columns=columns, upper=node.attributes.get("upper", 1),
        offset=zero if node.input(1) is None else emitter.plain(node.require(1)).address,
    )  # fmt: skip
