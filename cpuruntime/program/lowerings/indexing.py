"""Elements and slices by tensors of indices, the best elements along an axis, running sums, triangles."""

from __future__ import annotations

from math import prod

import numpy as np

from cpuruntime.compiler.typed import FLOATS, INTEGERS
from cpuruntime.errors import ModelError
from cpuruntime.graph import Node, Type, Value
from cpuruntime.ops import indexing, topk
from cpuruntime.ops.cumsum import running_sum, triangle
from cpuruntime.program.plan.lowering import lowering
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.storage import Address, Plain

SUMMED = ("float32", "float64", "int32", "int64")
NUMBERS = (*FLOATS, *INTEGERS)


def _input(node: Node, index: int = 0) -> Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _dtype(value: Value) -> str:
    return value.element_type.to_dtype().name


def _check_elements(node: Node) -> str | None:
    value = _input(node)
    if value.element_type == Type.string or value.element_type.to_dtype().itemsize not in (1, 2, 4, 8):
        return f"{node.op_type} has no kernel for {value.element_type.get_type_name()}"
    if len(value.static_shape) > indexing.AXES:
        return f"{node.op_type} has a kernel for up to {indexing.AXES} dimensions, not for {len(value.static_shape)}"
    if node.attributes.get("reduction", "none") != "none" and _dtype(value) not in NUMBERS:
        return f"{node.op_type} has no kernel that combines {value.element_type.get_type_name()}"
    return None


def _fault(planner: Planner, node: Node, extents: list[int]) -> Address:
    """The word that a kernel sets when an index is beyond an extent; ModelError where any index would be."""
    message = f"{node.where}: an index in '{_input(node, 1).name}' is out of range; "
    if 0 in extents:
        raise ModelError(f"{message}an axis of '{_input(node).name}' has no elements.")
    ranges = ", ".join(f"{-extent} and {extent - 1}" for extent in extents)
    return planner.fault(f"{message}it must be between {ranges}.")


def _padded(numbers: list[int], neutral: int) -> list[int]:
    return [neutral] * (indexing.AXES - len(numbers)) + numbers


def _elements(planner: Planner, node: Node, data: Plain, indices: Plain) -> dict[str, object]:
    """The fields of kernels by element, of the tensor that is indexed."""
    axis = _axis(node, 0, len(data.shape))
    strides = [0 if dimension == axis else stride for dimension, stride in enumerate(data.strides())]
    return dict(
        indices=indices.address, index_bytes=indices.dtype.itemsize, element=data.dtype.itemsize,
        extent=data.shape[axis], axis_stride=data.strides()[axis], sizes=_padded(list(indices.shape), 1),
        strides=_padded(strides, 0), fault=_fault(planner, node, [data.shape[axis]]),
    )  # fmt: skip


def _axis(node: Node, default: int, rank: int) -> int:
    axis = node.attributes.get("axis", default)
    if not -rank <= axis < rank:
        raise ModelError(f"{node.where}: axis {axis} of a tensor of {rank} dimensions.")
    return int(axis % rank)


def _check_fit(node: Node, data: Plain, indices: Plain) -> None:
    """ModelError where the indices lie outside of the data along another axis than theirs."""
    axis = _axis(node, 0, len(data.shape))
    if len(indices.shape) != len(data.shape):
        raise ModelError(f"{node.where}: {len(indices.shape)} dimensions of indices, {len(data.shape)} of data.")
    for dimension, (have, want) in enumerate(zip(data.shape, indices.shape)):
        if dimension != axis and want > have:
            raise ModelError(
                f"{node.where}: extent {want} of '{_input(node, 1).name}' along axis {dimension} > extent {have} of "
                f"'{_input(node).name}'."
            )


@lowering("GatherElements", check=_check_elements)
def lower_gather_elements(planner: Planner, node: Node) -> None:
    """One element for each index."""
    data, indices = planner.plain(_input(node)), planner.plain(_input(node, 1))
    target = planner.new_plain(node.outputs[0])
    _check_fit(node, data, indices)
    if target.size:
        fields = _elements(planner, node, data, indices)
        planner.emit(indexing.gather_elements, "plain", source=data.address, target=target.address, **fields)


@lowering("ScatterElements", "Scatter", check=_check_elements)
def lower_scatter_elements(planner: Planner, node: Node) -> None:
    """A copy of the data, then one update for each index."""
    data, indices, updates = (planner.plain(_input(node, index)) for index in range(3))
    target = _copied(planner, node, data)
    _check_fit(node, data, indices)
    if updates.shape != indices.shape:
        raise ModelError(f"{node.where}: updates {list(updates.shape)} != indices {list(indices.shape)}.")
    if indices.size:
        kernel = indexing.scatter_elements(node.attributes.get("reduction", "none"), data.dtype.name)
        fields = _elements(planner, node, target, indices)
        planner.emit(kernel, "plain", source=updates.address, target=target.address, **fields)


def _copied(planner: Planner, node: Node, data: Plain) -> Plain:
    target = planner.new_plain(node.outputs[0])
    planner.copy(data.address, target.address, (data.nbytes,), (1,), (1,), 1)
    return target


def _tuples(planner: Planner, node: Node, data: Plain, indices: Plain, lead: int) -> dict[str, object]:
    """The fields of kernels by tuple; the first `lead` axes of both are the batch."""
    depth = indices.shape[-1]
    if lead + depth > len(data.shape):
        raise ModelError(f"{node.where}: tuples of {depth} indices for '{_input(node).name}' {list(data.shape)}.")
    extents, strides = list(data.shape[lead : lead + depth]), list(data.strides()[lead : lead + depth])
    rest = [0] * (indexing.AXES - depth)
    return dict(
        indices=indices.address, index_bytes=indices.dtype.itemsize, element=data.dtype.itemsize, depth=depth,
        inner_bytes=prod(data.shape[lead + depth :]) * data.dtype.itemsize, batches=prod(data.shape[:lead]),
        tuples=prod(indices.shape[lead:-1]), batch_stride=prod(data.shape[lead:]) * data.dtype.itemsize,
        extents=extents + rest, strides=strides + rest, fault=_fault(planner, node, extents),
    )  # fmt: skip


@lowering("GatherND", check=_check_elements)
def lower_gather_nd(planner: Planner, node: Node) -> None:
    """One slice for each tuple of indices."""
    data, indices = planner.plain(_input(node)), planner.plain(_input(node, 1))
    target = planner.new_plain(node.outputs[0])
    lead = node.attributes.get("batch_dims", 0)
    if not indices.shape or not 0 <= lead < len(indices.shape):
        raise ModelError(f"{node.where}: batch_dims {lead} for indices {list(indices.shape)}.")
    if data.shape[:lead] != indices.shape[:lead]:
        raise ModelError(f"{node.where}: the first {lead} axes of {list(data.shape)} and {list(indices.shape)} differ.")
    if target.size:
        fields = _tuples(planner, node, data, indices, lead)
        planner.emit(indexing.gather_tuples, "plain", source=data.address, target=target.address, **fields)


@lowering("ScatterND", check=_check_elements)
def lower_scatter_nd(planner: Planner, node: Node) -> None:
    """A copy of the data, then one slice for each tuple of indices."""
    data, indices, updates = (planner.plain(_input(node, index)) for index in range(3))
    target = _copied(planner, node, data)
    if not indices.shape or updates.shape != (*indices.shape[:-1], *data.shape[indices.shape[-1] :]):
        raise ModelError(
            f"{node.where}: updates {list(updates.shape)} do not fit indices {list(indices.shape)} into "
            f"{list(data.shape)}."
        )
    if updates.size:
        kernel = indexing.scatter_tuples(node.attributes.get("reduction", "none"), data.dtype.name)
        fields = _tuples(planner, node, target, indices, 0)
        planner.emit(kernel, "plain", source=updates.address, target=target.address, **fields)


def _check_one_hot(node: Node) -> str | None:
    if _dtype(_input(node)) not in ("int32", "int64"):
        return f"OneHot has a kernel for indices of i32 and i64, not of {_input(node).element_type.get_type_name()}"
    values = _input(node, 2)
    if values.element_type == Type.string or values.element_type.to_dtype().itemsize not in (1, 2, 4, 8):
        return f"OneHot has no kernel for {values.element_type.get_type_name()}"
    return None


@lowering("OneHot", check=_check_one_hot)
def lower_one_hot(planner: Planner, node: Node) -> None:
    """Two values, the second where an index says so."""
    indices, values = planner.plain(_input(node)), planner.plain(_input(node, 2))
    target = planner.new_plain(node.outputs[0])
    axis = _axis(node, -1, len(target.shape))
    if target.size:
        planner.emit(
            indexing.one_hot, "plain", target=target.address, indices=indices.address, values=values.address,
            element=target.dtype.itemsize, index_bytes=indices.dtype.itemsize, outer=prod(target.shape[:axis]),
            depth=target.shape[axis], inner=prod(target.shape[axis + 1 :]),
        )  # fmt: skip


def _check_top_k(node: Node) -> str | None:
    value = _input(node)
    if _dtype(value) not in NUMBERS:
        return f"TopK has no kernel for {value.element_type.get_type_name()}"
    if len(node.inputs) > 1 and _input(node, 1).constant is None:
        return "TopK has a kernel for a constant k only"
    return None


@lowering("TopK", check=_check_top_k)
def lower_top_k(planner: Planner, node: Node) -> None:
    """The best elements along an axis and their places; always sorted."""
    source = planner.plain(_input(node))
    axis = _axis(node, -1, len(source.shape))
    values, places = (
        planner.new_plain(value) if value.name else _unnamed(planner, node, axis, itemsize)
        for value, itemsize in zip([*node.outputs, Value("")][:2], (source.dtype.itemsize, 8))
    )
    count = _count(node, axis)
    if count > source.shape[axis]:
        raise ModelError(f"{node.where}: k = {count} of {source.shape[axis]} elements.")
    if count and source.size:
        planner.emit(
            topk.top_k(bool(node.attributes.get("largest", 1)), source.dtype.name), "plain", source=source.address,
            values=values.address, places=places.address, element=source.dtype.itemsize, count=count,
            outer=prod(source.shape[:axis]), length=source.shape[axis], inner=prod(source.shape[axis + 1 :]),
        )  # fmt: skip


def _count(node: Node, axis: int) -> int:
    named = next(value for value in node.outputs if value.name)
    return named.static_shape[axis]


def _unnamed(planner: Planner, node: Node, axis: int, itemsize: int) -> Plain:
    """Memory for a result that nobody asked for."""
    shape = list(_input(node).static_shape)
    shape[axis] = _count(node, axis)
    return Plain(Address(planner.scratch(prod(shape) * itemsize)), tuple(shape), np.dtype(np.int8))


def _check_running_sum(node: Node) -> str | None:
    if _dtype(_input(node)) not in SUMMED:
        return f"CumSum has no kernel for {_input(node).element_type.get_type_name()}"
    return "CumSum has a kernel for a constant axis only" if _input(node, 1).constant is None else None


@lowering("CumSum", check=_check_running_sum)
def lower_running_sum(planner: Planner, node: Node) -> None:
    """Sums of all elements up to each."""
    source, target = planner.plain(_input(node)), planner.new_plain(node.outputs[0])
    constant = _input(node, 1).constant
    assert constant is not None
    axis, rank = int(constant.reshape(-1)[0]), len(source.shape)
    if not -rank <= axis < rank:
        raise ModelError(f"{node.where}: axis {axis} of a tensor of {rank} dimensions.")
    axis %= rank
    planner.emit(
        running_sum(source.dtype.name), "plain", source=source.address, target=target.address,
        outer=prod(source.shape[:axis]), length=source.shape[axis], inner=prod(source.shape[axis + 1 :]),
        exclusive=node.attributes.get("exclusive", 0), reverse=node.attributes.get("reverse", 0),
    )  # fmt: skip


def _check_triangle(node: Node) -> str | None:
    if node.input(1) is not None and _input(node, 1).constant is None:
        return "Trilu has a kernel for a constant k only"
    return "Trilu needs matrices" if len(_input(node).static_shape) < 2 else _check_elements(node)


@lowering("Trilu", check=_check_triangle)
def lower_triangle(planner: Planner, node: Node) -> None:
    """The upper or lower triangle of each matrix."""
    source, target = planner.plain(_input(node)), planner.new_plain(node.outputs[0])
    given = node.input(1)
    diagonal = int(given.constant.reshape(-1)[0]) if given is not None and given.constant is not None else 0
    zero = np.zeros(1, np.int64)
    *lead, rows, columns = source.shape
    planner.emit(
        triangle, "plain", source=source.address, target=target.address, element=source.dtype.itemsize,
        zero=planner.weights.constant(planner.weights.identity(zero), zero), batch=prod(lead), rows=rows,
        columns=columns, diagonal=max(-rows, min(diagonal, columns)), upper=node.attributes.get("upper", 1),
    )  # fmt: skip
