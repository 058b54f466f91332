"""The REFERENCE device: it interprets the graph as it was read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from cpuruntime.devices.serial import Compute, SerialPlugin
from cpuruntime.graph import Graph, Node, Value
from cpuruntime.operators import control_flow
from cpuruntime.operators.shape_inference import evaluate
from cpuruntime.properties import Settings


class ReferencePlugin(SerialPlugin):
    """Runs models in the Python interpreter."""

    kernel = "numpy"
    fallback = True

    def fact(self, name: str) -> Any:
        return "ONNX operators in NumPy" if name == "FULL_DEVICE_NAME" else super().fact(name)

    def prepare(self, graph: Graph, settings: Settings) -> Compute:
        return partial(_interpret, graph)


def _run(node: Node, values: Sequence[Any], begin: Callable[[], None]) -> list[Any]:
    """The outputs of a node; `begin` ends the inference before it, and before any node of its bodies."""
    begin()
    if node.op_type in control_flow.OPERATORS and node.domain == "":
        return control_flow.run(node, values, partial(_run, begin=begin))
    return evaluate(node, values)


def _interpret(graph: Graph, inputs: Sequence[np.ndarray], begin: Callable[[int], None]) -> list[np.ndarray]:
    # Copies: NumPy checks all indices and then reads them again, and users may write to the inputs at any time.
    arrays: dict[Value, np.ndarray] = dict(zip(graph.inputs, [array.copy() for array in inputs]))

    def read(value: Value) -> np.ndarray:
        return arrays[value] if value.constant is None else value.constant

    for index, node in enumerate(graph.nodes):
        run = partial(_run, begin=partial(begin, index))
        arrays.update(zip(node.outputs, run(node, [None if v is None else read(v) for v in node.inputs])))
    return [read(value) for value in graph.outputs]
