"""RoiAlign and MaxRoiPool of images."""

from __future__ import annotations

from math import inf

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node, Type
from cpuruntime.ops.max_roi_pool import max_roi_pool
from cpuruntime.ops.roi_align import MODES, MOST_SAMPLES, roi_align
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import lowering, only_float32


def _check(node: Node) -> str | None:
    types = {value.element_type for value in (node.require(0), node.require(1), *node.outputs)}
    if types != {Type.f32}:
        return f"RoiAlign has a kernel for f32, not for {', '.join(sorted(t.get_type_name() for t in types))}"
    mode = node.attributes.get("mode", "avg")
    return None if mode in MODES else f"RoiAlign has no kernel for mode {mode}"


@lowering("RoiAlign", check=_check)
def lower_roi_align(emitter: Emitter, node: Node) -> None:
    """One value for each region, channel and bin."""
    source, regions, images = (emitter.plain(node.require(index)) for index in range(3))
    target = emitter.new_plain(node.outputs[0])
    samples = node.attributes.get("sampling_ratio", 0)
    if len(source.shape) != 4 or regions.shape != (*images.shape, 4) or len(images.shape) != 1:
        raise ModelError(
            f"{node.where}: images {list(source.shape)}, regions {list(regions.shape)}, indices {list(images.shape)}; "
            "they must be [N, C, H, W], [R, 4] and [R]."
        )
    if not 0 <= samples <= MOST_SAMPLES:
        raise ModelError(f"{node.where}: sampling_ratio is {samples}; it must be between 0 and {MOST_SAMPLES}.")
    if not target.size:
        return
    if 0 in source.shape:
        raise ModelError(f"{node.where}: there are regions, but the images {list(source.shape)} have no pixels.")
    batch, channels, in_height, in_width = source.shape
    newest = "half_pixel" if node.version >= 16 else "output_half_pixel"
    halved = node.attributes.get("coordinate_transformation_mode", newest) == "half_pixel"
    emitter.emit(
        roi_align(node.attributes.get("mode", "avg")), "plain", source=source.address, regions=regions.address,
        images=images.address, target=target.address, batch=batch, channels=channels, in_height=in_height,
        in_width=in_width, count=target.shape[0], height=target.shape[2], width=target.shape[3], samples=samples,
        scale=node.attributes.get("spatial_scale", 1.0), offset=0.5 if halved else 0, smallest=-inf if halved else 1,
        fault=emitter.fault(f"{node.where}: an image index is out of range; it must be between 0 and ", batch - 1, "."),
    )  # fmt: skip


@lowering("MaxRoiPool", check=only_float32)
def lower_max_roi_pool(emitter: Emitter, node: Node) -> None:
    """One value for each region, channel and bin."""
    source, regions = emitter.plain(node.require(0)), emitter.plain(node.require(1))
    target = emitter.new_plain(node.outputs[0])
    if len(source.shape) != 4 or 0 in source.shape or len(regions.shape) != 2 or regions.shape[1] != 5:
        raise ModelError(
            f"{node.where}: images {list(source.shape)} and regions {list(regions.shape)}; they must be [N, C, H, W] "
            "with pixels and [R, 5]."
        )
    batch, channels, in_height, in_width = source.shape
    emitter.emit(
        max_roi_pool, "plain", source=source.address, regions=regions.address, target=target.address, batch=batch,
        channels=channels, in_height=in_height, in_width=in_width, count=target.shape[0], height=target.shape[2],
        width=target.shape[3], scale=node.attributes.get("spatial_scale", 1.0),
        fault=emitter.fault(f"{node.where}: an image index is out of range; it must be between 0 and ", batch - 1, "."),
    )  # fmt: skip
