"""The attributes that convolutions and pools share: how a window moves over the spatial axes."""

from __future__ import annotations

from typing import Any

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.records import record


@record
class Window:
    """One entry a spatial axis in each list, except `pads`: all begins, then all ends."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int]

    def attributes(self) -> dict[str, Any]:
        """As nodes have them."""
        return dict(kernel_shape=self.kernel, strides=self.strides, dilations=self.dilations, pads=self.pads)

    def reach(self, axis: int, extent: int) -> int:
        """The extent of what a transposed window writes, without padding."""
        return (extent - 1) * self.strides[axis] + self.dilations[axis] * (self.kernel[axis] - 1) + 1

    def output_extent(self, axis: int, extent: int) -> int:
        """How often the window fits into a spatial axis, rounding down."""
        padded = extent + self.pads[axis] + self.pads[axis + len(self.kernel)]
        return (padded - self.dilations[axis] * (self.kernel[axis] - 1) - 1) // self.strides[axis] + 1


def resolve(node: Node, kernel: list[int]) -> Window | None:
    """The window of `node` over its first input, padding made explicit.

    None when `auto_pad` needs extents that are not known. ModelError for attributes of the wrong length.
    """
    rank = len(kernel)
    strides = _entries(node, "strides", rank, [1] * rank)
    dilations = _entries(node, "dilations", rank, [1] * rank)
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        shape = node.inputs[0].shape[2:]
        if None in shape:
            return None
        pads = _same(shape, kernel, strides, dilations, mode == "SAME_LOWER")
    elif mode == "VALID":
        pads = [0] * (2 * rank)
    else:
        pads = _entries(node, "pads", 2 * rank, [0] * (2 * rank))
    return Window(list(kernel), strides, dilations, pads)


def _entries(node: Node, name: str, count: int, default: list[int]) -> list[int]:
    entries = list(node.attributes.get(name, default))
    if len(entries) != count:
        axes = len(node.inputs[0].shape) - 2
        raise ModelError(
            f"{node.where}: {name} {entries} has {len(entries)} entries; {axes} spatial axes need {count}."
        )
    return entries


def _same(
    shape: tuple[int, ...], kernel: list[int], strides: list[int], dilations: list[int], lower: bool
) -> list[int]:
    return shared(
        [
            max((-(-extent // stride) - 1) * stride + dilation * (size - 1) + 1 - extent, 0)
            for extent, size, stride, dilation in zip(shape, kernel, strides, dilations)
        ],
        lower,
    )


def shared(totals: list[int], lower: bool) -> list[int]:
    """Pads that share each total between begin and end, with an odd one at the begin if `lower`."""
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return large + small if lower else small + large
