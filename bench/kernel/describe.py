"""Steps in a few words."""

from __future__ import annotations

from collections.abc import Sequence

from cpuruntime.graph import Node
from cpuruntime.program.convolution.geometry import Geometry
from cpuruntime.program.plan.step import Step
from cpuruntime.program.report.work import is_conversion


def describe(step: Step) -> str:
    """The layer in a few words: `3x3/2 128x56x56 -> 128x28x28 +residual`."""
    if is_conversion(step):
        extents = [step.arguments[name] for name in ("batch", "channels", "height", "width")]
        return f"{step.layout} {_spelled(extents)}"
    node = step.node
    source, target = (_spelled(values[0].static_shape) for values in (node.inputs, node.outputs))
    if node.op_type == "FullyConnected":
        return f"{source} -> {target}{_residual(node)}"
    if node.op_type != "Conv":
        return f"{node.op_type} {source} -> {target}"
    g = Geometry.of(node)
    kernel = f"{g.kernel_height}x{g.kernel_width}"
    stride = "" if (g.stride_height, g.stride_width) == (1, 1) else f"/{g.stride_width}"
    group = "" if g.group == 1 else f" groups {g.group}"
    return f"{kernel}{stride}{group} {source} -> {target}{_residual(node)}"


def _spelled(shape: Sequence[int]) -> str:
    """The extents, without a batch of one."""
    shown = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
    return "x".join(map(str, shown)) or "scalar"


def _residual(node: Node) -> str:
    return " +residual" if node.input(3) is not None else ""
