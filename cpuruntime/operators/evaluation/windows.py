"""Where the windows of convolutions and pools lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import attribute
from cpuruntime.records import record


@record
class Windows:
    """For each spatial axis: a window's elements, stride and dilation, padding before and after, count of windows."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    counts: tuple[int, ...]

    def padded(self, x: np.ndarray, fill: float | int | bool) -> np.ndarray:
        """`x` with its spatial axes padded so that every window lies inside."""
        width = [(0, 0)] * (x.ndim - len(self.kernel))
        for n, k, s, d, before, count in zip(
            x.shape[2:], self.kernel, self.strides, self.dilations, self.before, self.counts
        ):
            width.append((before, max(0, (count - 1) * s + (k - 1) * d + 1 - n - before)))
        return np.pad(x, width, constant_values=np.asarray(fill).astype(x.dtype))

    def offsets(self, padded: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """For each place in a window, in row-major order: the place, and that element of all windows."""
        for place in np.ndindex(*self.kernel):
            spots = (
                slice(o * d, o * d + (count - 1) * s + 1, s) if count else slice(0, 0)
                for o, d, s, count in zip(place, self.dilations, self.strides, self.counts)
            )
            yield place, padded[(slice(None), slice(None), *spots)]


def reaches(node: Node, kernel: Sequence[int]) -> list[int]:
    """The elements that a window spans along each axis."""
    return [(k - 1) * d + 1 for k, d in zip(kernel, attribute(node, "dilations") or [1] * len(kernel))]


def find_windows(node: Node, extents: Sequence[int], kernel: Sequence[int]) -> Windows:
    """The windows of a Conv or pool as its attributes say; ModelError when there is none along an axis."""
    rank = len(extents)
    strides, dilations = (tuple(attribute(node, name) or [1] * rank) for name in ("strides", "dilations"))
    pads = attribute(node, "pads") or [0] * 2 * rank
    auto, up = attribute(node, "auto_pad") or "NOTSET", bool(attribute(node, "ceil_mode"))
    before, after, counts = [], [], []
    for i, (n, k, s, d) in enumerate(zip(extents, kernel, strides, dilations)):
        reach = (k - 1) * d + 1
        begin, end = (0, 0) if auto == "VALID" else (pads[i], pads[i + rank])
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            count = -(-n // s)
            total = max(0, (count - 1) * s + reach - n)
            begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
            end = total - begin
        else:
            room = n + begin + end - reach
            count = (-(-room // s) if up else room // s) + 1
            if up and (count - 1) * s >= n + begin:
                count -= 1  # the last window would start behind the elements
        if count < 0:
            raise ModelError(f"{node.where}: a window of {reach} does not fit into {n} + {begin} + {end} elements.")
        before.append(begin)
        after.append(end)
        counts.append(count)
    return Windows(tuple(kernel), strides, dilations, tuple(before), tuple(after), tuple(counts))
