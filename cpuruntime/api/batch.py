"""The batch of a model: the dimension that layouts of its inputs call N."""

from __future__ import annotations

from typing import Any

from cpuruntime.api.model import Model
from cpuruntime.api.ports import ConstOutput
from cpuruntime.errors import InvalidArgumentError, WrongTypeError, printable
from cpuruntime.graph import Dimension


def get_batch(model: Model) -> Dimension:
    """The batch of a model, by the layouts of its inputs; where none names N, their first dimension.

    Raises:
        InvalidArgumentError: inputs differ in it, or there is none.
    """
    found = [(port, port.partial_shape[axis]) for port, axis in _batched(model)]
    static = {dimension for _, dimension in found if dimension.is_static}
    if len(static) > 1:
        listed = ", ".join(f"'{printable(port.any_name)}' {dimension}" for port, dimension in found)
        raise InvalidArgumentError(f"The inputs differ in the batch: {listed}. Set layouts that call it N.")
    return static.pop() if static else found[0][1]


def set_batch(model: Model, dimension: Any = -1) -> None:
    """Give a model another batch, an int, -1 or a Dimension, where `get_batch` finds it; other shapes follow.

    Raises:
        InvalidArgumentError: there is no batch, or the model does not take this one; it stays as it was.
    """
    if isinstance(dimension, str):
        raise WrongTypeError(f"The batch is an int or a Dimension, not {dimension!r:.60}.")
    shapes = {}
    for port, axis in _batched(model):
        shape = port.partial_shape
        shape[axis] = Dimension(dimension)
        shapes[port] = shape
    model.reshape(shapes)


def _batched(model: Model) -> list[tuple[ConstOutput, int]]:
    """The inputs that have a batch, with its dimension."""
    inputs = Model.checked(model).inputs
    ranked = [port for port in inputs if port.partial_shape.rank.is_static and len(port.partial_shape)]
    named = [port for port in ranked if port.node.layout.has_name("N")]
    found = [(port, port.batch_axis) for port in named or ranked]
    if not found:
        raise InvalidArgumentError("The model has no batch: no input has a dimension.")
    return found
