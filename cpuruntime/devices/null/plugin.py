"""The NULL device; the smallest one there is, to start a new one from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from cpuruntime.devices.serial import Compute, SerialPlugin
from cpuruntime.graph import Graph, PartialShape
from cpuruntime.host.memory import aligned_zeros
from cpuruntime.operators.shape_inference import reshape
from cpuruntime.properties import Settings


class NullPlugin(SerialPlugin):
    """Answers zeros of the right types and shapes at once."""

    kernel = "none"

    def fact(self, name: str) -> Any:
        """The value of a read-only property: it claims to be right in no precision."""
        facts = {"FULL_DEVICE_NAME": "Computes nothing and answers zeros", "OPTIMIZATION_CAPABILITIES": []}
        return facts[name] if name in facts else super().fact(name)

    def prepare(self, graph: Graph, settings: Settings) -> Compute:
        return partial(_answer, graph)


def _answer(graph: Graph, inputs: Sequence[np.ndarray], begin: Callable[[int], None]) -> list[np.ndarray]:
    """Zeros for each output; extents that depend on data are as small as the model allows."""
    if not all(value.is_static for value in graph.outputs):
        graph = reshape(graph, {value.name: PartialShape(array.shape) for value, array in zip(graph.inputs, inputs)})
    shapes = [tuple(extent or 0 for extent in value.shape or ()) for value in graph.outputs]
    return [aligned_zeros(shape, value.element_type.to_dtype()) for shape, value in zip(shapes, graph.outputs)]
