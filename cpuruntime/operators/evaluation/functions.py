"""Operators that the specification defines by a function, run node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx

from cpuruntime.errors import UnsupportedError, printable
from cpuruntime.graph import Node, Type, Value
from cpuruntime.operators.evaluation.inputs import Arrays
from cpuruntime.operators.evaluation.reference import to_proto
from cpuruntime.operators.schema import find_operator

Evaluate = Callable[[Node, Arrays], "list[Any]"]
"""Runs one node."""

_KINDS = onnx.AttributeProto


def make_node(proto: onnx.NodeProto, opsets: Mapping[str, int], given: Mapping[str, onnx.AttributeProto]) -> Node:
    """A node without subgraphs, whose values have the names in `proto`.

    `opsets` are versions by domain; the newest one counts for a domain that is missing. Attributes may refer to those
    of the function's caller, `given`; one that refers to none of them is left out.
    """
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    attributes = {}
    for attribute in proto.attribute:
        source = given.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        if source is not None:
            attributes[attribute.name] = _data(source)
    name = proto.name or ", ".join(proto.output)
    version = opsets.get(domain) or _newest(proto.op_type, domain)
    inputs = [Value(name) if name else None for name in proto.input]
    return Node(proto.op_type, name, inputs, [Value(name) for name in proto.output], attributes, domain, version)


def _newest(op_type: str, domain: str) -> int:
    try:
        return onnx.defs.get_schema(op_type, domain=domain).since_version
    except onnx.defs.SchemaError:
        raise UnsupportedError(f"domain '{printable(domain)}' has no operator '{printable(op_type)}'.") from None


def _array(tensor: onnx.TensorProto) -> np.ndarray:
    array = onnx.numpy_helper.to_array(tensor)
    if array.dtype.kind in "OSUT":
        texts = [text.decode() if isinstance(text, bytes) else str(text) for text in array.ravel().tolist()]
        array = np.array(texts, object).reshape(array.shape)
    return array


def _dense(tensor: onnx.SparseTensorProto) -> np.ndarray:
    values, indices = _array(tensor.values), _array(tensor.indices)
    result = np.zeros(tuple(tensor.dims), values.dtype)
    result[tuple(indices.T) if indices.ndim == 2 else np.unravel_index(indices, result.shape)] = values
    return result


def _data(attribute: onnx.AttributeProto) -> Any:
    """The attribute as a node holds it."""
    kind = attribute.type
    if kind == _KINDS.TENSOR:
        return _array(attribute.t)
    if kind == _KINDS.TENSORS:
        return [_array(tensor) for tensor in attribute.tensors]
    if kind == _KINDS.SPARSE_TENSOR:
        return _dense(attribute.sparse_tensor)
    if kind in (_KINDS.GRAPH, _KINDS.GRAPHS):
        raise UnsupportedError(f"attribute '{printable(attribute.name)}' of a function is a graph: not supported.")
    data = onnx.helper.get_attribute_value(attribute)
    if isinstance(data, bytes):
        return data.decode()
    if kind == _KINDS.STRINGS:
        return [text.decode() for text in data]
    return list(data) if kind in (_KINDS.FLOATS, _KINDS.INTS) else data


def run_function(node: Node, arrays: Arrays, evaluate: Evaluate) -> list[Any] | None:
    """The outputs by the function that defines the operator; None when it has none."""
    function = _function(node, arrays)
    if function is None:
        return None
    operator = find_operator(node.op_type, node.domain, node.version)
    proto = to_proto(node)
    attributes = {attribute.name: attribute for attribute in proto.attribute}
    for name, formal in operator.schema.attributes.items():
        if name not in attributes and formal.default_value.name:
            attributes[name] = formal.default_value
    opsets = {_domain(entry.domain): entry.version for entry in function.opset_import}
    known: dict[str, Any] = {"": None} | dict.fromkeys(function.input) | dict(zip(function.input, arrays))
    for inner in function.node:
        results = evaluate(make_node(inner, opsets, attributes), [known[name] for name in inner.input])
        known.update((name, result) for name, result in zip(inner.output, results) if name)
    return [known[name] if value.name else None for name, value in zip(function.output, node.outputs)]


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _function(node: Node, arrays: Arrays) -> onnx.FunctionProto | None:
    operator = find_operator(node.op_type, node.domain, node.version)
    if operator is None:
        raise UnsupportedError(f"{node.where}: ONNX has no such operator.")
    schema, text = operator.schema, None
    if schema.has_context_dependent_function:
        version = _best(schema.context_dependent_function_opset_versions, node.version)
        types = [_type(array).SerializeToString() for array in arrays]
        text = schema.get_context_dependent_function_with_opset_version(
            version, to_proto(node).SerializeToString(), types
        )
    elif schema.has_function:
        text = schema.get_function_with_opset_version(_best(schema.function_opset_versions, node.version))
    return onnx.FunctionProto.FromString(text) if text else None


def _best(versions: Iterable[int], wanted: int) -> int:
    """The newest that is not newer than wanted, else the oldest."""
    fitting = [version for version in versions if version <= wanted]
    return max(fitting) if fitting else min(versions)


def _type(array: Any) -> onnx.TypeProto:
    if array is None:
        return onnx.TypeProto()
    if isinstance(array, list):
        return onnx.helper.make_sequence_type_proto(_type(array[0]) if array else onnx.TypeProto())
    return onnx.helper.make_tensor_type_proto(Type(array.dtype).to_onnx(), array.shape)
