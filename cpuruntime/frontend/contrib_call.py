"""A node of ONNX Runtime's operators, as the text of its definition is written from it."""

from __future__ import annotations

from typing import Any

import onnx

from cpuruntime.errors import ModelError, UnsupportedError, listed, printable


class Call:
    """One node: which inputs and outputs it has, and its attributes."""

    def __init__(self, node: onnx.NodeProto) -> None:
        self._node = node
        self._given = {attribute.name: attribute for attribute in node.attribute}

    @property
    def where(self) -> str:
        return f"{printable(self._node.op_type)} '{printable(self._node.name)}'"

    @property
    def inputs(self) -> int:
        """How many inputs the node lists."""
        return len(self._node.input)

    @property
    def outputs(self) -> int:
        """How many outputs the node lists."""
        return len(self._node.output)

    def has(self, index: int) -> bool:
        """Whether the input is there."""
        return index < len(self._node.input) and self._node.input[index] != ""

    def gives(self, index: int) -> bool:
        """Whether the output is read."""
        return index < len(self._node.output) and self._node.output[index] != ""

    def take(self, name: str, default: Any) -> Any:
        """The attribute, of the type that the default has."""
        attribute = self._given.pop(name, None)
        if attribute is None:
            return default
        data = onnx.helper.get_attribute_value(attribute)
        data = data.decode() if isinstance(data, bytes) else data
        if type(data) is not type(default):
            raise ModelError(f"{self.where}: attribute '{name}' has a wrong type.")
        return data

    def text(self, *names: str, more: str = "") -> str:
        """The list of attributes of a node of the definition: `more`, and those of these names that are given."""
        given = [f"{name} = @{name}" for name in names if self._given.pop(name, None) is not None]
        items = ", ".join([more, *given] if more else given)
        return f"<{items}>" if items else ""

    def refuse(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"{self.where}: {what} is not supported. Export the model without this fusion.")

    def check(self) -> None:
        if self._given:
            raise self.refuse(f"attribute {listed(self._given)}")
