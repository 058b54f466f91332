"""Operators that ONNX defines by simpler ones are written out as their definitions say."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.operators.shape_inference import infer_shapes
from cpuruntime.passes.canonical.default_attributes import defaults
from cpuruntime.passes.editor import Editor

# Without a kernel of their own.
_ALWAYS = {
    *("Attention", "BlackmanWindow", "CausalConvWithState", "CenterCropPad", "HammingWindow", "HannWindow"),
    *("NegativeLogLikelihoodLoss", "RotaryEmbedding", "SoftmaxCrossEntropyLoss", "SwiGLU"),
}
# With kernels for float32 only.
_OTHER_TYPES = {
    *("Celu", "Elu", "Gelu", "GroupNormalization", "HardSigmoid", "HardSwish", "LayerNormalization", "LeakyRelu"),
    *("LogSoftmax", "MeanVarianceNormalization", "Mish", "PRelu", "RMSNormalization", "ReduceL1", "ReduceL2"),
    *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "Selu", "Shrink", "Softmax", "Softplus", "Softsign"),
    *("Swish", "ThresholdedRelu"),
}
# Whose definitions hold for fractions only: they take logarithms, or cast what they compare with.
_FRACTIONS = {"ReduceLogSum", "Shrink"}


def run(graph: Graph) -> bool:
    """Attention, RotaryEmbedding, losses, windows and others without a kernel become what they are defined by, and so
    do functions and normalisations of other types than float32."""
    changed = False
    while _sweep(graph):
        changed = True
        infer_shapes(graph)
    return changed


def _sweep(graph: Graph) -> bool:
    editor = Editor(graph)
    for node in editor.nodes():
        if _is_defined(node):
            attributes = defaults(node.op_type, node.version) | node.attributes
            body = _definition(node, attributes)
            if body is not None:
                editor.replace(node, *_Definition(editor, node, attributes, body).nodes())
    return editor.finish()


def _is_defined(node: Node) -> bool:
    if node.domain != "":
        return False
    if node.op_type in _ALWAYS:
        return True
    if node.op_type == "LayerNormalization" and any(value.name for value in node.outputs[1:]):
        return True
    first = node.input(0)
    if node.op_type in _FRACTIONS and first is not None and first.element_type.is_integral():
        return False
    return node.op_type in _OTHER_TYPES and first is not None and first.element_type not in (Type.f32, Type.dynamic)


def _definition(node: Node, attributes: dict[str, Any]) -> onnx.FunctionProto | None:
    """The function that defines a node of these types and attributes; None where there is none."""
    schema = onnx.defs.get_schema(node.op_type, node.version, "")
    if schema.has_function:
        return schema.function_body
    versions = [version for version in schema.context_dependent_function_opset_versions if version <= node.version]
    if not versions:
        return None
    inputs, outputs = ["" if v is None else v.name for v in node.inputs], [v.name for v in node.outputs]
    given = {name: _as_attribute(value) for name, value in attributes.items()}
    proto = helper.make_node(node.op_type, inputs, outputs, **given)
    types = [onnx.TypeProto() if v is None else _type(v) for v in node.inputs]
    text = schema.get_context_dependent_function_with_opset_version(
        max(versions), proto.SerializeToString(), [each.SerializeToString() for each in types]
    )
    return onnx.FunctionProto.FromString(text) if text else None


def _as_attribute(value: Any) -> Any:
    return numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value


def _type(value: Value) -> onnx.TypeProto:
    shape = None if value.shape is None else [n if isinstance(n, int) else f"n{i}" for i, n in enumerate(value.shape)]
    return helper.make_tensor_type_proto(value.element_type.to_onnx(), shape)


class _Definition:
    """The nodes of the function `body` in the place of `node`."""

    def __init__(
        self, editor: Editor, node: Node, attributes: dict[str, Any], body: onnx.FunctionProto
    ) -> None:  # fmt: skip
        self._editor, self._node, self._given, self._body = editor, node, attributes, body
        self._version = next(item.version for item in body.opset_import if item.domain in ("", "ai.onnx"))
        self._values: dict[str, Value | None] = {"": None}

    def nodes(self) -> list[Node]:
        for index, name in enumerate(self._body.input):
            self._values[name] = self._node.input(index)
        results = dict(zip(self._body.output, self._node.outputs))
        made = [self._made(number, proto, results) for number, proto in enumerate(self._body.node)]
        return [node for node in made if node is not None]

    def _made(self, number: int, proto: onnx.NodeProto, results: dict[str, Value]) -> Node | None:
        attributes = self._attributes(proto)
        if proto.op_type == "Constant":
            (array,) = (np.asarray(value) for value in attributes.values())
            if array.dtype == np.float64 and "value" not in attributes:
                array = array.astype(np.float32)
            self._values[proto.output[0]] = self._editor.constant(f"{self._node.name}/{proto.output[0]}", array)
            return None
        outputs = []
        for name in proto.output:
            value = results.get(name) if name else Value("")
            if value is None or (name and not value.name):
                value = self._editor.value(f"{self._node.name}/{name}", Type.dynamic, None)
            outputs.append(value)
        inputs = [self._values[name] for name in proto.input]
        self._values.update(zip(proto.output, outputs))
        name = f"{self._node.name}/{number}" if number else self._node.name
        return Node(proto.op_type, name, inputs, outputs, attributes, "", self._version, self._node.origins)

    def _attributes(self, proto: onnx.NodeProto) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for attribute in proto.attribute:
            if not attribute.ref_attr_name:
                value = helper.get_attribute_value(attribute)
                value = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
                found[attribute.name] = value.decode() if isinstance(value, bytes) else value
            elif attribute.ref_attr_name in self._given:
                found[attribute.name] = self._given[attribute.ref_attr_name]
        return found
