"""Runs one node of an optimised graph on arrays, with NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cpuruntime.errors import InternalError
from cpuruntime.graph import Node, Type, Value
from cpuruntime.operators import shape_inference
from cpuruntime.operators.evaluation import quantised
from cpuruntime.operators.traits import DOMAIN, function_traits

_WINDOW = ("kernel_shape", "strides", "dilations", "pads", "group")


def evaluate(node: Node, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """`shape_inference.evaluate` for the operators that passes make, too. Slow, and thread-safe."""
    if node.domain != DOMAIN:
        return shape_inference.evaluate(node, arrays)
    compute = _INTERNAL.get(node.op_type)
    if compute is None:
        raise InternalError(f"{node.where}: there is no such operator.")
    return [_activate(node, compute(node, list(arrays)))]


def can_evaluate(node: Node) -> bool:
    """Whether `evaluate` knows the operator, if it is one that passes make."""
    return node.domain != DOMAIN or node.op_type in _INTERNAL


def _onnx(op_type: str, version: int, arrays: Sequence[np.ndarray | None], **attributes: object) -> np.ndarray:
    inputs = [None if array is None else Value(f"x{index}") for index, array in enumerate(arrays)]
    node = Node(op_type, op_type, inputs, [Value("y", Type.f32)], attributes, "", version)
    return shape_inference.evaluate(node, arrays)[0]


def _convolution(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray:
    attributes = {name: node.attributes[name] for name in _WINDOW}
    result = _onnx("Conv", 11, arrays[:3], **attributes)
    return result if arrays[3] is None else result + arrays[3]


def _fully_connected(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray:
    x, weights, bias, residual = arrays
    result = np.matmul(x, weights)
    for addend in (bias, residual):
        if addend is not None:
            result = result + addend
    return result


def _scale_shift(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray:
    x, scale, shift = arrays
    channels = (-1, *[1] * (x.ndim - 2))
    return x * scale.reshape(channels) + shift.reshape(channels)


def _normalised(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray:
    x, scale, shift = arrays
    axis = node.attributes["axis"]
    axes = tuple(range(axis, x.ndim))
    if node.op_type == "LayerNorm":
        x = x - x.mean(axes, keepdims=True)
    result = x / np.sqrt((x * x).mean(axes, keepdims=True) + np.float32(node.attributes["epsilon"]))
    if scale is not None:
        result = result * scale.reshape(x.shape[axis:])
    return _stored(node, result if shift is None else result + shift.reshape(x.shape[axis:]))


def _stored(node: Node, result: np.ndarray) -> np.ndarray:
    """As bytes, where the output is of bytes."""
    return quantised.TABLE["Quantise"](node, [result]) if "y_scale" in node.attributes else result


def _attention(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray:
    a = node.attributes
    lead, queries, keys = (a["batch"], a["heads"]), a["queries"], a["keys"]

    def view(array: np.ndarray, name: str, *matrix: int) -> np.ndarray:
        flat = np.ascontiguousarray(array).reshape(-1)[a[name][0] :]
        return as_strided(flat, (*lead, *matrix), [stride * array.itemsize for stride in a[name][1:]])

    query, key, value, mask = arrays
    values, width = view(value, "value", keys, a["width"]), a["width"]
    scores = view(query, "query", queries, a["depth"]) @ view(key, "key", keys, a["depth"]).swapaxes(2, 3)
    scores = scores * np.float32(a["scale"])
    if mask is not None:
        scores = scores + view(mask, "mask", queries, keys)
    if a["causal"]:
        scores[..., np.arange(keys) > np.arange(queries)[:, None] + a["offset"]] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    result = np.empty(node.outputs[0].static_shape, np.float32)
    view(result, "target", queries, width)[...] = weights / weights.sum(-1, keepdims=True) @ values
    return result


def _shuffle(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray:
    (x,), group = arrays, node.attributes["group"]
    batch, channels, *spatial = x.shape
    return x.reshape(batch, group, channels // group, -1).swapaxes(1, 2).reshape(batch, channels, *spatial)


def _activate(node: Node, result: np.ndarray) -> np.ndarray:
    activation, arguments = node.attributes.get("activation"), node.attributes.get("activation_arguments")
    if not activation:
        return result
    if activation in ("Silu", "Swish"):
        return result * _onnx("Sigmoid", 13, [result * np.float32(arguments[0] if arguments else 1)])
    if activation in ("Gelu", "GeluTanh"):
        return _onnx("Gelu", 20, [result], approximate="tanh" if activation == "GeluTanh" else "none")
    if activation == "Clip":
        return np.clip(result, *np.array(arguments, np.float32))
    named = dict(zip(function_traits(activation).epilogue or (), arguments))
    return _onnx(activation, 16, [result], **named)


_INTERNAL: dict[str, Callable[[Node, list[np.ndarray | None]], np.ndarray]] = {
    **quantised.TABLE,
    "Add": lambda node, arrays: arrays[0] + arrays[1],
    "Attention": _attention,
    "ChannelShuffle": _shuffle,
    "Conv": _convolution,
    "FullyConnected": _fully_connected,
    "LayerNorm": _normalised,
    "Reshape": lambda node, arrays: arrays[0].reshape(node.outputs[0].static_shape),
    "RmsNorm": _normalised,
    "ScaleShift": _scale_shift,
    "Softmax": lambda node, arrays: _stored(node, _onnx("Softmax", 13, arrays, axis=-1)),
    "Silu": lambda node, arrays: arrays[0] * _onnx("Sigmoid", 13, arrays),
}
