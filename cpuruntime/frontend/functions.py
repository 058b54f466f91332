"""Functions, a model's own and those of ONNX Runtime: a call becomes the nodes of the function, each with the operator
sets of the function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import onnx

from cpuruntime.errors import ModelError, printable
from cpuruntime.frontend.contrib import definition
from cpuruntime.operators.schema import check_opset

# What a model's functions may expand to, calls included: so many nodes, or so many for each node in the file.
MOST_NODES, MOST_COPIES = 50_000, 32
_MOST_BYTES = 1 << 30
_PREFIX = 80
"""Characters of a call's name in the names of the nodes that replace it."""

Key = tuple[str, str, str]


class Call(NamedTuple):
    """A node and the versions of the domains that it and its subgraphs are written against."""

    proto: onnx.NodeProto
    opsets: Mapping[str, int]


class Functions:
    """The functions of one model.

    Raises ModelError when functions call themselves, or when all calls together make too many nodes.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._functions = {(domain_of(f.domain), f.name, f.overload): f for f in model.functions}
        if len(self._functions) != len(model.functions):
            raise ModelError("two of the model's functions have the same domain and name.")
        self._count = 0
        if model.functions:
            self._check_sizes(model)

    def _check_sizes(self, model: onnx.ModelProto) -> None:
        sizes: dict[Key, tuple[int, ...]] = {}
        active: set[Key] = set()

        def size_of(nodes: Iterable[onnx.NodeProto], is_copied: bool) -> tuple[int, ...]:
            """How many nodes there will be, the bytes that are copied, and the uses of attributes of the caller."""
            total: tuple[int, ...] = (0, 0, 0)
            for node in nodes:
                key, given = _key(node), sum(bool(attribute.ref_attr_name) for attribute in node.attribute)
                if key in self._functions:
                    count, size, uses = size_of_function(key)
                    found = 1 + count, size + uses * node.ByteSize(), given * (1 + uses)
                else:
                    found = 1, _size(node) if is_copied else 0, given
                inner = (size_of(graph.node, is_copied) for a in node.attribute for graph in (a.g, *a.graphs))
                total = tuple(map(sum, zip(total, found, *inner)))
            return total

        def size_of_function(key: Key) -> tuple[int, ...]:
            if key in active:
                raise ModelError(f"the model's function '{printable(key[1])}' calls itself.")
            if key not in sizes:
                active.add(key)
                count, size, uses = size_of(self._functions[key].node, True)
                defaults = sum(default.ByteSize() for default in self._functions[key].attribute_proto)
                sizes[key] = count, size + uses * defaults, uses
                active.remove(key)
            return sizes[key]

        held = len(model.graph.node) + sum(len(function.node) for function in model.functions)
        most = max(MOST_NODES, MOST_COPIES * held)
        count, size, _ = map(max, zip(size_of(model.graph.node, False), *map(size_of_function, self._functions)))
        if count > most:
            raise ModelError(f"the model's functions expand to more than {most} nodes. Export the model without them.")
        if size > _MOST_BYTES:
            raise ModelError(f"the model's functions expand to more than {_MOST_BYTES >> 20} MiB.")

    def inlined(self, nodes: Iterable[onnx.NodeProto], opsets: Mapping[str, int]) -> Iterator[Call]:
        """The nodes, with those of a function in place of each call; their subgraphs may still hold calls."""
        for node in nodes:
            key = _key(node)
            function = self._functions.get(key) or definition(node, key[0], opsets.get(key[0], 0))
            if function is None:
                yield Call(node, opsets)
                continue
            inner = opsets_of(function.opset_import)
            for domain, version in inner.items():
                check_opset(domain, version)
            self._count += 1
            body = _body(function, node, f"{(node.name or node.op_type)[-_PREFIX:]}#{self._count}/")
            yield from self.inlined(body, inner)


def _key(node: onnx.NodeProto) -> Key:
    return domain_of(node.domain), node.op_type, node.overload


def _size(node: onnx.NodeProto) -> int:
    return node.ByteSize() + _PREFIX * (1 + len(node.input) + len(node.output))


def _body(function: onnx.FunctionProto, call: onnx.NodeProto, prefix: str) -> list[onnx.NodeProto]:
    """The nodes of a call; the names inside the function begin with `prefix`."""
    where = f"{printable(call.op_type)} '{printable(call.name)}'"
    for what, given, formal in (("inputs", call.input, function.input), ("outputs", call.output, function.output)):
        if len(given) > len(formal):
            raise ModelError(f"{where}: {len(given)} {what}, the function has {len(formal)}.")
    names = dict.fromkeys(function.input, "") | dict(zip(function.input, call.input))
    makers: list[onnx.NodeProto] = []
    for formal, actual in zip(function.output, call.output):
        if not actual:
            continue
        if formal in names:
            source = names[formal]
            makers.append(onnx.NodeProto(op_type="Identity", name=prefix + actual, input=[source], output=[actual]))
        else:
            names[formal] = actual
    attributes = {a.name: a for a in (*function.attribute_proto, *call.attribute)}
    known = {*function.attribute, *(default.name for default in function.attribute_proto)}
    for attribute in call.attribute:
        if attribute.name not in known:
            raise ModelError(f"{where}: the function has no attribute '{printable(attribute.name)}'.")
    return [_instance(node, names, attributes, prefix) for node in function.node] + makers


def _instance(
    node: onnx.NodeProto, names: Mapping[str, str], attributes: Mapping[str, onnx.AttributeProto], prefix: str
) -> onnx.NodeProto:
    """A copy of a function's node with the names of the caller and the values of the function's attributes."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = prefix + node.name
    copy.input[:] = [_renamed(name, names, prefix) for name in node.input]
    copy.output[:] = [_renamed(name, names, prefix) for name in node.output]
    del copy.attribute[:]
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            if attribute.ref_attr_name in attributes:
                found = copy.attribute.add()
                found.CopyFrom(attributes[attribute.ref_attr_name])
                found.name = attribute.name
            continue
        found = copy.attribute.add()
        found.CopyFrom(attribute)
        for graph in (*([found.g] if found.HasField("g") else ()), *found.graphs):
            _rename_subgraph(graph, names, attributes, prefix)
    return copy


def _rename_subgraph(
    graph: onnx.GraphProto, names: Mapping[str, str], attributes: Mapping[str, onnx.AttributeProto], prefix: str
) -> None:
    own = _own_names(graph)
    inner = {name: actual for name, actual in names.items() if name not in own}
    for named in (*graph.input, *graph.output, *graph.initializer, *(t.values for t in graph.sparse_initializer)):
        named.name = _renamed(named.name, inner, prefix)
    nodes = [_instance(node, inner, attributes, prefix) for node in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _renamed(name: str, names: Mapping[str, str], prefix: str) -> str:
    return names.get(name, prefix + name) if name else ""


def domain_of(name: str) -> str:
    """The domain's name as nodes of graphs have it."""
    return "" if name == "ai.onnx" else name


def opsets_of(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """The version of each domain; ModelError when one is imported in two."""
    found: dict[str, int] = {}
    for item in imports:
        domain = domain_of(item.domain)
        if found.setdefault(domain, item.version) != item.version:
            raise ModelError(
                f"the model imports the domain '{printable(domain)}' in versions {found[domain]} and {item.version}."
            )
    return found


def captured(node: onnx.NodeProto) -> list[str]:
    """The names that the node's subgraphs read from outside them."""
    graphs = (graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs))
    return [name for graph in graphs for name in captured_by(graph)]


def captured_by(graph: onnx.GraphProto) -> list[str]:
    """The names that a subgraph reads from outside it."""
    own = _own_names(graph)
    read = [name for node in graph.node for name in (*node.input, *captured(node))]
    return [name for name in (*read, *(info.name for info in graph.output)) if name and name not in own]


def _own_names(graph: onnx.GraphProto) -> set[str]:
    named = (*graph.input, *graph.initializer, *(tensor.values for tensor in graph.sparse_initializer))
    return {item.name for item in named} | {name for node in graph.node for name in node.output}
