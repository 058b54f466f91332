"""Reads an ONNX model into a graph.

Nothing in the file is trusted: every name, attribute, type and size is checked, and what is wrong becomes a ModelError
or an UnsupportedError that names the node, the value and the rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import Any, BinaryIO

import onnx

from cpuruntime.errors import MESSAGE, Error, InvalidArgumentError, ModelError, UnsupportedError, printable
from cpuruntime.frontend.builder import Builder
from cpuruntime.frontend.file import open_model
from cpuruntime.frontend.functions import Functions, opsets_of
from cpuruntime.frontend.tensors import TensorReader
from cpuruntime.graph import Graph
from cpuruntime.operators.schema import check_opset, shorten
from cpuruntime.operators.shape_inference import infer_shapes

_OPSETS_NAMED = 3
"""The first IR version that names operator sets; before, there was one."""


def read(
    model: str | PathLike[str] | bytes | BinaryIO | onnx.ModelProto, weights: Any = None,
    locations: list[str] | None = None, late: bool = False,
) -> Graph:  # fmt: skip
    """The graph of an ONNX model, with the types and shapes of all values inferred.

    `model` is a path, the file's bytes, a binary file object or an onnx.ModelProto (which stays unchanged). External
    data are read from inside the folder of the model's file only. Initializers are constants; those that the model
    lists among its inputs are the graph's `defaults`. Model-local functions are inlined. The arrays of constants are
    read-only and may share memory with `model` when it is bytes. To `locations` are added those of external data.
    With `late` large weights of a file are `Deferred`: the caller uses them soon, or calls `settle`.

    Raises ModelNotFoundError (no such file), ModelError (not an ONNX model, or a wrong one), UnsupportedError (an IR
    version, opset, operator or type that is not supported), InvalidArgumentError (`weights` is given: ONNX models name
    their external data themselves; or `model` has another type).
    """
    proto, bulk, folder = open_model(model)
    tensors = TensorReader(bulk, folder)
    try:
        if weights is not None:
            raise InvalidArgumentError("an ONNX model takes no separate weights: it names its external data itself.")
        _check_versions(proto)
        _check_text(proto.graph)
        for function in proto.functions:
            _check_nodes(function.node)
        opsets = opsets_of(proto.opset_import) or {"": 1}
        graph = Builder(proto.graph, tensors, opsets, Functions(proto), late=late).build()
        infer_shapes(graph)
        if proto.ir_version >= 4:  # before, each initializer had to be listed as an input
            inputs = {info.name for info in proto.graph.input}
            graph.defaults = [value for value in graph.constants() if value.name in inputs]
        if locations is not None and folder is not None:
            locations += folder.opened
        return graph
    except Error:
        raise
    except (MemoryError, Exception) as error:  # any other error that a hostile file causes is the file's fault
        message = printable(str(error), MESSAGE)
        raise ModelError(f"the model cannot be read: {type(error).__name__}: {message}") from error
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
    if not proto.opset_import and proto.ir_version >= _OPSETS_NAMED:
        raise ModelError("the model imports no operator set. Export it again.")
    for domain, version in opsets_of(proto.opset_import).items():
        check_opset(domain, version)


def _check_text(graph: onnx.GraphProto) -> None:
    """ModelError when a name is not UTF-8 text: protobuf then gives bytes."""
    names = [graph.name]
    names += [item.name for items in (graph.input, graph.output, graph.initializer) for item in items]
    _check_names(names)
    _check_nodes(graph.node)


def _check_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        _check_names([node.op_type, node.domain, node.name, *node.input, *node.output])
        for attribute in node.attribute:
            _check_names([attribute.name, attribute.ref_attr_name])
            for subgraph in (attribute.g, *attribute.graphs):
                _check_text(subgraph)


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise ModelError(f"the model has the name {shorten(name)}, which is not UTF-8 text.")
