"""The work of a step: floating-point operations counted in three ways, and bytes.

nominal   as layers are usually counted: every kernel element for every output, products with padding included
useful    without products with padding: what the layer needs mathematically when computed directly
executed  what the kernel's register tiles compute: with padding to the left and right, what tiles that overlap compute
          twice, and lanes without a channel; by Winograd's method less than useful, and its transforms are not counted
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from cpuruntime.compiler.isa import LANES
from cpuruntime.ops.convolution import COLUMN_TILE
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.plan.step import Step
from cpuruntime.program.plan.storage import Address, Place, Storage
from cpuruntime.program.report.roofs import Roofs

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
    pixels = -(-a["width"] // rows) * rows
    per_pixel = int(table["blocks"].sum()) * columns * LANES * a["kernel_width"] * a["steps"] * unroll
    return a["batch"] * pixels * _kernel_rows(a) * per_pixel


def _grouped_products(step: Step) -> int:
    a, g = step.arguments, Geometry.of(step.node)
    rows, columns, _ = step.kernel.tile
    pixels = -(-a["width"] // rows) * rows
    per_pixel = a["tile_count"] * columns * LANES * a["kernel_width"] * g.in_channels // g.group
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


def _winograd_products(step: Step) -> int:
    a = step.arguments
    columns = a["product_phase"].tile[1]
    rows = -(-a["batch"] * a["tiles_x"] * a["tiles_y"] // a["group"]) * a["group"]
    outputs = -(-a["out_blocks"] // columns) * columns * LANES
    return a["parts"] * a["products"] * rows * a["in_blocks"] * LANES * outputs


_PRODUCTS: dict[str, Callable[[Step], int]] = {
    "convolution": _convolution_products,
    "depthwise": _depthwise_products,
    "grouped_convolution": _grouped_products,
    "matmul": _matmul_products,
    "winograd": _winograd_products,
}


def moved_bytes(step: Step) -> int:
    """Bytes of the tensors a step reads and writes, each counted once; halos and lanes without a channel are not."""
    if is_conversion(step):
        return 2 * 4 * prod(conversion_extents(step))
    return sum(value.nbytes for value in {*step.node.inputs, *step.node.outputs} if value is not None)


def is_conversion(step: Step) -> bool:
    """Whether the step brings an input of its node into another layout."""
    return "->" in step.layout and step.kernel.family not in COMPUTE


def conversion_extents(step: Step) -> tuple[int, ...]:
    """(N, C, H, W) of a conversion."""
    return tuple(step.arguments[name] for name in ("batch", "channels", "height", "width"))


def constant_bytes(step: Step) -> int:
    """Bytes of the constants a step reads, as they are packed."""
    return sum(storage.size for storage in _storages(step) if storage.place is Place.FIXED)


def tensor_bytes(step: Step) -> int:
    """Bytes of the tensors that a step reads and writes, each counted once: at most what its node does in all.

    Not counted for steps that clear a halo, which touch little of their tensor.
    """
    if step.layout == "halo":
        return 0
    memory = sum(storage.size for storage in _storages(step) if storage.place is not Place.FIXED)
    values = {value for value in (*step.node.inputs, *step.node.outputs) if value is not None}
    named = sum(value.nbytes for value in values if value.constant is None and value.is_static)
    return min(memory, 2 * 4 * prod(conversion_extents(step)) if is_conversion(step) else named)


def _storages(step: Step) -> set[Storage]:
    return {argument.storage for argument in step.arguments.values() if isinstance(argument, Address)}


def operations(step: Step) -> int:
    """Floating-point operations of the multiply-adds that a step does: by Winograd's method fewer than nominal."""
    return min(step.flops, flops(step).executed) if step.kernel.family == "winograd" else step.flops


def least_seconds(step: Step, roofs: Roofs, constants: int) -> float:
    """The least seconds of a step: its multiply-adds or its memory traffic, whichever takes longer, at their roof.

    `constants` is the size of all constants of the model, which are read once in an inference.
    """
    memory = sum(size / roofs.bandwidth(near) for size, near in _traffic(step, constants) if size)
    return max(operations(step) / roofs.peak, memory)


def _traffic(step: Step, constants: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(bytes, the working set that they are part of) of constants and of tensors."""
    tensors = tensor_bytes(step)
    return (constant_bytes(step), constants), (tensors, tensors)
