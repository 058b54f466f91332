"""Operators that read or write by index, or find indices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from evaluation.variants.elementwise import types
from evaluation.variants.variant import Draw, Variant

_ANY = (np.float32, np.float32, np.int64, np.int32, np.float64, np.bool_, np.uint8)


def _distinct(d: Draw, shape: list[int], dtype: type = np.float32) -> np.ndarray:
    """No two elements are equal, so that their order is one."""
    count = int(np.prod(shape))
    return (d.random.permutation(count).reshape(shape) - count // 2).astype(dtype)


def _arg(op_type: str, d: Draw) -> Variant:
    opset, shape = d.opset(op_type), d.shape(1, 4, empty=0)
    axis = d.axis(len(shape)) if opset >= 11 else d.number(0, len(shape) - 1)
    last = d.some(select_last_index=d.number(0, 1)) if opset >= 12 else {}
    return Variant(op_type, opset, [np.rint(d.array(shape)).astype(np.float32)],
                   {**d.some(axis=axis, keepdims=d.number(0, 1)), **last})  # fmt: skip


def _compress(d: Draw) -> Variant:
    shape = d.shape(1, 3, empty=0)
    axis = d.axis(len(shape)) if d.chance(0.7) else None
    extent = int(np.prod(shape)) if axis is None else shape[axis]
    condition = d.array([d.number(1, extent)], bool)
    return Variant("Compress", d.opset("Compress"), [d.array(shape), condition], {} if axis is None else {"axis": axis})


def _gather(d: Draw) -> Variant:
    shape = d.shape(1, 3, empty=0)
    axis = d.axis(len(shape))
    indices = d.indices(d.shape(0, 2), shape[axis], d.choose(np.int64, np.int32))
    opset = d.opset("Gather")
    indices = indices % shape[axis] if opset < 11 else indices
    return Variant("Gather", opset, [d.array(shape, d.choose(*_ANY)), indices], {"axis": axis})


def _gather_elements(d: Draw) -> Variant:
    shape = d.shape(1, 4, empty=0)
    axis = d.axis(len(shape))
    wanted = [d.number(1, extent) for extent in shape]
    wanted[axis] = d.number(0, 6)
    return Variant("GatherElements", d.opset("GatherElements"),
                   [d.array(shape, d.choose(*_ANY)), d.indices(wanted, shape[axis])], {"axis": axis})  # fmt: skip


def _gather_nd(d: Draw) -> Variant:
    opset, shape = d.opset("GatherND"), d.shape(1, 4, empty=0)
    lead = d.number(0, len(shape) - 1) if opset >= 12 else 0
    depth = d.number(1, len(shape) - lead)
    outer = [*shape[:lead], *d.shape(0, 2, empty=0)]
    columns = [d.indices(outer, shape[lead + i]) for i in range(depth)]
    attributes = {"batch_dims": lead} if lead else {}
    return Variant("GatherND", opset, [d.array(shape, d.choose(*_ANY)), np.stack(columns, -1)], attributes)


def _non_zero(d: Draw) -> Variant:
    x = np.rint(d.array(d.shape(1), np.float32, 0.6)).astype(d.choose(np.float32, np.int64, np.bool_, np.uint8))
    return Variant("NonZero", d.opset("NonZero"), [x])


def _one_hot(d: Draw) -> Variant:
    depth, kind = d.number(1, 5), d.choose(np.float32, np.int64)
    indices = d.random.integers(-depth - 1, depth + 2, d.shape(1, 3)).astype(np.int64)
    values = np.array([d.number(-3, 3), d.number(-3, 3)], kind)
    axis = d.number(-indices.ndim - 1, indices.ndim)
    return Variant("OneHot", d.opset("OneHot"), [indices, np.array([depth], np.int64), values], d.some(axis=axis))


def _reduction(d: Draw, opset: int) -> dict[str, str]:
    options = ["none"] + (["add", "mul"] if opset >= 16 else []) + (["min", "max"] if opset >= 18 else [])
    return d.some(reduction=d.choose(*options)) if opset >= 16 else {}


def _scatter_elements(op_type: str, d: Draw) -> Variant:
    opset, shape = d.opset(op_type), d.shape(1, 3, empty=0)
    axis = d.axis(len(shape)) if op_type == "ScatterElements" else d.number(0, len(shape) - 1)
    how = _reduction(d, opset) if op_type == "ScatterElements" else {}
    wanted = [d.number(1, extent) for extent in shape]
    indices = d.random.integers(0, shape[axis], wanted)
    if how.get("reduction", "none") == "none":  # the order of writes to one place is open
        order = np.argsort(d.random.random(shape), axis % len(shape))
        indices = order[tuple(map(slice, wanted))]
    if op_type == "ScatterElements" and d.chance():
        indices = np.where(d.array(wanted, bool), indices, indices - shape[axis])
    dtype = d.choose(np.float32, np.float64, np.int32, np.int64)
    return Variant(op_type, opset, [d.array(shape, dtype), indices, d.array(wanted, dtype)], {"axis": axis, **how})


def _scatter_nd(d: Draw) -> Variant:
    opset, shape = d.opset("ScatterND"), d.shape(1, 3, empty=0)
    depth, how = d.number(1, len(shape)), _reduction(d, d.opset("ScatterND", least=opset))
    how = how if opset >= 18 else {}
    count = int(np.prod(shape[:depth]))
    places = d.random.permutation(count)[: d.number(1, count)]
    if how.get("reduction", "none") != "none":
        places = d.random.integers(0, count, d.number(1, 6))
    indices = np.stack(np.unravel_index(places, shape[:depth]), -1).astype(np.int64)
    dtype = d.choose(np.float32, np.float64, np.int32)
    return Variant("ScatterND", opset, [d.array(shape, dtype), indices, d.array([len(places), *shape[depth:]], dtype)],
                   how)  # fmt: skip


def _top_k(d: Draw) -> Variant:
    opset, shape = d.opset("TopK"), d.shape(1, 3, empty=0)
    axis = d.axis(len(shape)) if opset >= 11 else d.number(0, len(shape) - 1)
    count = d.number(0 if opset >= 10 else 1, shape[axis])
    x = _distinct(d, shape, np.float32 if opset < 11 else d.choose(np.float32, np.float64, np.int64, np.int32))
    if opset < 10:
        return Variant("TopK", opset, [x], {"axis": axis, "k": count}, [True, True])
    more = d.some(largest=d.number(0, 1)) if opset >= 11 else {}
    return Variant("TopK", opset, [x, np.array([count], np.int64)], {"axis": axis, **more}, [True, True])


def _unique(d: Draw) -> Variant:
    x = np.rint(d.array(d.shape(1, 3, empty=0), np.float32, 1.0)).astype(d.choose(np.float32, np.int64, np.int8))
    attributes = d.some(axis=d.axis(x.ndim), sorted=d.number(0, 1))
    return Variant("Unique", d.opset("Unique"), [x], attributes, [True, d.chance(), d.chance(), True])


def _non_max_suppression(d: Draw) -> Variant:
    batch, count, kinds, centred = d.number(1, 2), d.number(1, 12), d.number(1, 3), d.number(0, 1)
    first, second = d.random.random((2, batch, count, 2)).astype(np.float32)
    boxes = np.concatenate([first, second * (0.5 if centred else 1)], 2)
    scores = _distinct(d, [batch, kinds, count]) / np.float32(20)
    inputs = [boxes, scores, np.array([d.number(0, 6)], np.int64)]
    inputs += [np.array([number], np.float32) for number in (d.random.uniform(0, 0.9), d.random.uniform(-1, 0.5))]
    return Variant("NonMaxSuppression", d.opset("NonMaxSuppression"), inputs[: d.number(3, 5)],
                   {"center_point_box": centred})  # fmt: skip


def _tensor_scatter(d: Draw) -> Variant:
    shape = [d.number(1, 3), d.number(1, 3), d.number(3, 6), d.number(1, 3)]
    rows, mode = d.number(1, 3), d.choose("linear", "circular")
    starts = d.random.integers(0, shape[2] - rows + 1, shape[0]) if d.chance() else None
    update = d.array([shape[0], shape[1], rows, shape[3]])
    return Variant("TensorScatter", 24, [d.array(shape), update, starts], {"mode": mode, "axis": 2})


def _cumulative(d: Draw) -> Variant:
    opset, shape = d.opset("CumSum"), d.shape(1, 4, empty=0)
    x = d.array(shape, d.choose(*types("CumSum", opset)))
    return Variant("CumSum", opset, [x, np.array(d.axis(len(shape)), d.choose(np.int64, np.int32))],
                   d.some(exclusive=d.number(0, 1), reverse=d.number(0, 1)))  # fmt: skip


GENERATORS: dict[str, Callable[[Draw], Variant]] = {
    "ArgMax": partial(_arg, "ArgMax"),
    "ArgMin": partial(_arg, "ArgMin"),
    "Compress": _compress,
    "CumSum": _cumulative,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonMaxSuppression": _non_max_suppression,
    "NonZero": _non_zero,
    "OneHot": _one_hot,
    "Scatter": partial(_scatter_elements, "Scatter"),
    "ScatterElements": partial(_scatter_elements, "ScatterElements"),
    "ScatterND": _scatter_nd,
    "TensorScatter": _tensor_scatter,
    "TopK": _top_k,
    "Unique": _unique,
}
