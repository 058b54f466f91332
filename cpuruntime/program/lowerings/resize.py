"""Resize: tables of source pixels and weights made at compile time, and the kernel that reads them."""


from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.graph import Extent, Node, Size
from cpuruntime.ops.resize import resize_nearest, resize_plain, resize_weighted
from cpuruntime.ops.resize_taps import POSITION_NAMES, ROUNDING_NAMES, resize_taps
from cpuruntime.program.lowerings.resize_tables import POSITIONS, ROUNDINGS, Taps, cubic, linear, nearest, positions
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import Layout, lowering, only_float32
from cpuruntime.program.plan.storage import Address, image_shape

TAPS = {"nearest": 1, "linear": 2, "cubic": 4}


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


def _check(node: Node) -> str | None:
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
    if position not in POSITIONS:
        return f"Resize has no kernel for coordinate_transformation_mode {position}"
    if mode not in ("nearest", "linear", "cubic") or attributes.get("nearest_mode", "floor") not in ROUNDINGS:
        return f"Resize has no kernel for mode {mode}"
    if attributes.get("antialias", 0) and mode != "nearest":
        return "Resize has no kernel for antialias"
    return only_float32(Node(node.op_type, node.name, node.inputs[:1], []))


def _taps(node: Node, scale: float | None, source: int, target: int) -> Taps:
    attributes = node.attributes
    scale = target / source if scale is None else scale
    at = positions(attributes.get("coordinate_transformation_mode", "half_pixel"), scale, source, target)
    mode = attributes.get("mode", "nearest")
    if mode == "nearest":
        return nearest(at, attributes.get("nearest_mode", "round_prefer_floor"), source)
    if mode == "linear":
        return linear(at, source)
    return cubic(at, source, attributes.get("cubic_coeff_a", -0.75), bool(attributes.get("exclude_outside", 0)))


def _fills_blocks(node: Node) -> bool:
    """Images of very few channels are resized without the unused lanes."""
    return node.require(0).static_shape[1] > LANES // 4


@lowering("Resize", layout=Layout.FOLLOW, check=_check, follows=_fills_blocks, operands=1)
def lower_resize(emitter: Emitter, node: Node) -> None:
    """Nearest, linear and cubic resizing of the spatial dimensions."""
    value, output = node.require(0), node.outputs[0]
    scales = _scales(node)
    assert not isinstance(scales, str)
    batch, channels, in_height, in_width = image_shape(value.static_shape)
    _, _, height, width = image_shape(output.static_shape)
    taps = TAPS[node.attributes.get("mode", "nearest")]
    axes = {"row": (scales[2] if len(scales) == 4 else 1, in_height, height), "column": (scales[-1], in_width, width)}
    if not emitter.is_blocked(output):
        source, target = emitter.plain(value), emitter.new_plain(output)
        emitter.emit(
            resize_plain, "plain", source=source.address, source_image=in_height * in_width * 4,
            target=target.address, images=batch * channels, in_width=in_width, height=height, width=width, taps=taps,
            scratch=Address(emitter.scratch(in_width * 4 * emitter.threads)), scratch_size=in_width * 4,
            **_tables(emitter, node, axes, (in_width * 4, 4)),
        )  # fmt: skip
        return
    blocked, view = emitter.blocked(value), emitter.new_blocked(output)
    fields = {**blocked.fields("source"), **view.fields("target"), **view.sizes()}
    tables = _tables(emitter, node, axes, (fields.pop("source_row"), VECTOR_BYTES))
    if taps == 1:
        emitter.emit(resize_nearest, "blocked", **fields, rows=tables["rows"], columns=tables["columns"])
        return
    line = in_width * VECTOR_BYTES
    scratch = Address(emitter.scratch(line * emitter.threads))
    emitter.emit(resize_weighted(taps), "blocked", **fields, **tables, scratch=scratch, scratch_size=line)


def _tables(
    emitter: Emitter, node: Node, axes: Mapping[str, tuple[float | None, Extent, Extent]], steps: Sequence[Extent]
) -> dict[str, Address]:
    """The tables of rows and columns: offsets of the taps, which are `steps` bytes apart, and their weights."""
    tables = {}
    for (name, (scale, source, target)), step in zip(axes.items(), steps):
        if any(isinstance(number, Size) for number in (source, target, step)):
            tables[f"{name}s"], tables[f"{name}_weights"] = _emit_taps(emitter, node, scale, source, target, step)
            continue
        taps = partial(_taps, node, scale)
        tables[f"{name}s"] = emitter.table(lambda s, t, n, taps=taps: taps(s, t).indices * n, source, target, step)
        tables[f"{name}_weights"] = emitter.table(lambda s, t, taps=taps: taps(s, t).weights, source, target)
    return tables


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
