"""Products of several factors, however Mul and Div nest and wherever numbers stand in them."""

from __future__ import annotations

from cpuruntime.graph import Node, Value
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import is_onnx, scalar


class Product:
    """A product as its factors that are no constants, the number that multiplies them, and the nodes that spell it."""

    def __init__(self, editor: Editor, root: Node) -> None:
        self.editor = editor
        self.factors: list[Value] = []
        self.number = 1.0
        self.nodes: list[Node] = []
        self._expand(root)

    def _expand(self, node: Node) -> None:
        self.nodes.append(node)
        for index, value in enumerate(node.inputs):
            number = scalar(value)
            divides = node.op_type == "Div" and index == 1
            if number is not None and not (divides and number == 0):
                self.number *= 1 / number if divides else number
            elif self._continues(value) and not divides:
                self._expand(value.producer)
            else:
                self.factors.append(value)
                if divides:
                    self.number = 0.0

    def _continues(self, value: Value) -> bool:
        return is_onnx(value.producer, "Mul", "Div") and self.editor.sole_user(value) is not None
