"""Reads an ONNX model into a graph.

Nothing in the file is trusted: every name, attribute, type and size is checked, and what is wrong becomes a ModelError
or an UnsupportedError that names the node, the value and the rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from os import PathLike
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx.inliner import inline_local_functions

from cpuruntime.errors import Error, InvalidArgumentError, ModelError, UnsupportedError, nearest
from cpuruntime.frontend.file import open_model
from cpuruntime.frontend.tensors import TensorReader, check_shape
from cpuruntime.graph import Graph, Node, PartialShape, Type, Value
from cpuruntime.operators.schema import check_attribute, check_node, check_opset, get_operator, shorten
from cpuruntime.operators.shape_inference import infer_shapes

_KINDS = onnx.AttributeProto
_MOST_NODES = 1_000_000


def read(model: str | PathLike[str] | bytes | BinaryIO | onnx.ModelProto, weights: Any = None) -> Graph:
    """The graph of an ONNX model, with the types and shapes of all values inferred.

    `model` is a path, the file's bytes, a binary file object or an onnx.ModelProto (which stays unchanged). External
    data are read from inside the folder of the model's file only. Initializers are constants, also where the model
    lists them among its inputs; model-local functions are inlined. The arrays of constants are read-only and may
    share memory with `model` when it is bytes.

    Raises ModelNotFoundError (no such file), ModelError (not an ONNX model, or a wrong one), UnsupportedError (an IR
    version, opset, operator or type that is not supported), InvalidArgumentError (`weights` is given: ONNX models name
    their external data themselves; or `model` has another type).
    """
    if weights is not None:
        raise InvalidArgumentError("an ONNX model takes no separate weights: it names its external data itself.")
    proto, bulk, folder = open_model(model)
    tensors = TensorReader(bulk, folder)
    try:
        _check_versions(proto)
        proto = _inline_functions(proto)
        _check_text(proto.graph)
        graph = _Builder(proto, tensors).build()
        infer_shapes(graph)
        return graph
    except Error:
        raise
    except (MemoryError, Exception) as error:  # any other error that a hostile file causes is the file's fault
        raise ModelError(f"the model cannot be read: {type(error).__name__}: {error}") from error
    finally:
        tensors.close()


def _check_versions(proto: onnx.ModelProto) -> None:
    if not proto.HasField("graph") or proto.ir_version < 1:
        raise ModelError("this is not an ONNX model: it has no graph or no IR version.")
    if proto.ir_version > onnx.IR_VERSION:
        raise UnsupportedError(
            f"the model has IR version {proto.ir_version}; supported are 1 to {onnx.IR_VERSION}. "
            "Export it with an older version, or install a newer onnx package."
        )
    if not proto.opset_import:
        check_opset("", 1)
    for domain, version in _opsets(proto.opset_import).items():
        check_opset(domain, version)


def _check_text(graph: onnx.GraphProto) -> None:
    """ModelError when a name is not UTF-8 text: protobuf then gives bytes."""
    names = [graph.name]
    names += [item.name for items in (graph.input, graph.output, graph.initializer) for item in items]
    for node in graph.node:
        names += (node.op_type, node.domain, node.name, *node.input, *node.output)
        for attribute in node.attribute:
            names += (attribute.name, attribute.ref_attr_name)
            for subgraph in (attribute.g, *attribute.graphs):
                _check_text(subgraph)
    for name in names:
        if not isinstance(name, str):
            raise ModelError(f"the model has the name {shorten(name)}, which is not UTF-8 text.")


def _opsets(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in imports:
        domain = _domain(item.domain)
        if found.setdefault(domain, item.version) != item.version:
            raise ModelError(f"the model imports the domain '{domain}' in versions {found[domain]} and {item.version}.")
    return found


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    if not proto.functions:
        return proto
    _check_functions(proto)
    try:
        result = inline_local_functions(proto, convert_version=True)
    except Exception as error:  # ONNX's inliner raises many types for wrong functions
        raise ModelError(f"the model's functions cannot be inlined: {error}") from None
    if result.functions:
        names = ", ".join(f"'{function.name}'" for function in result.functions)
        raise UnsupportedError(f"functions {names} cannot be inlined: they use other opsets than the model.")
    return result


def _check_functions(proto: onnx.ModelProto) -> None:
    """ModelError when functions call themselves, or when all calls together make too many nodes."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    if len(functions) != len(proto.functions):
        raise ModelError("two of the model's functions have the same domain and name.")
    sizes: dict[tuple[str, str, str], int] = {}
    active: set[tuple[str, str, str]] = set()

    def size_of(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            total += size_of_function(key) if key in functions else 1
            total += sum(size_of(graph.node) for a in node.attribute for graph in (a.g, *a.graphs))
        return total

    def size_of_function(key: tuple[str, str, str]) -> int:
        if key in active:
            raise ModelError(f"the model's function '{key[1]}' calls itself.")
        if key not in sizes:
            active.add(key)
            sizes[key] = size_of(functions[key].node)
            active.remove(key)
        return sizes[key]

    if max(size_of(proto.graph.node), *map(size_of_function, functions)) > _MOST_NODES:
        raise ModelError(f"the model's functions expand to more than {_MOST_NODES} nodes.")


class _Builder:
    """Builds the graph of one model."""

    def __init__(self, proto: onnx.ModelProto, tensors: TensorReader) -> None:
        self._proto = proto.graph
        self._tensors = tensors
        self._opsets = _opsets(proto.opset_import)
        self._values: dict[str, Value] = {}
        self._unread: dict[str, onnx.TensorProto | onnx.SparseTensorProto] = {}
        self._names: dict[str, int] = {}

    def build(self) -> Graph:
        self._add_initializers()
        inputs, bounds = self._inputs()
        nodes = [node for proto in self._sorted() if (node := self._node(proto)) is not None]
        outputs = [self._output(info) for info in self._proto.output]
        if not outputs:
            raise ModelError("the graph has no outputs.")
        if len(set(outputs)) != len(outputs):
            raise ModelError("two outputs of the graph have the same name.")
        for name in list(self._unread):
            self._value(name)
        graph = Graph(self._proto.name, inputs, outputs, nodes, self._opsets)
        graph.input_bounds = bounds
        return graph

    def _add_initializers(self) -> None:
        named: list[tuple[str, Any]] = [(tensor.name, tensor) for tensor in self._proto.initializer]
        named += [(tensor.values.name, tensor) for tensor in self._proto.sparse_initializer]
        for name, tensor in named:
            if not name:
                raise ModelError("an initializer has no name.")
            if name in self._unread:
                raise ModelError(f"two initializers have the name '{name}'.")
            self._unread[name] = tensor

    def _inputs(self) -> tuple[list[Value], dict[str, PartialShape]]:
        inputs = []
        bounds = {}
        for info in self._proto.input:
            if info.name in self._unread:
                continue
            if not info.name or info.name in self._values:
                raise ModelError(f"two inputs have the name '{info.name}'." if info.name else "an input has no name.")
            value = _declared(info, f"input '{info.name}'")
            self._values[info.name] = value
            inputs.append(value)
            known = None if value.shape is None else [-1 if extent is None else extent for extent in value.shape]
            bounds[info.name] = PartialShape("[...]" if known is None else known)
        return inputs, bounds

    def _value(self, name: str) -> Value | None:
        """The value that exists under this name."""
        tensor = self._unread.pop(name, None)
        if tensor is not None:
            what = f"initializer '{name}'"
            sparse = isinstance(tensor, onnx.SparseTensorProto)
            array = (self._tensors.sparse_array if sparse else self._tensors.array)(tensor, what)
            tensor.Clear()
            self._values[name] = Value.of(name, array)
        return self._values.get(name)

    def _output(self, info: onnx.ValueInfoProto) -> Value:
        value = self._value(info.name)
        if value is None:
            made = [name for name in self._values if self._values[name].producer is not None]
            raise ModelError(f"no node makes the graph's output '{info.name}'.{nearest(info.name, made)}")
        return value

    def _sorted(self) -> list[onnx.NodeProto]:
        """The nodes in topological order, which is the file's where that is one."""
        nodes = list(self._proto.node)
        ready = set(self._values) | set(self._unread)
        makers: dict[str, int] = {}
        for index, node in enumerate(nodes):
            for name in filter(None, node.output):
                if name in ready or name in makers:
                    where = self._where(node)
                    raise ModelError(f"{where}: the name '{name}' of its output is used twice in the graph.")
                makers[name] = index
        sorter = TopologicalSorter({index: self._needs(node, ready, makers) for index, node in enumerate(nodes)})
        try:
            sorter.prepare()
        except CycleError as error:
            cycle = [nodes[index] for index in error.args[1][1:]]
            names = ", ".join(f"'{node.name or node.op_type}'" for node in cycle[:8])
            raise ModelError(f"{self._where(cycle[0])}: the graph has a cycle through {names}.") from None
        heap: list[int] = []
        order: list[onnx.NodeProto] = []
        while sorter.is_active():
            for index in sorter.get_ready():
                heappush(heap, index)
            order.append(nodes[heap[0]])
            sorter.done(heappop(heap))
        return order

    def _needs(self, node: onnx.NodeProto, ready: set[str], makers: dict[str, int]) -> set[int]:
        """The nodes whose outputs the node reads; ModelError when a name does not exist."""
        found = set()
        for name in [*filter(None, node.input), *_captured(node)]:
            if name in makers:
                found.add(makers[name])
            elif name not in ready:
                hint = nearest(name, [*makers, *ready])
                raise ModelError(f"{self._where(node)}: its input '{name}' does not exist in the graph.{hint}")
        return found

    def _where(self, node: onnx.NodeProto) -> str:
        return _where(node, self._opsets)

    def _node(self, proto: onnx.NodeProto) -> Node | None:
        """The node; None for a Constant, which becomes a value without a producer."""
        domain, version = self._version(proto)
        operator = get_operator(proto.op_type, domain, version, self._where(proto))
        attributes = self._attributes(proto)
        captures = sorted(set(_captured(proto)))
        inputs = [self._value(name) if name else None for name in [*proto.input, *captures]]
        if captures:
            attributes["captures"] = captures
        count = max([1, *(place for place, name in enumerate(proto.output, start=1) if name)])
        outputs = [Value(name) for name in proto.output[:count]]
        node = Node(proto.op_type, self._name(proto), inputs, outputs, attributes, domain, version)
        for attribute in proto.attribute:
            check_attribute(operator, attribute, node.where)
            for graph in (attribute.g, *attribute.graphs):
                self._check_subgraph(graph, node.where)
        check_node(node, operator, len(captures))
        if proto.op_type == "Constant" and domain == "":
            constant = Value.of(proto.output[0], _constant(node))
            self._values[constant.name] = constant
            return None
        self._values.update((value.name, value) for value in outputs if value.name)
        return node

    def _version(self, proto: onnx.NodeProto) -> tuple[str, int]:
        domain = _domain(proto.domain)
        if domain not in self._opsets:
            raise ModelError(
                f"{proto.op_type} '{proto.name}': the model does not import its domain '{domain or 'ai.onnx'}'."
            )
        return domain, self._opsets[domain]

    def _name(self, proto: onnx.NodeProto) -> str:
        """The node's name, made unique."""
        wanted = name = proto.name or f"{proto.op_type}_{len(self._names)}"
        while name in self._names:
            self._names[wanted] += 1
            name = f"{wanted}_{self._names[wanted]}"
        self._names[name] = 1
        return name

    def _attributes(self, proto: onnx.NodeProto) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for attribute in proto.attribute:
            if attribute.name in found:
                raise ModelError(f"{self._where(proto)}: it has two attributes '{attribute.name}'.")
            what = f"{self._where(proto)}: attribute '{attribute.name}'"
            if attribute.ref_attr_name:
                raise ModelError(f"{what} refers to an attribute of a function, outside any function.")
            if attribute.type == _KINDS.UNDEFINED:
                _guess_kind(attribute)
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

    def _check_subgraph(self, graph: onnx.GraphProto, where: str) -> None:
        """Check the operators of a subgraph, and bring its external data into it."""
        sparse = (part for tensor in graph.sparse_initializer for part in (tensor.values, tensor.indices))
        for tensor in (*graph.initializer, *sparse):
            self._tensors.embed(tensor, f"{where}: initializer '{tensor.name}' of its subgraph")
        for proto in graph.node:
            operator = get_operator(proto.op_type, *self._version(proto), _where(proto, self._opsets))
            for attribute in proto.attribute:
                check_attribute(operator, attribute, self._where(proto))
                for tensor in (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors):
                    self._tensors.embed(tensor, f"{self._where(proto)}: attribute '{attribute.name}'")
                for inner in (attribute.g, *attribute.graphs):
                    self._check_subgraph(inner, where)


_PLAIN: dict[int, Any] = {
    _KINDS.FLOAT: lambda a: float(a.f),
    _KINDS.INT: lambda a: int(a.i),
    _KINDS.STRING: lambda a: a.s.decode("utf-8"),
    _KINDS.GRAPH: lambda a: a.g,
    _KINDS.TYPE_PROTO: lambda a: a.tp,
    _KINDS.FLOATS: lambda a: list(a.floats),
    _KINDS.INTS: lambda a: list(a.ints),
    _KINDS.STRINGS: lambda a: [text.decode("utf-8") for text in a.strings],
    _KINDS.GRAPHS: lambda a: list(a.graphs),
}


def _guess_kind(attribute: onnx.AttributeProto) -> None:
    """Set the type that old files leave out."""
    kinds = {"f": "FLOAT", "i": "INT", "s": "STRING", "t": "TENSOR", "g": "GRAPH"}
    kinds |= {name: name.upper() for name in ("floats", "ints", "strings", "tensors", "graphs")}
    given = [kinds[field.name] for field, _ in attribute.ListFields() if field.name in kinds]
    if len(given) == 1:
        attribute.type = _KINDS.AttributeType.Value(given[0])


def _where(proto: onnx.NodeProto, opsets: dict[str, int]) -> str:
    domain = _domain(proto.domain)
    name = proto.name or ", ".join(proto.output)
    return Node(proto.op_type, name, (), (), None, domain, opsets.get(domain, 0)).where


def _captured(node: onnx.NodeProto) -> list[str]:
    """The names that the node's subgraphs read from outside them."""
    found = []
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            known = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
            known |= {tensor.values.name for tensor in graph.sparse_initializer}
            for inner in graph.node:
                found += [name for name in (*inner.input, *_captured(inner)) if name and name not in known]
                known.update(inner.output)
            found += [info.name for info in graph.output if info.name not in known]
    return found


def _declared(info: onnx.ValueInfoProto, what: str) -> Value:
    """A value with the type and shape that the file declares."""
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        raise UnsupportedError(f"{what} is no tensor but {(kind or 'without a type').replace('_type', '')}.")
    tensor = info.type.tensor_type
    element_type = Type.from_onnx(tensor.elem_type)
    if element_type.is_dynamic():
        raise ModelError(f"{what} has no element type.")
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
