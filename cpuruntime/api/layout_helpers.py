"""Functions about layouts, by OpenVINO's names: where the batch, channels, depth, height and width are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cpuruntime.api.layout import Layout

__all__ = [
    "batch_idx",
    "channels_idx",
    "depth_idx",
    "get_layout",
    "has_batch",
    "has_channels",
    "has_depth",
    "has_height",
    "has_width",
    "height_idx",
    "set_layout",
    "width_idx",
]


def _has(name: str) -> Callable[[Layout], bool]:
    return lambda layout: layout.has_name(name)


def _index(name: str) -> Callable[[Layout], int]:
    return lambda layout: layout.get_index_by_name(name)


has_batch, has_channels, has_depth, has_height, has_width = map(_has, "NCDHW")
batch_idx, channels_idx, depth_idx, height_idx, width_idx = map(_index, "NCDHW")


def get_layout(port: Any) -> Layout:
    """The layout of a port of a model."""
    return port.node.layout


def set_layout(port: Any, layout: Layout | str) -> None:
    """Set the layout of a port of a model, as `port.node.set_layout`."""
    port.node.set_layout(layout)
