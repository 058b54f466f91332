"""Ports: the inputs and outputs of models and of compiled models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import total_ordering
from itertools import count
from math import prod
from typing import Any, Protocol

from cpuruntime.api.node import Facts, Input, Node, ordered
from cpuruntime.api.notes import RTMap
from cpuruntime.api.refusals import EDITED, not_pickled, refused
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import InvalidArgumentError, WrongIndexError, WrongTypeError, listed, nearest, printable
from cpuruntime.graph import PartialShape, Shape, Type

_SERIAL = count()


@total_ordering
class ConstOutput:
    """An input or output of a compiled model. A model has one object for each port, equal to itself alone.

    Sorted, ports are in the model's order, inputs first.
    """

    __slots__ = ("__weakref__", "_facts", "_index", "_node", "_port", "_serial", "_type_name")

    def __init__(self, port: PortInfo, index: int, type_name: str = "", facts: Facts | None = None) -> None:
        self._port = port
        self._index = index
        self._type_name = type_name
        self._facts = facts or Facts(f"{port.name}/sink_port_0" if type_name == "Result" else port.name)
        self._node: Node | None = None
        self._serial = next(_SERIAL)

    @property
    def info(self) -> PortInfo:
        """Name, type and shape."""
        return self._port

    @property
    def any_name(self) -> str:
        """The tensor's name, or the first of those that were set."""
        return self._facts.names[0] if self._facts.names else self.info.name

    @property
    def names(self) -> set[str]:
        """All names of the tensor: in ONNX there is one, others may be set before the model is compiled."""
        return set(self._facts.names or [self.info.name])

    @property
    def facts(self) -> Facts:
        """What users noted about the port's node."""
        return self._facts

    def keep(self, facts: Facts) -> None:
        """Have these facts from now on."""
        self._facts, self._node = facts, None

    @property
    def batch_axis(self) -> int:
        """The dimension that the layout calls N; the first where it names none."""
        return self._facts.layout.get_index_by_name("N") if self._facts.layout.has_name("N") else 0

    @property
    def node(self) -> Node:
        """The node whose output it is: of an output of a model the Result."""
        if self._node is None:
            sources = [ConstOutput(self._port, 0)] if self._type_name == "Result" else []
            self._node = Node(self._type_name, self._facts, lambda: [self], lambda: sources)
        return self._node

    def get_node(self) -> Node:
        """The same as `node`."""
        return self.node

    @property
    def rt_info(self) -> RTMap:
        """Notes about the port's node, by name."""
        return self._facts.rt_info

    def get_rt_info(self) -> RTMap:
        """The same as `rt_info`."""
        return self._facts.rt_info

    @property
    def tensor(self) -> ConstOutput:
        """What describes the tensor: the port itself."""
        return self

    def get_tensor(self) -> ConstOutput:
        """The same as `tensor`."""
        return self

    @property
    def target_inputs(self) -> set[Input]:
        """The inputs of nodes that read it: none is known of a compiled model."""
        return set()

    def get_target_inputs(self) -> set[Input]:
        """The same as `target_inputs`."""
        return self.target_inputs

    def __lt__(self, other: object) -> bool:
        return self._serial < other._serial if isinstance(other, ConstOutput) else NotImplemented

    def __copy__(self) -> ConstOutput:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ConstOutput:
        return self

    @property
    def element_type(self) -> Type:
        """The type of the tensor's elements."""
        return self.info.element_type

    @property
    def partial_shape(self) -> PartialShape:
        """The shape, which may be dynamic; a copy."""
        return PartialShape(self.info.partial_shape)

    @property
    def shape(self) -> Shape:
        """The shape. Raises InvalidArgumentError where it is dynamic; `partial_shape` is always there."""
        info = self.info
        if info.partial_shape.is_dynamic:
            raise InvalidArgumentError(
                f"Port '{printable(info.name)}' has no single shape but {info.partial_shape}; use partial_shape or "
                "reshape."
            )
        return info.partial_shape.to_shape()

    @property
    def index(self) -> int:
        """The position among the model's inputs, or among its outputs."""
        return self._index

    def get_any_name(self) -> str:
        """The same as `any_name`."""
        return self.any_name

    def get_names(self) -> set[str]:
        """The same as `names`."""
        return self.names

    def get_element_type(self) -> Type:
        """The same as `element_type`."""
        return self.element_type

    def get_partial_shape(self) -> PartialShape:
        """The same as `partial_shape`."""
        return self.partial_shape

    def get_shape(self) -> Shape:
        """The same as `shape`."""
        return self.shape

    def get_index(self) -> int:
        """The same as `index`."""
        return self._index

    def __repr__(self) -> str:
        return describe(self, type(self).__name__)


class OfModel(Protocol):
    """What a port asks its model."""

    def node_of(self, port: Output) -> Node:
        """The node of a port."""

    def readers(self, name: str) -> set[Input]:
        """The inputs of nodes that read the value of this name."""


class Output(ConstOutput):
    """An input or output of a model, or of one of its nodes: shows what a reshape made of it. As `ConstOutput`."""

    __slots__ = ("_find", "_model")

    def __init__(self, model: OfModel, index: int, type_name: str, find: Callable[[], PortInfo]) -> None:
        super().__init__(find(), index, type_name)
        self._model = model
        self._find = find

    @property
    def info(self) -> PortInfo:
        """Name, type and shape."""
        return self._find()

    @property
    def node(self) -> Node:
        """The node whose output it is: Parameter, Result, Constant, or one with an operator."""
        if self._node is None:
            self._node = self._model.node_of(self)
        return self._node

    @property
    def type_name(self) -> str:
        """Parameter or Result; empty for other nodes."""
        return self._type_name

    @property
    def target_inputs(self) -> set[Input]:
        """The inputs of nodes that read it; an output of a model is read by none."""
        return set() if self._type_name == "Result" else self._model.readers(self.info.name)

    @property
    def names(self) -> set[str]:
        """All names of the tensor; assigning replaces them."""
        return super().names

    @names.setter
    def names(self, names: Iterable[str]) -> None:
        self._facts.names = ordered(names)

    def set_names(self, names: Iterable[str]) -> None:
        """The same as assigning `names`."""
        self.names = names

    @property
    def size(self) -> int:
        """The bytes of the tensor. InvalidArgumentError where its shape is dynamic."""
        return -(-prod(self.shape) * self.element_type.bitwidth // 8)

    def add_names(self, names: Iterable[str]) -> None:
        """Give the tensor more names."""
        self._facts.names = list(dict.fromkeys([*(self._facts.names or [self.info.name]), *ordered(names)]))

    def set_rt_info(self, value: Any, key: str) -> None:
        """Add a note about the port's node."""
        self._facts.rt_info[key] = value

    __reduce__ = not_pickled("A port of a Model", "send its any_name")
    replace = refused("Output.replace", EDITED)
    remove_target_input = refused("Output.remove_target_input", EDITED)


def describe(port: ConstOutput, kind: str = "ConstOutput") -> str:
    """One line about a port, as OpenVINO writes it."""
    names, info = ", ".join(map(printable, sorted(port.names))), port.info
    return f"<{kind}: names[{names}] shape{info.partial_shape} type: {info.element_type.get_type_name()}>"


def describe_all(title: str, inputs: Sequence[ConstOutput], outputs: Sequence[ConstOutput]) -> str:
    """The representation of an object that has inputs and outputs, as OpenVINO writes it."""
    sides = [",\n".join(map(describe, ports)) for ports in (inputs, outputs)]
    return f"<{title}\ninputs[\n{sides[0]}\n]\noutputs[\n{sides[1]}\n]>"


def keys(ports: Sequence[ConstOutput]) -> dict[Any, int]:
    """The position of each port, by the port itself, by position and by name."""
    found: dict[Any, int] = {port: index for index, port in enumerate(ports)}
    found.update((index, index) for index in range(len(ports)))
    found.update((name, index) for index, port in enumerate(ports) for name in port.names)
    return found


PortFacts = tuple[Sequence[Facts | None], Sequence[Facts | None]]
"""What users noted about the nodes of inputs and of outputs."""


class Ports:
    """The inputs and outputs of a compiled model, and what binding arrays to them needs to know."""

    __slots__ = (
        "dtypes",
        "dynamic_outputs",
        "has_strings",
        "input_positions",
        "inputs",
        "output_positions",
        "outputs",
        "shapes",
        "static_outputs",
    )

    def __init__(
        self,
        inputs: Sequence[PortInfo],
        outputs: Sequence[PortInfo],
        facts: PortFacts | None = None,
        any_shapes: bool = False,
    ) -> None:
        of_inputs, of_outputs = facts or ([None] * len(inputs), [None] * len(outputs))
        self.inputs = tuple(ConstOutput(p, i, "Parameter", of_inputs[i]) for i, p in enumerate(inputs))
        self.outputs = tuple(ConstOutput(p, i, "Result", of_outputs[i]) for i, p in enumerate(outputs))
        self.input_positions = keys(self.inputs)
        self.output_positions = keys(self.outputs)
        self.dtypes = tuple(None if port.element_type is Type.string else port.dtype for port in inputs)
        """Of arrays that need no look at their elements."""
        self.shapes = tuple(None if p.partial_shape.is_dynamic else tuple(p.partial_shape.to_shape()) for p in inputs)
        self.dynamic_outputs = tuple(
            i for i, port in enumerate(outputs) if any_shapes or port.partial_shape.is_dynamic
        )
        """Of those that an inference may give another array; all with `any_shapes`."""
        self.has_strings = any(port.element_type is Type.string for port in outputs)
        self.static_outputs = tuple(i for i, port in enumerate(outputs) if port.partial_shape.is_static)


def position(key: Any, positions: Mapping[Any, int], side: str, default: bool = False) -> int:
    """The position of the port that `key` means: a port (of another model: one of the same name), position or name.

    Args:
        positions: what `keys` made.
        side: "input" or "output", for messages.
        default: whether None means the only port.

    Raises:
        InvalidArgumentError: there is no such port: of this name, WrongIndexError of this index; WrongTypeError of this
            kind of key.
    """
    found = positions.get(key) if isinstance(key, (ConstOutput, int, str)) and not isinstance(key, bool) else None
    if found is None and isinstance(key, ConstOutput):
        found = positions.get(key.any_name)
    if found is not None:
        return found
    names = [name for name in positions if isinstance(name, str)]
    count = sum(isinstance(name, int) for name in positions)
    known = f"The model has: {listed(names)}."
    if key is None and default:
        if count == 1:
            return 0
        raise InvalidArgumentError(f"Which {side}? {known}")
    if isinstance(key, ConstOutput):
        key = key.any_name
    if isinstance(key, str):
        raise InvalidArgumentError(f"Port for tensor name {printable(key)} was not found.{nearest(key, names)} {known}")
    if isinstance(key, int) and not isinstance(key, bool):
        raise WrongIndexError(f"No {side} has index {key}: indexes go from 0 to {count - 1}. {known}")
    raise WrongTypeError(
        f"Incompatible key type for {side}: {printable(repr(key))}. Give its index, name or port. {known}"
    )
