"""Rewrites nodes written against old operator sets into the form of newer ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cpuruntime.graph import Node, Value
from cpuruntime.passes.editor import Editor, sweep

_INPUTS_VERSION = {"ReduceSum": 13, "ReduceMean": 18, "ReduceMax": 18, "ReduceMin": 18, "ReduceProd": 18}
_INPUTS_VERSION |= dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"), 18)


@sweep
def run(editor: Editor, node: Node) -> None:
    """Attributes that became inputs (of Clip, Pad, Slice, Split and the Reduce operators) -> inputs; Upsample and the
    first Resize -> Resize 13; BatchNormalization says whether it trains. The sizes of Split are always an input
    afterwards."""
    form = _FORMS.get(node.op_type)
    if form is not None and node.domain == "":
        form(editor, node)


def _constant(editor: Editor, node: Node, name: str, data: Any, dtype: Any = np.int64) -> Value:
    return editor.constant(f"{node.name}/{name}", np.array(data, dtype))


def _attributes_to_inputs(editor: Editor, node: Node, names: dict[int, str], dtype: Any = np.int64) -> None:
    for index, name in names.items():
        data = node.attributes.pop(name, None)
        if data is not None:
            editor.set_input(node, index, _constant(editor, node, name, data, dtype))
    node.version = 13


def _clip(editor: Editor, node: Node) -> None:
    if node.version < 11:
        _attributes_to_inputs(editor, node, {1: "min", 2: "max"}, node.inputs[0].element_type.to_dtype())


def _batch_normalization(editor: Editor, node: Node) -> None:
    """Before opset 14 the number of outputs says whether it trains."""
    trains = any(output.name for output in node.outputs[1:])
    if node.version < 14 and not trains and node.attributes.get("spatial", 1):
        attributes = {"epsilon": node.attributes.get("epsilon", 1e-5), "training_mode": 0}
        outputs = node.outputs[:1]
        editor.replace(node, Node(node.op_type, node.name, node.inputs, outputs, attributes, "", 15, node.origins))


def _pad(editor: Editor, node: Node) -> None:
    if node.version < 11:
        node.attributes.setdefault("value", 0.0)
        _attributes_to_inputs(editor, node, {1: "pads"})
        _attributes_to_inputs(editor, node, {2: "value"}, node.inputs[0].element_type.to_dtype())


def _slice(editor: Editor, node: Node) -> None:
    if node.version < 10:
        _attributes_to_inputs(editor, node, {1: "starts", 2: "ends", 3: "axes"})


def _split(editor: Editor, node: Node) -> None:
    if node.version >= 13 and node.input(1) is not None:
        return
    if node.attributes.get("split") is None:
        if node.inputs[0].shape is None or not all(value.is_static for value in node.outputs):
            return
        axis = node.attributes.get("axis", 0) % len(node.inputs[0].shape)
        node.attributes["split"] = [value.static_shape[axis] for value in node.outputs]
    node.attributes.pop("num_outputs", None)
    _attributes_to_inputs(editor, node, {1: "split"})


def _reduce(editor: Editor, node: Node) -> None:
    version = _INPUTS_VERSION[node.op_type]
    if node.version < version:
        _attributes_to_inputs(editor, node, {1: "axes"})
        node.attributes["noop_with_empty_axes"] = 0
        node.version = version


def _resize(editor: Editor, node: Node) -> None:
    if node.op_type == "Resize" and node.version >= 11:
        return
    scales = node.input(1) or _constant(editor, node, "scales", node.attributes["scales"], np.float32)
    known = np.ones(1) if scales.constant is None else scales.constant
    shrinks = node.op_type == "Resize" and bool((known < 1).any())
    if shrinks and (known > 1).any() and node.attributes.get("mode", "nearest") == "nearest":
        return
    attributes = {
        "mode": node.attributes.get("mode", "nearest"),
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "ceil" if shrinks else "floor",  # opset 10 does not say; as ONNX Runtime does
        "cubic_coeff_a": -0.75,
        "exclude_outside": 0,
        "extrapolation_value": 0.0,
    }
    inputs = [node.inputs[0], None, scales]
    editor.replace(node, Node("Resize", node.name, inputs, node.outputs, attributes, "", 13, node.origins))


_FORMS: dict[str, Callable[[Editor, Node], None]] = {
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Pad": _pad,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Upsample": _resize,
} | dict.fromkeys(_INPUTS_VERSION, _reduce)
