"""GridSample of images and volumes."""

from __future__ import annotations

from math import prod

from cpuruntime.graph import Node
from cpuruntime.ops.grid_sample import MODES, PADDINGS, grid_sample, grid_sample_volume
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import lowering, only_float32

OLD_NAMES = {"bilinear": "linear", "bicubic": "cubic"}


def _modes(node: Node) -> tuple[str, str]:
    """Interpolation and padding."""
    mode = node.attributes.get("mode", "linear")
    return OLD_NAMES.get(mode, mode), node.attributes.get("padding_mode", "zeros")


def _check(node: Node) -> str | None:
    source, grid = node.require(0), node.require(1)
    rank = len(source.static_shape) - 2
    if rank not in (2, 3):
        return f"GridSample has kernels for 2 and 3 spatial dimensions, not for {rank}"
    if 0 in source.static_shape or grid.static_shape[0] != source.static_shape[0] or grid.static_shape[-1] != rank:
        return f"GridSample has kernels for grids [N, ..., {rank}], not for {list(grid.static_shape)}"
    mode, padding = _modes(node)
    if mode not in MODES or padding not in PADDINGS or (mode == "cubic" and rank == 3):
        return f"GridSample has no kernel for mode {mode} with padding {padding}"
    return only_float32(node)


@lowering("GridSample", check=_check)
def lower_grid_sample(emitter: Emitter, node: Node) -> None:
    """One value for each place of the grid and each channel."""
    source, grid = (emitter.plain(value) for value in node.inputs if value is not None)
    target = emitter.new_plain(node.outputs[0])
    batch, channels, *in_depth, in_height, in_width = source.shape
    if in_depth:
        emitter.emit(
            grid_sample_volume(*_modes(node)), "plain", source=source.address, grid=grid.address,
            target=target.address, batch=batch, channels=channels, in_depth=in_depth[0], in_height=in_height,
            in_width=in_width, points=prod(grid.shape[1:4]), aligned=node.attributes.get("align_corners", 0),
        )  # fmt: skip
    elif target.size:
        emitter.emit(
            grid_sample(*_modes(node)), "plain", source=source.address, grid=grid.address,
            target=target.address, batch=batch, channels=channels, in_height=in_height, in_width=in_width,
            height=grid.shape[1], width=grid.shape[2], aligned=node.attributes.get("align_corners", 0),
        )  # fmt: skip
