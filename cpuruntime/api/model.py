"""Models: what is read from a file, looked at, reshaped, and compiled."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from cpuruntime.api.ports import ConstOutput, describe_all, keys, position
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.graph import Graph, PartialShape
from cpuruntime.operators.shape_inference import reshape


class Output(ConstOutput):
    """An input or output of a model: shows what a reshape made of it. Otherwise as `ConstOutput`."""

    __slots__ = ("_model", "_side")

    def __init__(self, model: Model, side: str, index: int) -> None:
        self._model = model
        self._side = side
        self._index = index

    @property
    def info(self) -> PortInfo:
        """Name, type and shape."""
        return self._model.port_info(self._side, self._index)


class Model:
    """A model. Made by `Core.read_model`. Not safe to change from two threads; compiling does not change it."""

    __slots__ = ("__weakref__", "_friendly_name", "_graph", "_inputs", "_outputs", "_ports")

    def __init__(self, graph: Graph, friendly_name: str | None = None) -> None:
        self._friendly_name = graph.name if friendly_name is None else friendly_name
        self._inputs = tuple(Output(self, "input", index) for index in range(len(graph.inputs)))
        self._outputs = tuple(Output(self, "output", index) for index in range(len(graph.outputs)))
        self._hold(graph)

    def _hold(self, graph: Graph) -> None:
        self._graph = graph
        self._ports = {"input": PortInfo.inputs_of(graph), "output": PortInfo.outputs_of(graph)}

    @property
    def graph(self) -> Graph:
        """The nodes and values; not to be changed. Another object after `reshape`."""
        return self._graph

    def port_info(self, side: str, index: int) -> PortInfo:
        """Name, type and shape, as they are now, of a port; `side` is "input" or "output"."""
        return self._ports[side][index]

    @property
    def inputs(self) -> list[Output]:
        """The inputs, in the model's order."""
        return list(self._inputs)

    @property
    def outputs(self) -> list[Output]:
        """The outputs, in the model's order."""
        return list(self._outputs)

    def input(self, index: int | str | None = None) -> Output:
        """The input with this index or name; without one, the only input."""
        return self._inputs[position(index, keys(self._inputs), "input", default=True)]

    def output(self, index: int | str | None = None) -> Output:
        """The output with this index or name; without one, the only output."""
        return self._outputs[position(index, keys(self._outputs), "output", default=True)]

    @property
    def friendly_name(self) -> str:
        """The model's name."""
        return self._friendly_name

    @friendly_name.setter
    def friendly_name(self, name: str) -> None:
        self._friendly_name = str(name)

    def get_friendly_name(self) -> str:
        """The same as `friendly_name`."""
        return self._friendly_name

    def set_friendly_name(self, name: str) -> None:
        """The same as assigning `friendly_name`."""
        self.friendly_name = name

    def is_dynamic(self) -> bool:
        """Whether the shape of an input or output, or of any value between, is not known."""
        return any(value.name and not value.is_static for value in self._graph.values())

    def reshape(self, partial_shape: Any) -> None:
        """Give inputs other shapes; all other shapes follow.

        Args:
            partial_shape: a dict of shape by input index, name or port; or one shape for the only input. A shape is a
                PartialShape, a Shape, a list or tuple of dimensions (int, -1, Dimension, (low, high), "1..8", "?"), or
                a string such as "1,3,224..448,?".

        Raises:
            InvalidArgumentError: there is no such input, or the model does not take the shape; it stays as it was.
        """
        positions = keys(self._inputs)
        items = partial_shape if isinstance(partial_shape, Mapping) else {None: partial_shape}
        shapes = {}
        for key, shape in items.items():
            name = self._inputs[position(key, positions, "input", default=True)].any_name
            if name in shapes:
                raise InvalidArgumentError(f"Input '{printable(name)}' is given two shapes.")
            shapes[name] = PartialShape(shape)
        self._hold(reshape(self._graph, shapes))

    def clone(self) -> Model:
        """A model of its own; the arrays of constants are shared."""
        return Model(self._graph.clone(), self._friendly_name)

    def __copy__(self) -> Model:
        raise TypeError("Cannot copy a Model shallowly; use clone() or copy.deepcopy.")

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        return self.clone()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hold(Graph(self._graph.name, [], [], []))
        self._inputs = self._outputs = ()

    def __repr__(self) -> str:
        return describe_all(f"Model: '{printable(self._friendly_name)}'", self._inputs, self._outputs)
