"""The work of a step: floating-point operations counted in three ways, and bytes.

nominal   as layers are usually counted: every kernel element for every output, products with padding included
useful    without products with padding: what the layer needs mathematically when computed directly
executed  what the kernel's register tiles compute: with padding beside the image, unless a kernel column reads nothing
          else for a tile, with what tiles that overlap compute twice, and lanes without a channel; by Winograd's method
          less than useful, and its transforms are not counted
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cpuruntime.compiler.isa import LANES
from cpuruntime.ops.convolution import COLUMN_TILE
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.plan.step import Step
from cpuruntime.program.report.work import conversion_bytes, is_conversion, winograd_flops

COMPUTE = ("convolution", "depthwise", "grouped_convolution", "matmul", "winograd")


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one step; a multiply-add is two."""

    nominal: int
    useful: int
    executed: int


def flops(step: Step) -> Flops:
    """The work of a convolution or product."""
    executed = 2 * _PRODUCTS[step.kernel.family](step)
    if step.kernel.family == "matmul":
        return Flops(step.flops, step.flops, executed)
    g = Geometry.of(step.node)
    rows = _inside(g.height, g.kernel_height, g.stride_height, g.dilation_height, g.pad_top, g.in_height)
    columns = _inside(g.width, g.kernel_width, g.stride_width, g.dilation_width, g.pad_left, g.in_width)
    useful = 2 * g.batch * g.channels * (g.in_channels // g.group) * rows * columns
    return Flops(g.flops, useful, executed)


def _inside(outputs: int, kernel: int, stride: int, dilation: int, pad: int, extent: int) -> int:
    """How many (output, kernel element) pairs of one axis fall on the image."""
    return sum(0 <= o * stride - pad + k * dilation < extent for o in range(outputs) for k in range(kernel))


def _kernel_rows(a: dict[str, Any]) -> int:
    """Kernel rows worked on for all output rows; the kernels skip those above and below the image."""
    window = (a["kernel_height"], a["stride_height"], a["dilation_height"], a["pad_top"])
    return _inside(a["height"], *window, a["in_height"])


def _convolution_products(step: Step) -> int:
    a = step.arguments
    rows, columns, unroll = step.kernel.tile
    table = a["column_tiles"].storage.owner.view(COLUMN_TILE)
    per_pixel = int(table["blocks"].sum()) * columns * LANES * a["steps"] * unroll
    return a["batch"] * rows * _kernel_columns(a, rows) * _kernel_rows(a) * per_pixel


def _kernel_columns(a: dict[str, Any], rows: int) -> int:
    """Kernel columns worked on for all tiles of an output row; the kernel skips those that read beside the image."""
    first = [left * a["source_step"] - a["image_left"] for left in range(0, a["width"], rows)]
    if a["kernel_width"] == 1:
        return len(first)
    reach, taps = (rows - 1) * a["source_step"], [k * a["source_column"] for k in range(a["kernel_width"])]
    return sum(-reach <= at + tap < a["image_width"] for at in first for tap in taps)


def _grouped_products(step: Step) -> int:
    a, g = step.arguments, Geometry.of(step.node)
    rows, columns, _ = step.kernel.tile
    pixels = -(-a["width"] // rows) * rows
    per_pixel = a["tile_count"] * columns * LANES * g.kernel_width * g.in_channels // g.group
    return a["batch"] * pixels * _kernel_rows(a) * per_pixel


def _depthwise_products(step: Step) -> int:
    a, g = step.arguments, Geometry.of(step.node)
    rows = step.kernel.tile[0]
    pixels = -(-a["width"] // rows) * rows
    per_pixel = a["blocks"] * LANES * a["kernel_width"] * g.in_channels // g.group
    return a["batch"] * pixels * _kernel_rows(a) * per_pixel


def _matmul_products(step: Step) -> int:
    a = step.arguments
    rows, columns = step.kernel.tile
    blocks = -(-a["columns"] // LANES)
    tiles = -(-a["rows"] // rows) * -(-blocks // columns)
    return a["batch"] * tiles * rows * columns * LANES * a["inner"]


_PRODUCTS: dict[str, Callable[[Step], int]] = {
    "convolution": _convolution_products,
    "depthwise": _depthwise_products,
    "grouped_convolution": _grouped_products,
    "matmul": _matmul_products,
    "winograd": lambda step: winograd_flops(step) // 2,
}


def moved_bytes(step: Step) -> int:
    """Bytes of the tensors a step reads and writes, each counted once; halos and lanes without a channel are not."""
    if is_conversion(step):
        return conversion_bytes(step)
    return sum(value.nbytes for value in {*step.node.inputs, *step.node.outputs} if value is not None)
