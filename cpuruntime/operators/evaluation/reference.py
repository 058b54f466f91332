"""Runs one node through onnx.reference, and writes nodes as onnx wants them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import onnx

from cpuruntime.errors import UnsupportedError, printable
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays
from cpuruntime.operators.schema import find_operator

if TYPE_CHECKING:
    from onnx.reference import ReferenceEvaluator

_KINDS = onnx.AttributeProto

_evaluators: WeakKeyDictionary[Node, ReferenceEvaluator] = WeakKeyDictionary()
_lock = threading.Lock()


def run_reference(node: Node, arrays: Arrays) -> list[Any]:
    """The outputs that are not absent by onnx.reference, and None for each that is."""
    names = input_names(node)
    evaluator = _evaluators.get(node)
    if evaluator is None:
        evaluator = _make_evaluator(node)
        with _lock:
            _evaluators[node] = evaluator
    feeds = {name: array for name, array in zip(names, arrays) if array is not None}
    found = evaluator.run([name for name in output_names(node) if name], feeds)
    results = iter(found)
    return [next(results) if value.name else None for value in node.outputs]


def _make_evaluator(node: Node) -> ReferenceEvaluator:
    from onnx.reference import ReferenceEvaluator  # a third of what onnx costs to import, and few models need it

    names = [name for name in input_names(node) if name]
    unknown = onnx.TypeProto()
    graph = onnx.GraphProto(
        name="node",
        node=[to_proto(node)],
        input=[onnx.ValueInfoProto(name=name, type=unknown) for name in dict.fromkeys(names)],
        output=[onnx.ValueInfoProto(name=name, type=unknown) for name in output_names(node) if name],
    )
    imports = {node.domain: node.version, "": node.version if node.domain == "" else onnx.defs.onnx_opset_version()}
    opsets = [onnx.OperatorSetIdProto(domain=domain, version=version) for domain, version in imports.items()]
    model = onnx.ModelProto(ir_version=onnx.IR_VERSION, graph=graph, opset_import=opsets)
    return ReferenceEvaluator(model)


def input_names(node: Node) -> list[str]:
    """Names for the node's inputs, "" where one is absent."""
    return ["" if value is None else f"#{index}" for index, value in enumerate(node.inputs)]


def output_names(node: Node) -> list[str]:
    """Names for the node's outputs, "" where one is absent."""
    return [f"#out{index}" if value.name else "" for index, value in enumerate(node.outputs)]


def to_proto(node: Node) -> onnx.NodeProto:
    """The node as onnx wants it, with the names of `input_names` and `output_names`."""
    proto = onnx.NodeProto(
        op_type=node.op_type, domain=node.domain, name=node.name, input=input_names(node), output=output_names(node)
    )
    operator = find_operator(node.op_type, node.domain, node.version)
    if operator is None:
        raise UnsupportedError(f"{node.where}: ONNX has no such operator.")
    for name, data in node.attributes.items():
        if name in operator.attributes:
            attribute = proto.attribute.add()
            attribute.name, attribute.type = name, operator.attributes[name][0]
            _set_attribute(attribute, data)
    return proto


def _set_attribute(attribute: onnx.AttributeProto, data: Any) -> None:
    kind = attribute.type
    if kind in _FIELDS:
        setattr(attribute, _FIELDS[kind], data.encode() if isinstance(data, str) else data)
    elif kind == _KINDS.STRINGS:
        attribute.strings.extend(text.encode() for text in data)
    elif kind == _KINDS.INTS:
        attribute.ints.extend(int(number) for number in data)
    elif kind == _KINDS.FLOATS:
        attribute.floats.extend(float(number) for number in data)
    elif kind == _KINDS.TENSOR:
        attribute.t.CopyFrom(onnx.numpy_helper.from_array(data))
    elif kind == _KINDS.TENSORS:
        attribute.tensors.extend(onnx.numpy_helper.from_array(array) for array in data)
    elif kind == _KINDS.TYPE_PROTO:
        attribute.tp.CopyFrom(data)
    else:
        raise UnsupportedError(f"attribute '{printable(attribute.name)}' has the type {kind}, which is not supported.")


_FIELDS: dict[int, str] = {int(_KINDS.FLOAT): "f", int(_KINDS.INT): "i", int(_KINDS.STRING): "s"}
