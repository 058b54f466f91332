"""The graph: values, the nodes that make them, and the whole."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from itertools import chain
from math import prod
from typing import Any, cast

import numpy as np

from cpuruntime.errors import InternalError, printable
from cpuruntime.graph.shapes import PartialShape
from cpuruntime.graph.types import Type


class Kind(Enum):
    """What a value is. At run time a sequence is a list of arrays, an optional that is absent is None."""

    TENSOR = "tensor"
    SEQUENCE = "sequence"
    OPTIONAL = "optional"
    OPTIONAL_SEQUENCE = "optional sequence"


class Value:
    """What flows between nodes, a tensor but for sequences and optionals; compared and hashed by identity.

    `shape` is None when even the rank is unknown, and an extent in it is None when it is unknown. A constant holds its
    data in `constant`; an initializer has no producer. `sizes` holds the elements, in an array of objects, of a value
    that follows from shapes some extents of which are `Size`s. The tensors of a sequence or optional have
    `element_type`; its `shape` is None.
    """

    __slots__ = ("constant", "element_type", "kind", "name", "producer", "shape", "sizes")

    def __init__(
        self,
        name: str,
        element_type: Type = Type.dynamic,
        shape: Iterable[int | None] | None = None,
        constant: np.ndarray | None = None,
        kind: Kind = Kind.TENSOR,
    ) -> None:
        self.name = name
        self.kind = kind
        self.element_type = element_type
        self.shape: tuple[int | None, ...] | None = None if shape is None else tuple(shape)
        self.constant = constant
        self.sizes: np.ndarray | None = None
        self.producer: Node | None = None

    @classmethod
    def of(cls, name: str, array: np.ndarray) -> Value:
        """A constant that holds `array`, with its type and shape."""
        return cls(name, Type(array.dtype), array.shape, array)

    @property
    def is_static(self) -> bool:
        """Whether the rank and every extent are known."""
        return self.shape is not None and None not in self.shape

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape of a static value; InternalError for another."""
        if self.shape is None or None in self.shape:
            raise InternalError(f"the shape of {self} is not static.")
        return cast("tuple[int, ...]", self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements of a static value; InternalError for another."""
        return prod(self.static_shape) * self.element_type.size

    @property
    def numbers(self) -> list[Any] | None:
        """The elements, in one list, of a constant or of what follows from shapes; None where they are not known."""
        known = self.constant if self.sizes is None else self.sizes
        return None if known is None else known.reshape(-1).tolist()

    @property
    def data(self) -> np.ndarray:
        """The array of a constant; InternalError for another value."""
        if self.constant is None:
            raise InternalError(f"{self} is not a constant.")
        return self.constant

    def __repr__(self) -> str:
        return f"<Value {self}>"

    def __str__(self) -> str:
        if self.shape is None:
            shape = "[...]"
        else:
            shape = "[" + ",".join("?" if d is None else str(d) for d in self.shape) + "]"
        name = printable(self.name)
        if self.kind is not Kind.TENSOR:
            return f"{name}: {self.kind.value} of {self.element_type.get_type_name()}"
        return f"{name}: {self.element_type.get_type_name()}{shape}"


class Node:
    """One operator applied to values.

    `inputs` holds None where an optional input is absent; an absent output that has later siblings is a value with the
    name "". `version` is the operator set the node was written against; `origins` are the names of the model's nodes
    that were merged into this one.
    """

    __slots__ = ("__weakref__", "attributes", "domain", "inputs", "name", "op_type", "origins", "outputs", "version")

    def __init__(
        self,
        op_type: str,
        name: str,
        inputs: Iterable[Value | None],
        outputs: Iterable[Value],
        attributes: dict[str, Any] | None = None,
        domain: str = "",
        version: int = 0,
        origins: Iterable[str] | None = None,
    ) -> None:
        self.op_type = op_type
        self.name = name
        self.inputs: list[Value | None] = list(inputs)
        self.outputs: list[Value] = list(outputs)
        self.attributes: dict[str, Any] = dict(attributes or {})
        self.domain = domain
        self.version = version
        self.origins: list[str] = [name] if origins is None else list(origins)
        for output in self.outputs:
            output.producer = self

    def input(self, index: int) -> Value | None:
        """The input at `index`; None when it is absent or the node has fewer."""
        return self.inputs[index] if index < len(self.inputs) else None

    def require(self, index: int) -> Value:
        """The input at `index`; InternalError when it is absent."""
        value = self.input(index)
        if value is None:
            raise InternalError(f"{self.where}: input {index} is absent.")
        return value

    @property
    def bodies(self) -> dict[str, Graph]:
        """The subgraphs, by attribute."""
        return {name: data for name, data in self.attributes.items() if isinstance(data, Graph)}

    @property
    def captures(self) -> int:
        """How many of the last inputs are read by subgraphs only."""
        return len(self.attributes.get("captures", ()))

    @property
    def where(self) -> str:
        """How error messages call this node: `Conv 'c3' (opset 13)`."""
        domain = f"{printable(self.domain)} " if self.domain else ""
        return f"{printable(self.op_type)} '{printable(self.name)}' ({domain}opset {self.version})"

    def __repr__(self) -> str:
        return f"<Node {self.where}>"


class Graph:
    """A model: `nodes` are in topological order. Not safe to change from two threads.

    `opsets` maps each domain to the version that the model imports. `input_bounds` keeps the declared shapes of the
    inputs, with bounds, which `Value.shape` cannot hold. `notes` are sentences about what passes decided, for people.
    `defaults` are constants that may be given at run time instead, as if they were inputs.
    """

    def __init__(
        self,
        name: str,
        inputs: Iterable[Value],
        outputs: Iterable[Value],
        nodes: Iterable[Node],
        opsets: dict[str, int] | None = None,
    ) -> None:
        self.name = name
        self.inputs: list[Value] = list(inputs)
        self.outputs: list[Value] = list(outputs)
        self.nodes: list[Node] = list(nodes)
        self.opsets: dict[str, int] = dict(opsets or {})
        self.input_bounds: dict[str, PartialShape] = {}
        self.defaults: list[Value] = []
        self.notes: list[str] = []

    def uses(self) -> dict[Value, list[tuple[Node, int]]]:
        """For each value that a node reads: the nodes and the positions in their inputs. Outputs are not listed."""
        found: dict[Value, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for index, value in enumerate(node.inputs):
                if value is not None:
                    found.setdefault(value, []).append((node, index))
        return found

    def replace(self, old: Value, new: Value) -> None:
        """Read `new` wherever `old` is read, by nodes and as an output of the graph."""
        for node in self.nodes:
            for index, value in enumerate(node.inputs):
                if value is old:
                    node.inputs[index] = new
        self.outputs = [new if value is old else value for value in self.outputs]

    def constants(self) -> list[Value]:
        """The constants that nodes read or the graph returns, each once, in order of first use."""
        return [value for value in self.values() if value.constant is not None]

    def values(self) -> list[Value]:
        """Every value of the graph, each once: inputs first, then in order of first appearance."""
        every = chain(self.inputs, *((*node.inputs, *node.outputs) for node in self.nodes), self.outputs)
        return list(dict.fromkeys(value for value in every if value is not None))

    def clone(self) -> Graph:
        """A copy with values, nodes and subgraphs of its own; the arrays of constants are shared."""
        copies: dict[Value | None, Any] = {None: None}
        for value in self.values():
            copy_of = copies[value] = Value(value.name, value.element_type, value.shape, value.constant, value.kind)
            copy_of.sizes = value.sizes

        def copy(values: Iterable[Value | None]) -> list[Any]:
            return [copies[value] for value in values]

        nodes = [
            Node(
                n.op_type, n.name, copy(n.inputs), copy(n.outputs),
                n.attributes | {name: body.clone() for name, body in n.bodies.items()}, n.domain, n.version, n.origins,
            )
            for n in self.nodes
        ]  # fmt: skip
        result = Graph(self.name, copy(self.inputs), copy(self.outputs), nodes, self.opsets)
        result.input_bounds = dict(self.input_bounds)
        result.defaults = [copies.get(value, value) for value in self.defaults]
        result.notes = list(self.notes)
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as flat tables: values refer to nodes and these to values, which would nest as deep as the graph."""
        values = list(dict.fromkeys([*self.values(), *self.defaults]))
        numbers: dict[Value | None, int] = {None: -1, **{value: index for index, value in enumerate(values)}}

        def numbered(these: Iterable[Value | None]) -> list[int]:
            return [numbers[value] for value in these]

        rows = [(v.name, v.element_type, v.shape, v.constant, v.kind, v.sizes) for v in values]
        nodes = [
            (n.op_type, n.name, numbered(n.inputs), numbered(n.outputs), n.attributes, n.domain, n.version, n.origins)
            for n in self.nodes
        ]
        ends = numbered(self.inputs), numbered(self.outputs), numbered(self.defaults)
        return _from_tables, (self.name, rows, nodes, ends, self.opsets, self.input_bounds, self.notes)

    def __str__(self) -> str:
        return print_graph(self)

    def __repr__(self) -> str:
        sizes = f"{len(self.inputs)} inputs, {len(self.outputs)} outputs, {len(self.nodes)} nodes"
        return f"<Graph '{printable(self.name)}': {sizes}>"


def _from_tables(
    name: str, rows: list[Any], nodes: list[Any], ends: tuple[list[int], ...], opsets: Any, bounds: Any, notes: Any
) -> Graph:
    """The graph that `Graph.__reduce__` wrote."""
    values: list[Any] = []
    for *what, sizes in rows:
        values.append(Value(*what))
        values[-1].sizes = sizes
    values.append(None)  # number -1

    def those(numbers: list[int]) -> list[Any]:
        return [values[number] for number in numbers]

    made = [Node(kind, called, those(i), those(o), *rest) for kind, called, i, o, *rest in nodes]
    graph = Graph(name, those(ends[0]), those(ends[1]), made, opsets)
    graph.input_bounds, graph.defaults, graph.notes = bounds, those(ends[2]), notes
    return graph


_FEW = 8


def print_graph(graph: Graph) -> str:
    """One line for each input, node and output; those of a subgraph below its node."""
    lines = [f"graph {printable(graph.name)} (" + ", ".join(map(str, graph.inputs)) + ")"]
    for node in graph.nodes:
        lines.append("  " + print_node(node))
        for name, body in node.bodies.items():
            lines += [f"    {line}" for line in f"{printable(name)}: {print_graph(body)}".splitlines()]
    lines.append("  return " + ", ".join(printable(value.name) for value in graph.outputs))
    return "\n".join(lines)


def print_node(node: Node) -> str:
    """`y: f32[1,8] = Conv 'c3' (x, w) {group: 1}`."""
    outputs = ", ".join(str(value) if value.name else "-" for value in node.outputs)
    inputs = ", ".join(_print_input(value) for value in node.inputs)
    op_type = printable(f"{node.domain}.{node.op_type}" if node.domain else node.op_type)
    text = f"{outputs} = {op_type} '{printable(node.name)}' ({inputs})"
    if node.attributes:
        attributes = (f"{printable(name)}: {_print_data(data)}" for name, data in node.attributes.items())
        text += " {" + ", ".join(attributes) + "}"
    return text


def _print_input(value: Value | None) -> str:
    if value is None:
        return "-"
    if value.constant is None:
        return printable(value.name)
    if value.constant.size <= _FEW:
        return f"{printable(value.name)}={_print_data(value.constant)}"
    return str(value)


def _print_data(data: Any) -> str:
    if isinstance(data, np.ndarray):
        return _print_data(data.tolist()) if data.size <= _FEW else f"array {data.dtype}{list(data.shape)}"
    if isinstance(data, list):
        return f"list of {len(data)}" if len(data) > _FEW else f"[{', '.join(map(_print_data, data))}]"
    if isinstance(data, str):
        return f"'{printable(data)}'"
    return f"graph '{printable(data.name)}'" if isinstance(data, Graph) else printable(repr(data))
