"""Runs one node on arrays: directly with NumPy where that is simple, else through onnx.reference."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from cpuruntime.errors import MESSAGE, Error, ModelError, UnsupportedError, printable
from cpuruntime.graph import Node, Type, Value
from cpuruntime.operators import control_flow
from cpuruntime.operators.schema import find_operator

_KINDS = onnx.AttributeProto
_SIMPLE_CASTS = "?bBhHiIlLqQefd"

Arrays = Sequence[np.ndarray | None]

_evaluators: WeakKeyDictionary[Node, ReferenceEvaluator] = WeakKeyDictionary()
_lock = threading.Lock()


def evaluate(node: Node, arrays: Arrays) -> list[np.ndarray]:
    """The node's outputs for the given inputs, one array for each input (None where it is absent).

    The last arrays are those that subgraphs read, as in `node.inputs`. Slow, and correct for every operator that
    onnx.reference knows. A node's attributes must not change after its first evaluation. Safe to call from several
    threads. Raises UnsupportedError (no implementation) and ModelError (the operator refuses the inputs).
    """
    direct = DIRECT.get(node.op_type) if node.domain == "" else None
    try:
        if node.op_type in control_flow.OPERATORS and node.domain == "":
            return control_flow.run(node, arrays, evaluate)
        with np.errstate(all="ignore"):
            result = direct(node, arrays) if direct is not None else None
            if result is not None:
                return [result]
            return _run_reference(node, arrays)
    except Error:
        raise
    except NotImplementedError as error:
        raise UnsupportedError(f"{node.where}: there is no reference implementation: {error}") from error
    except (Exception, MemoryError) as error:
        message = printable(str(error), MESSAGE)
        raise ModelError(f"{node.where}: cannot be evaluated: {type(error).__name__}: {message}") from error


def _run_reference(node: Node, arrays: Arrays) -> list[np.ndarray]:
    names = input_names(node)
    evaluator = _evaluators.get(node)
    if evaluator is None:
        evaluator = _make_evaluator(node)
        with _lock:
            _evaluators[node] = evaluator
    feeds = {name: array for name, array in zip(names, arrays) if array is not None}
    found = evaluator.run([name for name in output_names(node) if name], feeds)
    results = iter(found)
    outputs = []
    for value in node.outputs:
        result = next(results) if value.name else np.empty(0, np.float32)
        if not isinstance(result, (np.ndarray, np.generic, int, float, bool)):
            raise UnsupportedError(f"{node.where}: it gives a {type(result).__name__}; only tensors are supported.")
        array = np.asarray(result)
        outputs.append(array.astype(object) if array.dtype.kind in "SUT" else array)
    return outputs


def _make_evaluator(node: Node) -> ReferenceEvaluator:
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
    names = input_names(node)
    proto = onnx.NodeProto(
        op_type=node.op_type, domain=node.domain, name=node.name, input=names, output=output_names(node)
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


def _axes(node: Node, arrays: Arrays) -> list[int] | None:
    given = arrays[1] if len(arrays) > 1 else None
    if given is not None:
        return [int(axis) for axis in np.atleast_1d(given)]
    return node.attributes.get("axes")


def _unsqueeze(node: Node, arrays: Arrays) -> np.ndarray | None:
    axes = _axes(node, arrays)
    return None if axes is None else np.expand_dims(arrays[0], tuple(axes))


def _squeeze(node: Node, arrays: Arrays) -> np.ndarray | None:
    axes = _axes(node, arrays)
    return np.squeeze(arrays[0], None if axes is None else tuple(axes))


def _cast(node: Node, arrays: Arrays) -> np.ndarray | None:
    wanted = Type.from_onnx(node.attributes["to"]).to_dtype()
    array = arrays[0]
    if wanted.char not in _SIMPLE_CASTS:
        return None
    if array.dtype == object:  # an integer of which a part is not known
        return array if wanted in (np.int32, np.int64) else None
    return array.astype(wanted) if array.dtype.char in _SIMPLE_CASTS else None


def _constant_of_shape(node: Node, arrays: Arrays) -> np.ndarray | None:
    shape = arrays[0]
    if shape.dtype != np.int64:
        return None
    if np.any(shape < 0):
        raise ModelError(f"{node.where}: the shape {shape.tolist()} has a negative extent.")
    value = node.attributes.get("value", np.zeros(1, np.float32))
    if value.size != 1:
        raise ModelError(f"{node.where}: the value has {value.size} elements; it must have one.")
    if value.dtype != object and not value.reshape(1).view(np.uint8).any():
        return np.zeros(shape.tolist(), value.dtype)
    return np.full(shape.tolist(), value.reshape(()), value.dtype)


def _gather(node: Node, arrays: Arrays) -> np.ndarray | None:
    return np.take(*arrays, node.attributes.get("axis", 0))


def _concat(node: Node, arrays: Arrays) -> np.ndarray | None:
    return np.concatenate([array for array in arrays if array is not None], node.attributes["axis"])


def _identity(node: Node, arrays: Arrays) -> np.ndarray | None:
    return arrays[0]


def _arithmetic(function: Any) -> Callable[[Node, Arrays], np.ndarray | None]:
    def run(node: Node, arrays: Arrays) -> np.ndarray | None:
        a, b = arrays
        if a.dtype != b.dtype or a.dtype.char not in _SIMPLE_CASTS[1:]:
            return None
        return np.asarray(function(a, b))

    return run


def _flat_softmax(node: Node, arrays: Arrays) -> np.ndarray | None:
    """Before opset 13 these work on the input as a matrix; onnx.reference only knows the later rule."""
    x = arrays[0]
    if node.version >= 13:
        return None
    axis = node.attributes.get("axis", 1)
    matrix = x.reshape(math.prod(x.shape[: axis % x.ndim if axis < 0 else axis]), -1)
    if node.op_type == "LogSoftmax":  # onnx.reference takes the logarithm of zero
        shifted = matrix - matrix.max(axis=1, keepdims=True)
        return (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))).reshape(x.shape)
    return _evaluate_as(node, {"axis": 1}, 13, [matrix]).reshape(x.shape)


def _evaluate_as(node: Node, attributes: dict[str, Any], version: int, arrays: Arrays) -> np.ndarray:
    """The result of the node's operator with other attributes and another version."""
    other = Node(node.op_type, node.name, [Value("x")], [Value("y")], attributes, "", version)
    return _run_reference(other, arrays)[0]


def _batch_normalization(node: Node, arrays: Arrays) -> np.ndarray | None:
    """Before opset 14 the number of outputs says whether it trains; onnx.reference looks for momentum instead."""
    x, *rest = arrays
    if node.version >= 14 or len(node.outputs) > 1:
        return None
    spatial = node.attributes.get("spatial", 1)
    extents = (-1, *[1] * (x.ndim - 2)) if spatial else x.shape[1:]
    scale, bias, mean, variance = (array.reshape(extents) for array in rest)
    deviation = np.sqrt(variance + x.dtype.type(node.attributes.get("epsilon", 1e-5)))
    return ((x - mean) / deviation * scale + bias).astype(x.dtype)


def _lrn(node: Node, arrays: Arrays) -> np.ndarray | None:
    """onnx.reference loops over the batch where it means the channels."""
    x = arrays[0]
    size, channels = node.attributes["size"], x.shape[1]
    before, after = (size - 1) // 2, size // 2
    squares = np.square(x)
    sums = [squares[:, max(0, c - before) : c + after + 1].sum(axis=1, keepdims=True) for c in range(channels)]
    scale = node.attributes.get("alpha", 1e-4) / size
    base = node.attributes.get("bias", 1.0) + scale * np.concatenate(sums, axis=1)
    return (x / base ** node.attributes.get("beta", 0.75)).astype(x.dtype)


def _max_pool(node: Node, arrays: Arrays) -> np.ndarray | None:
    """onnx.reference gets the size of the output for SAME_LOWER wrong: it gets explicit padding instead."""
    x = arrays[0]
    if node.attributes.get("auto_pad") != "SAME_LOWER" or len(node.outputs) > 1:
        return None
    kernel = node.attributes["kernel_shape"]
    ones = [1] * len(kernel)
    windows = zip(x.shape[2:], kernel, node.attributes.get("strides", ones), node.attributes.get("dilations", ones))
    totals = [max(0, (-(-n // stride) - 1) * stride + (k - 1) * step + 1 - n) for n, k, stride, step in windows]
    pads = [total - total // 2 for total in totals] + [total // 2 for total in totals]
    return _evaluate_as(node, {**node.attributes, "auto_pad": "NOTSET", "pads": pads}, node.version, arrays)


DIRECT: dict[str, Callable[[Node, Arrays], np.ndarray | None]] = {
    "Add": _arithmetic(np.add),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Gather": _gather,
    "Hardmax": _flat_softmax,
    "Identity": _identity,
    "LRN": _lrn,
    "LogSoftmax": _flat_softmax,
    "MaxPool": _max_pool,
    "Mul": _arithmetic(np.multiply),
    "Softmax": _flat_softmax,
    "Squeeze": _squeeze,
    "Sub": _arithmetic(np.subtract),
    "Unsqueeze": _unsqueeze,
}
"""Operators done with NumPy alone; each gives None for inputs it leaves to onnx.reference. Those that only move
elements also work on arrays of objects, in which None is a number that is not known."""
