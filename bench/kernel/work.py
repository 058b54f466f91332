"""What a step has to do: floating-point operations counted in three ways, and bytes.

nominal   as layers are usually counted: every kernel element for every output, products with padding included
useful    without products with padding: what the layer needs mathematically when computed directly
executed  what the kernel's register tiles compute: with padding to the left and right, what tiles that overlap compute
          twice, and lanes without a channel; by Winograd's method less than useful, and its transforms are not counted
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from cpuruntime.graph.graph import Node
from cpuruntime.ops.convolution import COLUMN_TILE
from cpuruntime.ops.isa import LANES
from cpuruntime.ops.jit import Kernel
from cpuruntime.program.lower_convolution import Geometry
from cpuruntime.program.planner import Step

TILE = re.compile(r"_(\d+)(?:x(\d+))?(?:_u(\d+))?(?:_s\d+)?(?:_[A-Z]\w*)?$")
COMPUTE = ("convolution", "depthwise", "matmul", "winograd")


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one step; a multiply-add is two."""

    nominal: int
    useful: int
    executed: int


def flops(step: Step) -> Flops:
    """The work of a convolution or product."""
    executed = 2 * _PRODUCTS[family(step)](step)
    if family(step) == "matmul":
        return Flops(step.flops, step.flops, executed)
    g = Geometry(step.node)
    rows = _inside(g.height, g.kernel_height, g.stride_height, g.dilation_height, g.pad_top, g.in_height)
    columns = _inside(g.width, g.kernel_width, g.stride_width, g.dilation_width, g.pad_left, g.in_width)
    useful = 2 * g.batch * g.channels * (g.in_channels // g.group) * rows * columns
    return Flops(g.flops, useful, executed)


def family(step: Step) -> str:
    """The first word of the kernel's name."""
    return step.kernel.name.partition("_")[0]


def _inside(outputs: int, kernel: int, stride: int, dilation: int, pad: int, extent: int) -> int:
    """How many (output, kernel element) pairs of one axis fall on the image."""
    return sum(0 <= o * stride - pad + k * dilation < extent for o in range(outputs) for k in range(kernel))


def _kernel_rows(a: dict[str, Any]) -> int:
    """Kernel rows worked on for all output rows; the kernels skip those above and below the image."""
    window = (a["kernel_height"], a["stride_height"], a["dilation_height"], a["pad_top"])
    return _inside(a["height"], *window, a["in_height"])


def _tile(kernel: Kernel) -> list[int]:
    """Rows, columns and unrolled channels in a kernel's name."""
    match = TILE.search(kernel.name)
    assert match is not None
    return [int(number or 1) for number in match.groups()]


def _convolution_products(step: Step) -> int:
    a = step.arguments
    rows, columns, unroll = _tile(step.kernel)
    table = a["column_tiles"].storage.owner.view(COLUMN_TILE)
    pixels = -(-a["width"] // rows) * rows
    per_pixel = int(table["blocks"].sum()) * columns * LANES * a["kernel_width"] * a["steps"] * unroll
    return a["batch"] * pixels * _kernel_rows(a) * per_pixel


def _depthwise_products(step: Step) -> int:
    a = step.arguments
    rows = _tile(step.kernel)[0]
    pixels = -(-a["width"] // rows) * rows
    return a["batch"] * a["blocks"] * LANES * pixels * _kernel_rows(a) * a["kernel_width"]


def _matmul_products(step: Step) -> int:
    a = step.arguments
    rows, columns, _ = _tile(step.kernel)
    blocks = -(-a["columns"] // LANES)
    tiles = -(-a["rows"] // rows) * -(-blocks // columns)
    return a["batch"] * tiles * rows * columns * LANES * a["inner"]


def _winograd_products(step: Step) -> int:
    a = step.arguments
    columns = _tile(a["product_phase"])[1]
    rows = -(-a["batch"] * a["tiles_x"] * a["tiles_y"] // a["group"]) * a["group"]
    outputs = -(-a["out_blocks"] // columns) * columns * LANES
    return a["parts"] * a["products"] * rows * a["in_blocks"] * LANES * outputs


_PRODUCTS: dict[str, Callable[[Step], int]] = {
    "convolution": _convolution_products,
    "depthwise": _depthwise_products,
    "matmul": _matmul_products,
    "winograd": _winograd_products,
}


def moved_bytes(step: Step) -> int:
    """Bytes of the tensors a step reads and writes, each counted once; halos and lanes without a channel are not."""
    if _is_conversion(step):
        return 2 * 4 * prod(_extents(step))
    return sum(_nbytes(value) for value in {*step.node.inputs, *step.node.outputs} if value is not None)


def _nbytes(value: Any) -> int:
    return prod(value.static_shape) * value.element_type.to_dtype().itemsize


def describe(step: Step) -> str:
    """The layer in a few words: `3x3/2 128x56x56 -> 128x28x28 +residual`."""
    if _is_conversion(step):
        return f"{step.layout} {_spelled(_extents(step))}"
    node = step.node
    source, target = (_spelled(values[0].static_shape) for values in (node.inputs, node.outputs))
    if node.op_type == "FullyConnected":
        return f"{source} -> {target}{_residual(node)}"
    if node.op_type != "Conv":
        return f"{node.op_type} {source} -> {target}"
    g = Geometry(node)
    kernel = f"{g.kernel_height}x{g.kernel_width}"
    stride = "" if (g.stride_height, g.stride_width) == (1, 1) else f"/{g.stride_width}"
    group = "" if g.group == 1 else f" groups {g.group}"
    return f"{kernel}{stride}{group} {source} -> {target}{_residual(node)}"


def _is_conversion(step: Step) -> bool:
    """Whether the step brings an input of its node into another layout."""
    return "->" in step.layout and family(step) not in COMPUTE


def _extents(step: Step) -> tuple[int, ...]:
    return tuple(step.arguments[name] for name in ("batch", "channels", "height", "width"))


def _spelled(shape: Sequence[int]) -> str:
    """The extents, without a batch of one."""
    shown = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
    return "x".join(map(str, shown)) or "scalar"


def _residual(node: Node) -> str:
    return " +residual" if node.input(3) is not None else ""
