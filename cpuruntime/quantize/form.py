"""The form of a model that is quantised: a recent operator set, constants as initializers, normalisations in layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cpuruntime.api.core import Core
from cpuruntime.api.model import Model
from cpuruntime.errors import InvalidArgumentError, ModelError, listed, printable
from cpuruntime.frontend.light_models import light_model
from cpuruntime.quantize.editor import Editor, attribute, copied

OPSET = 17
_LEAST_OPSET = 13
"""The first one whose DequantizeLinear has a scale for each channel."""
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "MatMulInteger")


@dataclass(frozen=True)
class Layer:
    """A node that is computed with 8 bits: a convolution, a product with a matrix, or one of two activations.

    Attributes:
        inputs: the names of its activations; two of a product of activations.
        weight: the name of its weight, or "". Its outputs lie along `axis`.
        bias: the name of what is added in the node itself, or "".
        after: the Add of a constant that follows a MatMul, or None.
    """

    node: onnx.NodeProto
    inputs: tuple[str, ...]
    weight: str = ""
    axis: int = 0
    bias: str = ""
    after: onnx.NodeProto | None = None

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def is_convolution(self) -> bool:
        return self.node.op_type == "Conv"


def read_model(source: str) -> tuple[onnx.ModelProto, Model]:
    """The message and the checked model of an ONNX file, or of light:NAME. Raises cpuruntime.Error."""
    message = light_model(source.removeprefix("light:")) if source.startswith("light:") else None
    model = Core().read_model(message or source)
    return message or onnx.load(source), model


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in the form that the other modules take.

    Raises InvalidArgumentError for a quantised model, ModelError where its operator set cannot be raised.
    """
    found = next((node for node in model.graph.node if node.op_type in _QUANTISED), None)
    if found is not None:
        raise InvalidArgumentError(
            f"{found.op_type} '{printable(found.name)}': the model is quantised already; give the float32 model, or "
            "--check to look at this one."
        )
    model = _recent(copied(model))
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:], model.graph.value_info[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 8)
    editor = Editor(model)
    _name(editor)
    _gather_constants(editor)
    _fold_normalisations(editor)
    return editor.finish()


def layers(editor: Editor) -> list[Layer]:
    """The layers of a prepared model, in the order of its nodes."""
    found = []
    for node in editor.graph.node:
        layer = _layer(editor, node)
        if layer is not None:
            found.append(layer)
    return found


def _layer(editor: Editor, node: onnx.NodeProto) -> Layer | None:
    second = editor.constant(node, 1)
    if node.domain not in ("", "ai.onnx") or len(node.input) < 2 or node.input[0] in editor.arrays:
        return None
    if second is not None and second.dtype != np.float32:
        return None
    first, bias = node.input[0], node.input[2] if len(node.input) > 2 else ""
    if node.op_type == "Conv" and second is not None and (not bias or bias in editor.arrays):
        return Layer(node, (first,), node.input[1], 0, bias)
    if node.op_type == "Gemm" and second is not None and _is_plain(node):
        width = second.shape[0 if attribute(node, "transB", 0) else 1]
        if not bias or (bias in editor.arrays and editor.arrays[bias].size == width):
            return Layer(node, (first,), node.input[1], 0 if attribute(node, "transB", 0) else 1, bias)
    if node.op_type == "MatMul" and second is not None and second.ndim == 2:
        return Layer(node, (first,), node.input[1], 1, after=_bias_after(editor, node, second.shape[1]))
    if node.op_type == "MatMul" and second is None:
        return Layer(node, (first, node.input[1]))
    return None


def _is_plain(gemm: onnx.NodeProto) -> bool:
    numbers = {name: attribute(gemm, name, default) for name, default in (("alpha", 1.0), ("beta", 1.0), ("transA", 0))}
    return numbers == {"alpha": 1.0, "beta": 1.0, "transA": 0}


def _bias_after(editor: Editor, product: onnx.NodeProto, width: int) -> onnx.NodeProto | None:
    after = editor.only_reader(product.output[0])
    if after is None or after.op_type != "Add":
        return None
    arrays = [editor.constant(after, index) for index in range(2)]
    return after if any(array is not None and array.shape == (width,) for array in arrays) else None


def _recent(model: onnx.ModelProto) -> onnx.ModelProto:
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if version >= _LEAST_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # of the converter, in C++: of any type
        raise ModelError(
            f"The model's operator set {version} has no scales by channel, and onnx cannot convert it to {OPSET}: "
            f"{printable(str(error))}"
        ) from None


def _name(editor: Editor) -> None:
    names = {node.name for node in editor.graph.node}
    if len(names) == len(editor.graph.node) and "" not in names:
        return
    for number, node in enumerate(editor.graph.node):
        node.name = f"{node.op_type}_{number}"


def _gather_constants(editor: Editor) -> None:
    nodes = []
    for node in editor.graph.node:
        value = attribute(node, "value") if node.op_type == "Constant" else None
        if isinstance(value, onnx.TensorProto):
            editor.arrays[node.output[0]] = numpy_helper.to_array(value)
        elif node.op_type == "Sum" and len(node.input) == 2:
            nodes.append(helper.make_node("Add", node.input, node.output, node.name))
        elif node.op_type != "Identity" or node.input[0] not in editor.arrays:
            nodes.append(node)
        else:
            editor.arrays[node.output[0]] = editor.arrays[node.input[0]]
    editor.replace(nodes)


def _fold_normalisations(editor: Editor) -> None:
    """Puts each BatchNormalization that alone reads a convolution into its weights."""
    gone = []
    for node in list(editor.graph.node):
        source = editor.producers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if source is None or source.op_type != "Conv" or editor.only_reader(source.output[0]) is not node:
            continue
        values = [editor.constant(node, index) for index in range(1, 5)]
        weight, bias = editor.constant(source, 1), editor.constant(source, 2)
        if weight is None or any(value is None for value in values) or (bias is None and len(source.input) > 2):
            continue
        scale, shift, mean, variance = (np.asarray(value, np.float64) for value in values)
        factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        start = np.zeros(len(weight)) if bias is None else bias
        folded = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        source.input[1] = editor.add(f"{source.name}/weight", folded.astype(np.float32))
        new = editor.add(f"{source.name}/bias", ((start - mean) * factor + shift).astype(np.float32))
        source.input[:] = [*source.input[:2], new]
        source.output[0] = node.output[0]
        gone.append(node.name)
        editor.index()
    editor.replace([node for node in editor.graph.node if node.name not in gone])


def float_outputs(model: onnx.ModelProto) -> list[str]:
    """The names of the float32 outputs. Raises InvalidArgumentError where there is none."""
    found = [v.name for v in model.graph.output if v.type.tensor_type.elem_type in (TensorProto.FLOAT, 0)]
    if not found:
        names = listed([value.name for value in model.graph.output])
        raise InvalidArgumentError(f"No output of the model is float32, and errors are measured on these: {names}.")
    return found
