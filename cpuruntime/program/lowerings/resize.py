"""Resize: tables of source pixels and weights made at compile time, and the kernel that reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Extent, Node, Size, Type
from cpuruntime.ops.resize import resize_nearest, resize_plain, resize_weighted
from cpuruntime.ops.resize_taps import POSITION_NAMES, ROUNDING_NAMES, resize_taps
from cpuruntime.program.lowerings.resize_tables import (
    POSITIONS,
    ROUNDINGS,
    Taps,
    beyond,
    cropped,
    cubic,
    linear,
    nearest,
    positions,
    widened,
)
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.layout import BLOCKED
from cpuruntime.program.plan.lowering import Layout, lowering, only_float32
from cpuruntime.program.plan.packing import run_kernel
from cpuruntime.program.plan.storage import Address, image_shape

CROP = "tf_crop_and_resize"
TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
Axes = dict[str, tuple["float | None", int, Extent, Extent]]
"""Of rows and columns the scale, the axis, and the extents before and after."""


def _scales(node: Node) -> list[float | None] | str:
    """The scale of each axis, None for the quotient of its extents; a reason where it is not known."""
    source = node.require(0).static_shape
    axes = [axis % len(source) for axis in node.attributes.get("axes") or range(len(source))]
    result: list[float | None] = [None] * len(source)
    scales, sizes = node.input(2), node.input(3)
    if scales is not None and 0 not in scales.static_shape:
        if scales.constant is None:
            return "Resize has a kernel for constant scales"
        for axis, scale in zip(axes, scales.constant.tolist()):
            result[axis] = scale
    elif node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        if sizes is None or sizes.numbers is None:
            return "Resize has a kernel for constant sizes"
        each = [int(size) / int(source[axis]) for axis, size in zip(axes, sizes.numbers)]
        policy = node.attributes["keep_aspect_ratio_policy"]
        common = min(each) if policy == "not_larger" else max(each)
        result = [common if axis in axes else scale for axis, scale in enumerate(result)]
    return result


def check_resize(node: Node) -> str | None:
    """Why a Resize has no kernel."""
    source, target = node.require(0).static_shape, node.outputs[0].static_shape
    attributes = node.attributes
    if len(source) not in (3, 4):
        return f"Resize has kernels for 1 and 2 spatial dimensions, not for {len(source) - 2}"
    if node.version < 11:
        return "Resize of opset 10 has no kernel for growing and shrinking to the nearest at once"
    if 0 in (*source, *target):
        return "Resize has no kernel for empty tensors"
    scales = _scales(node)
    if isinstance(scales, str):
        return scales
    if source[:2] != target[:2] or not all(scale in (None, 1) for scale in scales[:2]):
        return "Resize has kernels for spatial dimensions, not for batch and channels"
    mode, position = attributes.get("mode", "nearest"), attributes.get("coordinate_transformation_mode", "half_pixel")
    if position not in POSITIONS and (position != CROP or _region(node) is None):
        return f"Resize has no kernel for coordinate_transformation_mode {position}"
    if mode not in ("nearest", "linear", "cubic") or attributes.get("nearest_mode", "floor") not in ROUNDINGS:
        return f"Resize has no kernel for mode {mode}"
    if mode == "nearest" and position != CROP and node.require(0).element_type in BLOCKED:
        return None
    return only_float32(Node(node.op_type, node.name, node.inputs[:1], []))


def _region(node: Node) -> list[tuple[float, float]] | None:
    """Where the region of a crop of images begins and ends along each axis; None where it is not known."""
    rank, roi = len(node.require(0).static_shape), node.input(1)
    axes = [axis % rank for axis in node.attributes.get("axes") or range(rank)]
    if roi is None or roi.constant is None or roi.constant.size != 2 * len(axes):
        return None
    numbers, region = roi.constant.reshape(-1).tolist(), [(0.0, 1.0)] * rank
    for axis, start, end in zip(axes, numbers, numbers[len(axes) :]):
        region[axis] = start, end
    return region if region[:2] == [(0, 1)] * 2 else None


def _is_cropped(node: Node) -> bool:
    return node.attributes.get("coordinate_transformation_mode", "half_pixel") == CROP


def _is_widened(node: Node) -> bool:
    """Whether the number of taps depends on how much an axis shrinks."""
    return bool(node.attributes.get("antialias", 0)) and node.attributes.get("mode", "nearest") != "nearest"


def _taps(node: Node, scale: float | None, axis: int, source: int, target: int) -> Taps:
    scale = target / source if scale is None else scale
    if not _is_cropped(node):
        at = positions(node.attributes.get("coordinate_transformation_mode", "half_pixel"), scale, source, target)
        return _taps_at(node, at, scale, source)
    start, end = (_region(node) or [])[axis]
    at = cropped(start, end, source, target)
    taps = _taps_at(node, at, scale, source)
    return taps if (start, end, source) == (0, 1, target) else beyond(taps, at, source)


def _taps_at(node: Node, at: np.ndarray, scale: float, source: int) -> Taps:
    attributes, mode = node.attributes, node.attributes.get("mode", "nearest")
    if mode == "nearest":
        return nearest(at, attributes.get("nearest_mode", "round_prefer_floor"), source)
    a, exclude = attributes.get("cubic_coeff_a", -0.75), bool(attributes.get("exclude_outside", 0))
    if _is_widened(node):
        return widened(at, source, scale, a if mode == "cubic" else None, exclude)
    return linear(at, source) if mode == "linear" else cubic(at, source, a, exclude)


def axis_taps(node: Node, axis: int) -> Taps | None:
    """The taps along one axis of a node that `check_resize` does not refuse; None where it stays as it is."""
    scales = _scales(node)
    assert not isinstance(scales, str)
    source, target = (value.static_shape[axis] for value in (node.require(0), node.outputs[0]))
    if source == target and scales[axis] in (None, 1) and not _is_cropped(node):
        return None
    return _taps(node, scales[axis], axis, source, target)


def _fills_blocks(node: Node) -> bool:
    """Images of very few channels are resized without the unused lanes; crops and wide sums are rare."""
    return not _is_cropped(node) and not _is_widened(node) and node.require(0).static_shape[1] > LANES // 4


@lowering("Resize", layout=Layout.FOLLOW, check=check_resize, follows=_fills_blocks, operands=1)
def lower_resize(emitter: Emitter, node: Node) -> None:
    """Nearest, linear and cubic resizing of the spatial dimensions."""
    value, output = node.require(0), node.outputs[0]
    scales = _scales(node)
    assert not isinstance(scales, str)
    batch, channels, in_height, in_width = image_shape(value.static_shape)
    _, _, height, width = image_shape(output.static_shape)
    taps = TAPS[node.attributes.get("mode", "nearest")]
    axes = _axes(value.static_shape, output.static_shape, scales)
    if not emitter.is_blocked(output) and value.element_type == Type.f32:
        source, target = emitter.plain(value), emitter.new_plain(output)
        emitter.emit(
            resize_plain, "plain", source=source.address, source_image=in_height * in_width * 4,
            target=target.address, images=batch * channels, in_width=in_width, height=height, width=width,
            beyond=node.attributes.get("extrapolation_value", 0.0),
            **emitter.thread_memory(in_width * 4),
            **{f"{name}_taps": _tap_count(node, *axis) for name, axis in axes.items()},
            **_tables(emitter, node, axes, {"row": in_width * 4, "column": 4}),
        )  # fmt: skip
        return
    blocked, view = emitter.blocked(value), emitter.new_blocked(output)
    fields = {**blocked.fields("source"), **view.fields("target"), **view.sizes()}
    tables = _tables(emitter, node, axes, {"row": fields.pop("source_row"), "column": blocked.pixel})
    if taps == 1:
        kernel = resize_nearest(blocked.itemsize)
        emitter.emit(kernel, "blocked", **fields, rows=tables["rows"], columns=tables["columns"])
        return
    line = in_width * VECTOR_BYTES
    scratch = Address(emitter.scratch(line * emitter.threads))
    emitter.emit(resize_weighted(taps), "blocked", **fields, **tables, scratch=scratch, scratch_size=line)


def resize_tables(emitter: Emitter, node: Node, row: Extent, column: Extent) -> dict[str, int | Address]:
    """The tables of a Resize of given sizes, and how many taps they have, for rows and columns so many bytes apart."""
    axes = _axes(node.require(0).static_shape, node.outputs[0].static_shape, [None] * 4)
    counts = {f"{name}_taps": _tap_count(node, *axis) for name, axis in axes.items()}
    return counts | _tables(emitter, node, axes, {"row": row, "column": column})


def _axes(source: Sequence[Extent], target: Sequence[Extent], scales: Sequence[float | None]) -> Axes:
    axes: Axes = {"column": (scales[-1], len(scales) - 1, source[-1], target[-1])}
    axes["row"] = (scales[2], 2, source[2], target[2]) if len(scales) == 4 else (1, 0, 1, 1)
    return axes


def run_resize(node: Node, x: np.ndarray, target: np.ndarray) -> None:
    """The result of a node whose inputs are constants, that `check_resize` does not refuse, for the array `x`."""
    scales = _scales(node)
    assert not isinstance(scales, str)
    fields: dict[str, Any] = {}
    held = [scratch := np.empty(x.shape[-1], np.float32)]
    for name, (scale, axis, before, after) in _axes(x.shape, target.shape, scales).items():
        taps = _taps(node, scale, axis, int(before), int(after))
        tables = _offsets(taps, 4 if name == "column" else 4 * x.shape[-1]), np.ascontiguousarray(taps.weights)
        held += tables
        fields |= {f"{name}s": tables[0].ctypes.data, f"{name}_weights": tables[1].ctypes.data}
        fields[f"{name}_taps"] = taps.indices.shape[1]
    _, _, height, width = image_shape(target.shape)
    run_kernel(
        resize_plain, source=x.ctypes.data, source_image=prod(x.shape[2:]) * 4, target=target.ctypes.data,
        images=prod(x.shape[:2]), in_width=x.shape[-1], height=height, width=width, scratch=scratch.ctypes.data,
        beyond=node.attributes.get("extrapolation_value", 0.0), scratch_size=scratch.nbytes, **fields,
    )  # fmt: skip


def _tap_count(node: Node, scale: float | None, axis: int, source: Extent, target: Extent) -> int:
    if _is_widened(node):
        return _taps(node, scale, axis, int(source), int(target)).indices.shape[1]
    return TAPS[node.attributes.get("mode", "nearest")]


def _tables(emitter: Emitter, node: Node, axes: Axes, steps: Mapping[str, Extent]) -> dict[str, Address]:
    """The tables of rows and columns: offsets of the taps, which are `steps` bytes apart, and their weights."""
    tables = {}
    for name, (scale, axis, source, target) in axes.items():
        step = steps[name]
        if _is_cropped(node) or _is_widened(node):
            source, target, step = int(source), int(target), int(step)
        elif any(isinstance(number, Size) for number in (source, target, step)):
            tables[f"{name}s"], tables[f"{name}_weights"] = _emit_taps(emitter, node, scale, source, target, step)
            continue
        taps = partial(_taps, node, scale, axis)
        tables[f"{name}s"] = emitter.table(lambda s, t, n, taps=taps: _offsets(taps(s, t), n), source, target, step)
        tables[f"{name}_weights"] = emitter.table(lambda s, t, taps=taps: taps(s, t).weights, source, target)
    return tables


def _offsets(taps: Taps, step: int) -> np.ndarray:
    return np.where(taps.indices < 0, -1, taps.indices * step)


def _emit_taps(
    emitter: Emitter, node: Node, scale: float | None, source: Extent, target: Extent, step: Extent
) -> tuple[Address, Address]:
    """The tables of one axis where sizes are open, made by a step."""
    attributes = node.attributes
    taps = TAPS[attributes.get("mode", "nearest")]
    indices, weights = (Address(emitter.scratch(target * taps * size)) for size in (8, 4))
    emitter.emit(
        resize_taps, "table", indices=indices, weights=weights, source=source, target=target, step=step, taps=taps,
        position=POSITION_NAMES.index(attributes.get("coordinate_transformation_mode", "half_pixel")),
        rounding=ROUNDING_NAMES.index(attributes.get("nearest_mode", "round_prefer_floor")),
        exclude_outside=attributes.get("exclude_outside", 0), scale=scale or 0.0,
        coefficient=attributes.get("cubic_coeff_a", -0.75),
    )  # fmt: skip
    return indices, weights
