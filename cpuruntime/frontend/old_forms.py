"""Rewrites nodes of operator sets 1 to 6 into the forms that set 7 has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from cpuruntime.errors import ModelError, UnsupportedError, printable
from cpuruntime.graph import Graph, Node, Value

OLDEST = 7
"""The oldest operator set that the rest of the runtime knows."""
_HELPERS = 13
_MOST_TILES = 1024


def modernise(graph: Graph) -> None:
    """Replace the nodes of ONNX's own domain that are older than `OLDEST`; types and shapes need not be known.

    Raises UnsupportedError for nodes in training mode and for parameters that must be constants.
    """
    if all(node.domain or node.version >= OLDEST for node in graph.nodes):
        return
    names = {value.name for value in graph.values()}
    graph.nodes = [new for node in graph.nodes for new in _Rewrite(node, names).run()]


class _Rewrite:
    """One node, and the nodes that must come before it."""

    def __init__(self, node: Node, names: set[str]) -> None:
        self._node = node
        self._names = names
        self._before: list[Node] = []

    def run(self) -> list[Node]:
        node = self._node
        if not node.domain and node.version < OLDEST:
            form = _FORMS.get(node.op_type)
            if form is not None:
                form(self, node)
            node.attributes.pop("consumed_inputs", None)
            node.version = max(node.version, OLDEST)
        return [*self._before, node]

    def _name(self, part: str) -> str:
        number, name = 1, f"{self._node.name}/{part}"
        while name in self._names:
            number += 1
            name = f"{self._node.name}/{part}/{number}"
        self._names.add(name)
        return name

    def _constant(self, part: str, data: Any, dtype: Any = np.int64) -> Value:
        return Value.of(self._name(part), np.array(data, dtype))

    def _add(self, op_type: str, *inputs: Value | None, **attributes: Any) -> Value:
        name = self._name(op_type.lower())
        output = Value(name)
        origins = self._node.origins
        self._before.append(Node(op_type, name, inputs, [output], attributes, "", _HELPERS, origins))
        return output

    def _align(self, axis: int) -> None:
        """Let the first dimension of the second input meet `axis` of the first: ones come behind its last."""
        first, second = self._node.require(0), self._node.require(1)
        shape = self._add("Shape", second)
        behind = self._add("Sub", self._add("Shape", self._add("Shape", first)), self._add("Shape", shape))
        count = self._add("Sub", behind, self._constant("axis", [axis]))
        ones = self._add("ConstantOfShape", count, value=np.ones(1, np.int64))
        self._node.inputs[1] = self._add("Reshape", second, self._add("Concat", shape, ones, axis=0))

    def _number(self, index: int) -> int:
        value = self._node.require(index)
        if value.constant is None or value.constant.size != 1:
            raise UnsupportedError(
                f"{self._node.where}: input {index} ('{printable(value.name)}') must be a constant number in opsets "
                "before 6. Export the model with a newer opset."
            )
        return int(value.constant.reshape(()))

    def broadcast(self, node: Node) -> None:
        """The second input is aligned at the end, or where `axis` says."""
        axis = node.attributes.pop("axis", None)
        if node.attributes.pop("broadcast", 0) and axis is not None:
            if axis < 0:
                raise ModelError(f"{node.where}: attribute 'axis' is {axis}; it must not be negative.")
            self._align(axis)

    def prelu(self, node: Node) -> None:
        """A slope of one dimension is one for each channel."""
        slope = node.require(1)
        if slope.constant is None or slope.constant.ndim == 1 < slope.constant.size:
            self._align(1)

    def tested(self, node: Node) -> None:
        if not node.attributes.pop("is_test", 0):
            raise UnsupportedError(f"{node.where}: is_test is 0: it trains. Export the model for inference.")

    def cast(self, node: Node) -> None:
        to = node.attributes["to"]
        if isinstance(to, str):
            if to not in onnx.TensorProto.DataType.keys():  # noqa: SIM118 (it is no dictionary)
                raise ModelError(f"{node.where}: attribute 'to' is '{printable(to)}', which names no type.")
            node.attributes["to"] = onnx.TensorProto.DataType.Value(to)

    def concat(self, node: Node) -> None:
        node.attributes.setdefault("axis", 1)

    def gemm(self, node: Node) -> None:
        node.attributes.pop("broadcast", None)

    def norm(self, node: Node) -> None:
        power = node.attributes.get("p", 2)
        if power != int(power):
            raise UnsupportedError(f"{node.where}: attribute 'p' is {power}; only whole numbers are supported.")
        node.attributes["p"] = int(power)

    def pad(self, node: Node) -> None:
        if "paddings" in node.attributes:
            node.attributes["pads"] = node.attributes.pop("paddings")

    def recurrent(self, node: Node) -> None:
        node.attributes.pop("output_sequence", None)

    def reshape(self, node: Node) -> None:
        if len(node.inputs) == 1:
            node.inputs.append(self._constant("shape", node.attributes.pop("shape", [])))

    def selu(self, node: Node) -> None:
        """Set 1 has shorter defaults."""
        if node.version < 6:
            node.attributes = {"alpha": 1.6732, "gamma": 1.0507} | node.attributes

    def split(self, node: Node) -> None:
        sizes = node.input(1)
        if sizes is not None:
            node.attributes.pop("split", None)
            node.inputs[1] = self._add("Cast", sizes, to=onnx.TensorProto.INT64)
            node.version = _HELPERS

    def tile(self, node: Node) -> None:
        """Set 1 repeats along one axis."""
        if node.version < 6:
            count, axis = self._number(1), self._number(2)
            if not 1 <= count <= _MOST_TILES:
                raise UnsupportedError(f"{node.where}: {count} tiles; supported are 1 to {_MOST_TILES}.")
            node.op_type, node.inputs, node.attributes = "Concat", node.inputs[:1] * count, {"axis": axis}

    def upsample(self, node: Node) -> None:
        height, width = (node.attributes.pop(name, None) for name in ("height_scale", "width_scale"))
        if height is not None and width is not None:
            node.attributes["scales"] = [1.0, 1.0, height, width]


def _forms(form: Callable[[_Rewrite, Node], None], op_types: Sequence[str]) -> dict[str, Any]:
    return dict.fromkeys(op_types, form)


_FORMS: dict[str, Callable[[_Rewrite, Node], None]] = {
    **_forms(
        _Rewrite.broadcast, ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")
    ),
    **_forms(_Rewrite.norm, ("GlobalLpPool", "LpPool")),
    **_forms(_Rewrite.recurrent, ("GRU", "LSTM", "RNN")),
    **_forms(_Rewrite.tested, ("BatchNormalization", "Dropout")),
    "Cast": _Rewrite.cast,
    "Concat": _Rewrite.concat,
    "Gemm": _Rewrite.gemm,
    "PRelu": _Rewrite.prelu,
    "Pad": _Rewrite.pad,
    "Reshape": _Rewrite.reshape,
    "Selu": _Rewrite.selu,
    "Split": _Rewrite.split,
    "Tile": _Rewrite.tile,
    "Upsample": _Rewrite.upsample,
}
