"""Builds the graph of a model, and those of its subgraphs, from the messages of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from typing import Any

import numpy as np
import onnx

from cpuruntime.errors import ModelError, UnsupportedError, listed, nearest, printable
from cpuruntime.frontend.functions import Call, Functions, captured, captured_by, domain_of
from cpuruntime.frontend.old_forms import modernise
from cpuruntime.frontend.tensors import TensorReader, check_shape
from cpuruntime.graph import Graph, Kind, Node, PartialShape, Type, Value
from cpuruntime.operators.schema import check_attribute, check_node, get_operator, kind_of, shorten

_KINDS = onnx.AttributeProto


class Builder:
    """Builds one graph.

    A subgraph reads values of the graphs around it: `captures` are their names, which become its last inputs. `names`
    are those of nodes so far. With `late` large initializers are `Deferred` where they can be.
    """

    def __init__(
        self, proto: onnx.GraphProto, tensors: TensorReader, opsets: Mapping[str, int], functions: Functions,
        names: dict[str, int] | None = None, captures: Sequence[str] | None = None, late: bool = False,
    ) -> None:  # fmt: skip
        self._proto = proto
        self._tensors = tensors
        self._opsets = opsets
        self._functions = functions
        self._names = {} if names is None else names
        self._captures = captures
        self._late = late
        self._values: dict[str, Value] = {}
        self._unread: dict[str, onnx.TensorProto | onnx.SparseTensorProto] = {}

    def build(self) -> Graph:
        self._add_initializers()
        inputs, bounds = self._inputs()
        nodes = [node for call in self._sorted() if (node := self._node(call)) is not None]
        outputs = [self._output(info) for info in self._proto.output]
        if not outputs:
            raise ModelError("the graph has no outputs.")
        if self._captures is None and len(set(outputs)) != len(outputs):
            raise ModelError("two outputs of the graph have the same name.")
        for name in list(self._unread):
            self._value(name)
        graph = Graph(self._proto.name, inputs, outputs, nodes, dict(self._opsets))
        graph.input_bounds = bounds
        modernise(graph)
        return graph

    def _add_initializers(self) -> None:
        named: list[tuple[str, Any]] = [(tensor.name, tensor) for tensor in self._proto.initializer]
        named += [(tensor.values.name, tensor) for tensor in self._proto.sparse_initializer]
        for name, tensor in named:
            if not name:
                raise ModelError("an initializer has no name.")
            if name in self._unread:
                raise ModelError(f"two initializers have the name '{printable(name)}'.")
            self._unread[name] = tensor

    def _inputs(self) -> tuple[list[Value], dict[str, PartialShape]]:
        inputs = []
        bounds = {}
        for info in self._proto.input:
            if info.name in self._unread:
                continue
            if not info.name or info.name in self._values:
                raise ModelError(
                    f"two inputs have the name '{printable(info.name)}'." if info.name else "an input has no name."
                )
            is_typed = self._captures is None
            value = _declared(info, f"input '{printable(info.name)}'") if is_typed else Value(info.name)
            self._values[info.name] = value
            inputs.append(value)
            known = None if value.shape is None else [-1 if extent is None else extent for extent in value.shape]
            bounds[info.name] = PartialShape("[...]" if known is None else known)
        if self._captures:
            outer = {name: Value(name) for name in self._captures}
            own = set(captured_by(self._proto))
            self._values.update((name, value) for name, value in outer.items() if name in own)
            inputs += outer.values()
        return inputs, bounds

    def _value(self, name: str) -> Value | None:
        """The value that exists under this name."""
        tensor = self._unread.pop(name, None)
        if tensor is not None:
            what = f"initializer '{printable(name)}'"
            if isinstance(tensor, onnx.SparseTensorProto):
                array = self._tensors.sparse_array(tensor, what)
            else:
                array = self._tensors.array(tensor, what, self._late)
            tensor.Clear()
            self._values[name] = Value.of(name, array)
        return self._values.get(name)

    def _output(self, info: onnx.ValueInfoProto) -> Value:
        value = self._value(info.name)
        if value is None:
            made = [name for name in self._values if self._values[name].producer is not None]
            raise ModelError(f"no node makes the graph's output '{printable(info.name)}'.{nearest(info.name, made)}")
        return value

    def _sorted(self) -> list[Call]:
        """The nodes in topological order, which is the file's where that is one."""
        calls = list(self._functions.inlined(self._proto.node, self._opsets))
        ready = set(self._values) | set(self._unread)
        makers: dict[str, int] = {}
        for index, call in enumerate(calls):
            for name in filter(None, call.proto.output):
                if name in ready or name in makers:
                    where = _where(call)
                    raise ModelError(f"{where}: the name '{printable(name)}' of its output is used twice in the graph.")
                makers[name] = index
        sorter = TopologicalSorter({index: _needs(call, ready, makers) for index, call in enumerate(calls)})
        try:
            sorter.prepare()
        except CycleError as error:
            cycle = [calls[index] for index in error.args[1][1:]]
            names = listed(call.proto.name or call.proto.op_type for call in cycle)
            raise ModelError(f"{_where(cycle[0])}: the graph has a cycle through {names}.") from None
        heap: list[int] = []
        order: list[Call] = []
        while sorter.is_active():
            for index in sorter.get_ready():
                heappush(heap, index)
            order.append(calls[heap[0]])
            sorter.done(heappop(heap))
        return order

    def _node(self, call: Call) -> Node | None:
        """The node; None for a Constant, which becomes a value without a producer."""
        proto, where = call.proto, _where(call)
        domain = domain_of(proto.domain)
        if domain not in call.opsets:
            name = domain or "ai.onnx"
            raise ModelError(
                f"{printable(proto.op_type)} '{printable(proto.name)}': the model does not import its domain "
                f"'{printable(name)}'."
            )
        version = call.opsets[domain]
        operator = get_operator(proto.op_type, domain, version, where)
        captures = sorted(set(captured(proto)))
        inputs = [self._value(name) if name else None for name in [*proto.input, *captures]]
        name = self._name(proto)
        attributes = self._attributes(call, captures, where)
        if captures:
            attributes["captures"] = captures
        if "keepdims" in attributes:  # no number but 1 keeps them, for ONNX's inference and for ONNX Runtime
            attributes["keepdims"] = int(attributes["keepdims"] == 1)
        count = max([1, *(place for place, name in enumerate(proto.output, start=1) if name)])
        outputs = [Value(name) for name in proto.output[:count]]
        node = Node(proto.op_type, name, inputs, outputs, attributes, domain, version)
        where = node.where  # of several nodes of one name this says which
        for attribute in proto.attribute:
            check_attribute(operator, attribute, where)
        check_node(node, operator, len(captures))
        if proto.op_type == "Constant" and domain == "":
            constant = Value.of(proto.output[0], _constant(node))
            self._values[constant.name] = constant
            return None
        self._values.update((value.name, value) for value in outputs if value.name)
        return node

    def _name(self, proto: onnx.NodeProto) -> str:
        """The node's name, made unique."""
        wanted = name = proto.name or f"{proto.op_type}_{len(self._names)}"
        while name in self._names:
            self._names[wanted] += 1
            name = f"{wanted}_{self._names[wanted]}"
        self._names[name] = 1
        return name

    def _attributes(self, call: Call, captures: Sequence[str], where: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for attribute in call.proto.attribute:
            if attribute.name in found:
                raise ModelError(f"{where}: it has two attributes '{printable(attribute.name)}'.")
            what = f"{where}: attribute '{printable(attribute.name)}'"
            if attribute.ref_attr_name:
                raise ModelError(f"{what} refers to an attribute of a function, outside any function.")
            if attribute.type == _KINDS.UNDEFINED:
                _guess_kind(attribute)
            if attribute.type == _KINDS.GRAPH:
                body = Builder(attribute.g, self._tensors, call.opsets, self._functions, self._names, captures)
                found[attribute.name] = body.build()
            else:
                found[attribute.name] = self._attribute(attribute, what)
        return found

    def _attribute(self, attribute: onnx.AttributeProto, what: str) -> Any:
        kind = attribute.type
        if kind == _KINDS.TENSOR:
            return self._tensors.array(attribute.t, what)
        if kind == _KINDS.TENSORS:
            return [self._tensors.array(tensor, what) for tensor in attribute.tensors]
        if kind == _KINDS.SPARSE_TENSOR:
            return self._tensors.sparse_array(attribute.sparse_tensor, what)
        if kind in _PLAIN:
            try:
                return _PLAIN[kind](attribute)
            except UnicodeDecodeError:
                raise ModelError(f"{what} is not UTF-8 text.") from None
        raise UnsupportedError(f"{what} has the type {kind}, which is not supported.")


_PLAIN: dict[int, Any] = {
    _KINDS.FLOAT: lambda a: float(a.f),
    _KINDS.INT: lambda a: int(a.i),
    _KINDS.STRING: lambda a: a.s.decode("utf-8"),
    _KINDS.TYPE_PROTO: lambda a: a.tp,
    _KINDS.FLOATS: lambda a: list(a.floats),
    _KINDS.INTS: lambda a: list(a.ints),
    _KINDS.STRINGS: lambda a: [text.decode("utf-8") for text in a.strings],
}


def _guess_kind(attribute: onnx.AttributeProto) -> None:
    """Set the type that old files leave out."""
    kinds = {"f": "FLOAT", "i": "INT", "s": "STRING", "t": "TENSOR", "g": "GRAPH"}
    kinds |= {name: name.upper() for name in ("floats", "ints", "strings", "tensors", "graphs")}
    given = [kinds[field.name] for field, _ in attribute.ListFields() if field.name in kinds]
    if len(given) == 1:
        attribute.type = _KINDS.AttributeType.Value(given[0])


def _where(call: Call) -> str:
    proto, domain = call.proto, domain_of(call.proto.domain)
    name = proto.name or ", ".join(proto.output)
    return Node(proto.op_type, name, (), (), None, domain, call.opsets.get(domain, 0)).where


def _needs(call: Call, ready: set[str], makers: dict[str, int]) -> set[int]:
    """The nodes whose outputs the node reads; ModelError when a name does not exist."""
    found = set()
    for name in [*filter(None, call.proto.input), *captured(call.proto)]:
        if name in makers:
            found.add(makers[name])
        elif name not in ready:
            hint = nearest(name, [*makers, *ready])
            raise ModelError(f"{_where(call)}: its input '{printable(name)}' does not exist in the graph.{hint}")
    return found


def _declared(info: onnx.ValueInfoProto, what: str) -> Value:
    """A value with the type and shape that the file declares."""
    found = kind_of(info.type)
    if found is None:
        kind = info.type.WhichOneof("value")
        raise UnsupportedError(f"{what} is no tensor but {(kind or 'without a type').replace('_type', '')}.")
    kind, tensor = found
    element_type = Type.from_onnx(tensor.elem_type)
    if element_type.is_dynamic():
        raise ModelError(f"{what} has no element type.")
    if kind is not Kind.TENSOR:
        return Value(info.name, element_type, kind=kind)
    if not tensor.HasField("shape"):
        return Value(info.name, element_type)
    dims = [dim.dim_value if dim.WhichOneof("value") == "dim_value" else None for dim in tensor.shape.dim]
    shape = [None if dim == -1 else dim for dim in dims]
    check_shape([dim for dim in shape if dim is not None], tensor.elem_type, what)
    return Value(info.name, element_type, shape)


def _constant(node: Node) -> np.ndarray:
    if len(node.attributes) != 1:
        raise ModelError(f"{node.where}: it needs one value, and has {shorten(list(node.attributes))}.")
    name, data = next(iter(node.attributes.items()))
    if isinstance(data, np.ndarray):
        return data
    kinds = {"float": np.float32, "int": np.int64, "string": object}
    array = np.array(data, kinds[name.removeprefix("value_").removesuffix("s")])
    array.flags.writeable = False
    return array
