"""Nodes of models, as far as programs for OpenVINO look at them: names, types, neighbours, notes, layouts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cpuruntime.api.layout import Layout
from cpuruntime.api.notes import RTMap
from cpuruntime.api.refusals import EDITED, refused
from cpuruntime.errors import UnsupportedError, WrongIndexError, printable
from cpuruntime.graph import PartialShape, Shape, Type


class Facts:
    """What users may change about a node.

    Attributes:
        friendly_name: how it is called.
        rt_info: notes by name, in OVAny.
        layout: of its output, for inputs and outputs of a model.
        names: of its output, where others than the tensor's name are set.
    """

    __slots__ = ("friendly_name", "layout", "names", "rt_info")

    def __init__(
        self, friendly_name: str, rt_info: RTMap | None = None, layout: Layout | None = None,
        names: list[str] | None = None,
    ) -> None:  # fmt: skip
        self.friendly_name = friendly_name
        self.rt_info = RTMap() if rt_info is None else rt_info
        self.layout = Layout() if layout is None else layout
        self.names = [] if names is None else names

    def copy(self) -> Facts:
        """A copy that may be changed on its own."""
        return Facts(self.friendly_name, RTMap(self.rt_info), self.layout, list(self.names))


@dataclass(frozen=True, slots=True)
class DiscreteTypeInfo:
    """What a node is: the operator's name and its set. `parent` is None: types do not derive from each other."""

    name: str
    version_id: str = ""
    parent: DiscreteTypeInfo | None = None

    def hash(self) -> int:
        """The hash of name and set."""
        return hash((self.name, self.version_id))


class WithOutputs(ABC):
    """What models and nodes say about their outputs."""

    __slots__ = ()

    @abstractmethod
    def output(self, index: int) -> Any:
        """The port of an output."""

    def get_output_element_type(self, index: int) -> Type:
        """The element type of an output."""
        return self.output(index).element_type

    def get_output_partial_shape(self, index: int) -> PartialShape:
        """The shape of an output."""
        return self.output(index).partial_shape

    def get_output_shape(self, index: int) -> Shape:
        """The shape of an output. Raises InvalidArgumentError where it is dynamic."""
        return self.output(index).shape


class Node(WithOutputs):
    """A node of a model: an operator's, or the "Parameter" of an input, the "Result" of an output, a "Constant".

    `outputs` and `sources` are ports: its own, and those that its inputs read. Not safe to change from two threads.
    """

    __slots__ = ("__weakref__", "_attributes", "_facts", "_outputs", "_sources", "_type_name")

    def __init__(
        self,
        type_name: str,
        facts: Facts,
        outputs: Callable[[], Sequence[Any]],
        sources: Callable[[], Sequence[Any]] = tuple,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self._type_name, self._facts = type_name, facts
        self._outputs, self._sources, self._attributes = outputs, sources, attributes or {}

    @property
    def friendly_name(self) -> str:
        """How the node is called."""
        return self._facts.friendly_name

    @friendly_name.setter
    def friendly_name(self, name: str) -> None:
        self._facts.friendly_name = str(name)

    def get_friendly_name(self) -> str:
        """The same as `friendly_name`."""
        return self.friendly_name

    def set_friendly_name(self, name: str) -> None:
        """The same as assigning `friendly_name`."""
        self.friendly_name = name

    def get_name(self) -> str:
        """The same as `friendly_name`: there are no other names."""
        return self.friendly_name

    name = property(get_name)

    def get_type_name(self) -> str:
        """The operator, as ONNX calls it; Parameter, Result or Constant."""
        return self._type_name

    type_name = property(get_type_name)

    def get_type_info(self) -> DiscreteTypeInfo:
        """The operator; of which set is left open."""
        return DiscreteTypeInfo(self._type_name)

    type_info = property(get_type_info)

    @property
    def rt_info(self) -> RTMap:
        """Notes by name, which may be changed."""
        return self._facts.rt_info

    def get_rt_info(self) -> RTMap:
        """The same as `rt_info`."""
        return self.rt_info

    def set_rt_info(self, value: Any, key: str) -> None:
        """Add a note."""
        self.rt_info[key] = value

    def get_attributes(self) -> dict[str, Any]:
        """The operator's attributes by name; a copy."""
        return dict(self._attributes)

    @property
    def layout(self) -> Layout:
        """What the dimensions of a model's input or output mean. Raises UnsupportedError where set for other nodes."""
        return self._facts.layout

    @layout.setter
    def layout(self, layout: Layout | str) -> None:
        if self._type_name not in ("Parameter", "Result"):
            raise UnsupportedError(f"{self!r} has no layout; inputs and outputs of models have.")
        layout = layout if isinstance(layout, Layout) else Layout(layout)
        layout.check_fits(self.output(0).partial_shape, self.friendly_name)
        self._facts.layout = layout

    def get_layout(self) -> Layout:
        """The same as `layout`."""
        return self.layout

    def set_layout(self, layout: Layout | str) -> None:
        """The same as assigning `layout`. Raises InvalidArgumentError where it does not fit the shape."""
        self.layout = layout  # type: ignore[assignment]

    def outputs(self) -> list[Any]:
        """The ports of its outputs."""
        return list(self._outputs())

    def output(self, index: int = 0) -> Any:
        """The port of an output."""
        return _at(self.outputs(), index, self, "output")

    def input_values(self) -> list[Any]:
        """The ports that its inputs read."""
        return list(self._sources())

    def input_value(self, index: int) -> Any:
        """The port that an input reads."""
        return _at(self.input_values(), index, self, "input")

    def inputs(self) -> list[Input]:
        """Its inputs."""
        return [Input(self, index) for index in range(len(self._sources()))]

    def input(self, index: int = 0) -> Input:
        """One of its inputs."""
        return _at(self.inputs(), index, self, "input")

    def get_output_tensor(self, index: int) -> Any:
        """What describes the tensor of an output: its port."""
        return self.output(index)

    def get_input_tensor(self, index: int) -> Any:
        """What describes the tensor that an input reads: its port."""
        return self.input_value(index)

    def validate_and_infer_types(self) -> None:
        """Nothing: types and shapes are always up to date."""

    def get_instance_id(self) -> int:
        """A number that no other node has."""
        return id(self)

    def get_output_size(self) -> int:
        """The number of outputs."""
        return len(self._outputs())

    def get_input_size(self) -> int:
        """The number of inputs."""
        return len(self._sources())

    def get_input_element_type(self, index: int) -> Type:
        """The element type of what an input reads."""
        return self.input_value(index).element_type

    def get_input_partial_shape(self, index: int) -> PartialShape:
        """The shape of what an input reads."""
        return self.input_value(index).partial_shape

    def get_input_shape(self, index: int) -> Shape:
        """The shape of what an input reads. Raises InvalidArgumentError where it is dynamic."""
        return self.input_value(index).shape

    def get_element_type(self) -> Type:
        """The element type of the first output."""
        return self.output().element_type

    def get_partial_shape(self) -> PartialShape:
        """The shape of the first output."""
        return self.output().partial_shape

    def get_shape(self) -> Shape:
        """The shape of the first output. Raises InvalidArgumentError where it is dynamic."""
        return self.output().shape

    element_type, partial_shape, shape = property(get_element_type), property(get_partial_shape), property(get_shape)

    def __repr__(self) -> str:
        outputs = ", ".join(f"{port.element_type.type_name}{port.partial_shape}" for port in self._outputs())
        return f"<{self._type_name}: '{printable(self.friendly_name)}' ({outputs})>"


class Input:
    """An input of a node. Equal to another of the same node and index."""

    __slots__ = ("_index", "_node")

    def __init__(self, node: Node, index: int) -> None:
        self._node, self._index = node, index

    def get_node(self) -> Node:
        """The node."""
        return self._node

    def get_index(self) -> int:
        """The position among the node's inputs."""
        return self._index

    @property
    def rt_info(self) -> RTMap:
        """Notes about the node, by name."""
        return self._node.rt_info

    def get_rt_info(self) -> RTMap:
        """The same as `rt_info`."""
        return self._node.rt_info

    def set_rt_info(self, value: Any, key: str) -> None:
        """Add a note about the node."""
        self._node.rt_info[key] = value

    def get_source_output(self) -> Any:
        """The port that it reads."""
        return self._node.input_value(self._index)

    def get_tensor(self) -> Any:
        """What describes the tensor that it reads: the port."""
        return self.get_source_output()

    def get_element_type(self) -> Type:
        """The element type of what it reads."""
        return self.get_source_output().element_type

    def get_partial_shape(self) -> PartialShape:
        """The shape of what it reads."""
        return self.get_source_output().partial_shape

    def get_shape(self) -> Shape:
        """The shape of what it reads. Raises InvalidArgumentError where it is dynamic."""
        return self.get_source_output().shape

    node, index = property(get_node), property(get_index)
    element_type, partial_shape, shape = property(get_element_type), property(get_partial_shape), property(get_shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Input) and self._node is other._node and self._index == other._index

    def __hash__(self) -> int:
        return hash((id(self._node), self._index))

    def __repr__(self) -> str:
        return f"<Input: shape{self.partial_shape} type: {self.element_type.type_name}>"


def _at(items: Sequence[Any], index: int, node: Node, side: str) -> Any:
    if not 0 <= index < len(items):
        raise WrongIndexError(f"{node!r} has no {side} {index}: it has {len(items)}.")
    return items[index]


def ordered(names: Iterable[str]) -> list[str]:
    """Names that users give in a set, in one order."""
    return [names] if isinstance(names, str) else sorted(names)


for _owner, _names in (
    (Node, "constructor_validate_and_infer_types evaluate set_argument set_arguments set_attribute"),
    (Node, "set_output_size set_output_type visit_attributes"),
    (Input, "replace_source_output"),
):
    for _name in _names.split():
        setattr(_owner, _name, refused(f"{_owner.__name__}.{_name}", EDITED))
