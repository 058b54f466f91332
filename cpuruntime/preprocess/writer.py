"""Writes the nodes of steps, of ONNX's own operators, with their types and shapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from cpuruntime.graph import Graph, Node, PartialShape, Type, Value
from cpuruntime.operators.shape_inference import evaluate, infer_shapes

_OLDEST = 11
"""The operator set since which Clip, Pad, Resize and Slice have their parameters as inputs."""


_END = np.iinfo(np.int64).max


class StepWriter:
    """The nodes written so far. `names` are those of values and nodes that new ones must not have."""

    def __init__(self, names: Iterable[str], version: int) -> None:
        self.nodes: list[Node] = []
        self.prefix = ""
        self._names = set(names)
        self._version = max(version, _OLDEST)

    def unique(self, name: str) -> str:
        """The name, with a number behind it where it is taken."""
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name}/{number}"
        self._names.add(found)
        return found

    def constant(self, data: Any, dtype: Any = np.int64) -> Value:
        """A constant."""
        return Value.of(self.unique(f"{self.prefix}/constant"), np.array(data, dtype))

    def op(self, op_type: str, *inputs: Value | None, since: int = 0, **attributes: Any) -> Value:
        """The output of a new node; of constants a constant.

        Args:
            op_type: the operator.
            inputs: what it reads; None where it is absent.
            since: the operator set since which it has this form.
            attributes: its attributes.

        Raises ModelError where the operator does not take them.
        """
        name = self.unique(f"{self.prefix}/{op_type}")
        output = Value(name)
        node = Node(op_type, name, inputs, [output], attributes, "", max(self._version, since))
        infer_shapes(Graph("", [], [output], [node], {"": node.version}))
        if all(value is None or value.constant is not None for value in inputs):
            array = evaluate(node, [None if value is None else value.constant for value in inputs])[0]
            return Value.of(name, array)
        self.nodes.append(node)
        return output

    def shape_of(self, value: Value) -> Value:
        """The shape, as a tensor."""
        return self.constant(value.shape) if value.is_static else self.op("Shape", value)

    def cast(self, value: Value, element_type: Type) -> Value:
        """The value with elements of another type."""
        return value if value.element_type is element_type else self.op("Cast", value, to=element_type.to_onnx())

    def slice(self, value: Value, axis: int, start: Any = 0, end: Any = _END, step: int = 1) -> Value:
        """A part along one axis; `start` and `end` are integers or values of one."""
        bounds = [one if isinstance(one, Value) else self.constant([one]) for one in (start, end)]
        return self.op("Slice", value, *bounds, self.constant([axis]), self.constant([step]))

    def rounded(self, value: Value, element_type: Type) -> Value:
        """Real numbers to the nearest number of an integer type, a half to the even one; others as they are."""
        if not element_type.is_integral():
            return self.cast(value, element_type)
        limits = np.iinfo(element_type.to_dtype())
        bounds = [self.constant(limit, value.element_type.to_dtype()) for limit in (limits.min, limits.max)]
        return self.cast(self.op("Clip", self.op("Round", value), *bounds), element_type)


class StepValue:
    """A value in the graph, for steps of users: what a step reads, and what it returns."""

    __slots__ = ("value", "writer")

    def __init__(self, writer: StepWriter, value: Value) -> None:
        self.writer, self.value = writer, value

    @property
    def element_type(self) -> Type:
        """The type of its elements."""
        return self.value.element_type

    @property
    def partial_shape(self) -> PartialShape:
        """Its shape, which may be dynamic."""
        return partial_shape(self.value)

    def get_element_type(self) -> Type:
        """The same as `element_type`."""
        return self.element_type

    def get_partial_shape(self) -> PartialShape:
        """The same as `partial_shape`."""
        return self.partial_shape

    def apply(self, op_type: str, *inputs: Any, **attributes: Any) -> StepValue:
        """The first output of an ONNX operator that reads this value, and then `inputs`.

        Args:
            op_type: such as "Abs".
            inputs: values of steps, None, arrays, or numbers; numbers are taken in this value's element type.
            attributes: the operator's attributes.

        Raises:
            ModelError: the operator does not take them.
        """
        return StepValue(self.writer, self.writer.op(op_type, self.value, *map(self._read, inputs), **attributes))

    def _read(self, given: Any) -> Value | None:
        if given is None or isinstance(given, StepValue):
            return given and given.value
        dtype = given.dtype if isinstance(given, np.ndarray) else self.element_type.to_dtype()
        return self.writer.constant(given, dtype)

    def __repr__(self) -> str:
        return f"<StepValue: shape{self.partial_shape} type: {self.element_type.type_name}>"


def partial_shape(value: Value) -> PartialShape:
    """The shape of a value."""
    if value.shape is None:
        return PartialShape.dynamic()
    return PartialShape([-1 if extent is None else extent for extent in value.shape])
