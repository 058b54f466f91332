"""Runs a graph with NumPy, before or after passes: what the passes are judged by.

Independent of the runtime's own evaluation for the operators that passes make and for the slow ones among ONNX's;
onnx.reference does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf, pi, prod, sqrt

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.operators.shape_inference import evaluate

Array = np.ndarray
Operators = dict[tuple[str, str], Callable[..., "np.ndarray | list[np.ndarray]"]]


def interpret(graph: Graph, feeds: Mapping[str, Array], fast: bool = False) -> dict[str, Array]:
    """The outputs of the graph by name. Checks that each result has the type and the shape that the graph states."""
    known: dict[Value, Array] = {value: feeds[value.name] for value in graph.inputs}

    def find(value: Value | None) -> Array | None:
        return None if value is None else known[value] if value.constant is None else value.constant

    uses = {value: len(nodes) for value, nodes in graph.uses().items()}
    for node in graph.nodes:
        arrays = [find(value) for value in node.inputs]
        results = run_node(node, arrays, OPERATORS | FAST if fast else OPERATORS)
        for value, array in zip(node.outputs, results):
            if value.name:
                assert value.element_type == array.dtype, f"{node}: {value} is {array.dtype}"
                assert value.shape is None or len(value.shape) == array.ndim, f"{node}: {value} is {array.shape}"
                assert all(a in (None, b) for a, b in zip(value.shape or (), array.shape)), f"{value}: {array.shape}"
                known[value] = array
        for value in node.inputs:
            if value in uses:
                uses[value] -= 1
                if not uses[value] and value not in graph.outputs:
                    known.pop(value, None)
    return {value.name: find(value) for value in graph.outputs}


def run_node(node: Node, arrays: list[Array | None], operators: Operators) -> list[Array]:
    function = operators.get((node.domain, node.op_type))
    if function is None:
        assert node.domain == "", f"no such operator: {node}"
        return evaluate(node, arrays)
    result = function(node, *arrays)
    if isinstance(result, list):
        return result
    return [activate(node, result) if "activation" in node.attributes else result]


def activate(node: Node, x: Array) -> Array:
    arguments = node.attributes["activation_arguments"]
    return ACTIVATIONS[node.attributes["activation"]](x, *arguments).astype(x.dtype)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


ACTIVATIONS: dict[str, Callable[..., Array]] = {
    "": lambda x: x,
    "Relu": lambda x: np.maximum(x, 0),
    "Clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "LeakyRelu": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "Sigmoid": sigmoid,
    "HardSigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Tanh": np.tanh,
    "Silu": lambda x: x * sigmoid(x),
    "Swish": lambda x, alpha: x * sigmoid(alpha * x),
    "Gelu": lambda x: x * 0.5 * (1 + np.vectorize(erf)(x.astype(np.float64) * sqrt(0.5))),
    "GeluTanh": lambda x: x * 0.5 * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x.astype(np.float64) ** 3))),
}


def convolution(node: Node, x: Array, w: Array, bias: Array | None, residual: Array | None) -> Array:
    a = node.attributes
    rank, group = x.ndim - 2, a["group"]
    assert list(w.shape[2:]) == a["kernel_shape"]
    x = padded(x, a["pads"], 0)
    windows = moved(x, a["kernel_shape"], a["strides"], a["dilations"])
    extents = windows.shape[2 : 2 + rank]
    windows = np.moveaxis(windows, 1, 1 + rank)  # batch, extents, channels, kernel
    inner, outer = x.shape[1] // group, w.shape[0] // group
    parts = []
    for index in range(group):
        columns = windows[(slice(None),) * (1 + rank) + (slice(index * inner, (index + 1) * inner),)]
        part = (
            columns.reshape(-1, inner * prod(w.shape[2:])) @ w[index * outer : (index + 1) * outer].reshape(outer, -1).T
        )
        parts.append(part.reshape(x.shape[0], -1, outer))
    result = np.moveaxis(np.concatenate(parts, 2), 2, 1).reshape(x.shape[0], w.shape[0], *extents)
    result = result if bias is None else result + bias.reshape(-1, *[1] * rank)
    if residual is None:
        return result
    assert residual.shape == result.shape
    return result + residual


def padded(x: Array, pads: list[int], value: float) -> Array:
    rank = x.ndim - 2
    return np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:])], constant_values=value)


def moved(x: Array, kernel: list[int], strides: list[int], dilations: list[int]) -> Array:
    """Every place of a window: batch, channels, places, offsets in the window."""
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations)]
    views = sliding_window_view(x, reach, tuple(range(2, x.ndim)))
    steps = [slice(None, None, s) for s in strides] + [slice(None, None, d) for d in dilations]
    return views[(slice(None), slice(None), *steps)]


def fully_connected(node: Node, x: Array, w: Array, bias: Array | None, residual: Array | None) -> Array:
    result = x @ w
    if bias is not None:
        assert bias.shape == w.shape[1:]
        result = result + bias
    if residual is not None:
        assert residual.shape == result.shape
        result = result + residual
    return result


def scale_shift(node: Node, x: Array, scale: Array, shift: Array) -> Array:
    assert scale.shape == shift.shape == x.shape[1:2]
    return x * scale.reshape(-1, *[1] * (x.ndim - 2)) + shift.reshape(-1, *[1] * (x.ndim - 2))


def normalised(node: Node, x: Array, scale: Array | None, shift: Array | None) -> Array:
    """LayerNorm and RmsNorm."""
    axis = node.attributes["axis"]
    axes = tuple(range(axis, x.ndim))
    y = x.astype(np.float64)
    y = y - y.mean(axes, keepdims=True) if node.op_type == "LayerNorm" else y
    y = y / np.sqrt((y * y).mean(axes, keepdims=True) + node.attributes["epsilon"])
    y = y if scale is None else y * scale.reshape(x.shape[axis:])
    return (y if shift is None else y + shift.reshape(x.shape[axis:])).astype(x.dtype)


def attention(node: Node, query: Array, key: Array, value: Array, mask: Array | None) -> Array:
    a = node.attributes
    lead, queries, keys = (a["batch"], a["heads"]), a["queries"], a["keys"]

    def view(array: Array, name: str, *matrix: int) -> Array:
        offset, *strides = a[name]
        flat = np.ascontiguousarray(array).reshape(-1)
        assert offset + sum((n - 1) * s for n, s in zip((*lead, *matrix), strides)) < flat.size
        return as_strided(flat[offset:], (*lead, *matrix), [s * array.itemsize for s in strides])

    q, k = view(query, "query", queries, a["depth"]), view(key, "key", keys, a["depth"])
    v = view(value, "value", keys, a["width"])
    scores = q.astype(np.float64) @ k.swapaxes(2, 3) * a["scale"]
    if mask is not None:
        scores = scores + view(mask, "mask", queries, keys)
    if a["causal"]:
        scores = np.where(np.arange(keys) <= np.arange(queries)[:, None] + a["offset"], scores, -np.inf)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    result = np.full(node.outputs[0].static_shape, np.nan, query.dtype)
    view(result, "target", queries, a["width"])[...] = e / e.sum(-1, keepdims=True) @ v
    return result


def elementwise(node: Node, *inputs: Array) -> Array:
    """Each instruction as ONNX defines its operator, on the inputs as their views say."""
    shape = node.outputs[0].static_shape
    known: dict[str, Array] = {f"p{i}": np.float32(number) for i, number in enumerate(node.attributes["numbers"])}
    for letter, array, view in zip("abcdefgh", inputs, node.attributes["views"]):
        if view is None:
            assert np.broadcast_shapes(array.shape, shape) == shape
            known[letter] = array
            continue
        offset, *strides = view
        assert offset + sum((n - 1) * s for n, s in zip(shape, strides)) < array.size
        flat = np.ascontiguousarray(array).reshape(-1)
        known[letter] = as_strided(flat[offset:], shape, [s * array.itemsize for s in strides])
    result = np.zeros(())
    for index, (op, operands) in enumerate(node.attributes["expression"]):
        result = known[f"t{index}"] = instruction(op, [known[operand] for operand in operands])
    return np.broadcast_to(result, shape)


def instruction(op: str, x: list[Array]) -> Array:
    if op in INSTRUCTIONS:
        return INSTRUCTIONS[op](*x)
    if op == "Clip":
        return np.minimum(np.maximum(x[0], x[1]), x[2])
    names = {"Selu": ("alpha", "gamma"), "Shrink": ("lambd", "bias")}.get(op, ("alpha", "beta"))
    attributes = {} if op in BINARY else {name: float(number) for name, number in zip(names, x[1:])}
    arrays = x if op in BINARY else x[:1]
    values = [Value(f"x{index}") for index in range(len(arrays))]
    return evaluate(Node(op, op, values, [Value("y")], attributes, "", 22), [np.asarray(a) for a in arrays])[0]


BINARY = ("Add", "Div", "Max", "Min", "Mul", "Pow", "PRelu", "Sub", "Equal", "Greater", "GreaterOrEqual", "Less",
          "LessOrEqual", "And", "Or", "Xor", "Where")  # fmt: skip
INSTRUCTIONS: dict[str, Callable[..., Array]] = {
    "GeluTanh": lambda x: ACTIVATIONS["GeluTanh"](x).astype(x.dtype),
    "Silu": lambda x: (x * sigmoid(x)).astype(x.dtype),
    "Square": lambda x: x * x,
    "Swish": lambda x, alpha: (x * sigmoid(alpha * x)).astype(x.dtype),
    "ToBool": lambda x: x != 0,
    "ToFloat": lambda x: x.astype(np.float32),
    "RealU8": lambda x, zero, scale: (x.astype(np.float32) - zero) * scale,
    "RealI8": lambda x, zero, scale: (x.astype(np.float32) - zero) * scale,
    "ToU8": lambda x, zero, low, high: as_bytes(x, zero, low, high).astype(np.uint8),
    "ToI8": lambda x, zero, low, high: as_bytes(x, zero, low, high).astype(np.int8),
}


def as_bytes(x: Array, zero: Array, low: Array, high: Array) -> Array:
    return (np.rint(np.minimum(np.maximum(x, low), high)) + zero).astype(np.int32)


def channel_shuffle(node: Node, x: Array) -> Array:
    group, channels = node.attributes["group"], x.shape[1]
    return x[:, [(i % group) * (channels // group) + i // group for i in range(channels)]]


def pool(node: Node, x: Array) -> Array:
    a = node.attributes
    axes, rank = tuple(range(-(x.ndim - 2), 0)), x.ndim - 2
    if a["ceil_mode"]:  # the end may reach further than the pads say
        reach = [d * (k - 1) + 1 for k, d in zip(a["kernel_shape"], a["dilations"])]
        spans = [(n - 1) * s + r for n, s, r in zip(node.outputs[0].static_shape[2:], a["strides"], reach)]
        sizes = [n + a["pads"][i] + a["pads"][i + rank] for i, n in enumerate(x.shape[2:])]
        beyond = [max(0, span - size) for span, size in zip(spans, sizes)]
    else:
        beyond = [0] * rank
    window = (a["kernel_shape"], a["strides"], a["dilations"])

    def windows(array: Array, inside: float, outside: float) -> Array:
        extended = padded(padded(array, a["pads"], inside), [0] * rank + beyond, outside)
        places = moved(extended, *window)
        return places[(slice(None), slice(None), *(slice(0, n) for n in node.outputs[0].static_shape[2:]))]

    if node.op_type == "MaxPool":
        return windows(x, -np.inf, -np.inf).max(axes)
    counts = windows(np.ones_like(x[:1, :1]), float(a["count_include_pad"]), 0).sum(axes)
    return (windows(x, 0, 0).sum(axes, np.float64) / counts).astype(x.dtype)


def window_pool(node: Node, x: Array) -> list[Array]:
    """As the operator of ONNX that it was."""
    power, attributes = node.attributes["power"], {k: v for k, v in node.attributes.items() if k != "power"}
    op_type, outputs = "LpPool" if power else "MaxPool", [Value(value.name) for value in node.outputs]
    return evaluate(Node(op_type, node.name, node.inputs, outputs, attributes, "", 18), [x])


def image(node: Node, x: Array, mean: Array | None, scale: Array | None) -> Array:
    """By ONNX's Resize of all channels, of which some are taken."""
    a, others = dict(node.attributes), ("axes", "order", "rounds", "first", "step")
    axes, order, rounds, first, step = (a.pop(name) for name in others)
    target = node.outputs[0].static_shape
    channels, height, width = (target[order.index(i)] for i in (1, 2, 3))
    x = x.transpose(axes).astype(np.float32)
    sizes = Value.of("sizes", np.array([*x.shape[:2], height, width]))
    resize = Node("Resize", node.name, [Value("x"), None, None, sizes], [Value("y", Type.f32)], a, "", 19)
    x = evaluate(resize, [x, None, None, sizes.data])[0]
    x = np.clip(np.rint(x), 0, 255) if rounds else x
    x = x[:, [first + step * c for c in range(channels)]]
    x = x if mean is None else x - mean.reshape(-1, 1, 1)
    return (x if scale is None else x / scale.reshape(-1, 1, 1)).transpose(order)


def byte_sums(node: Node, x: Array, matrix: Array) -> Array:
    axis, bits = node.attributes["axis"], node.attributes["bits"]
    sums = np.moveaxis(np.tensordot(matrix.astype(np.int64), x.astype(np.int64), (1, axis)), 0, axis)
    return np.clip((sums + (1 << (bits - 1))) >> bits, 0, 255).astype(np.uint8)


def any_softmax(node: Node, x: Array) -> Array:
    """onnx.reference ignores that before opset 13 all axes from `axis` on count as one."""
    if node.version >= 13:
        return evaluate(node, [x])[0]
    axis = node.attributes.get("axis", 1) % x.ndim
    rows = x.reshape(prod(x.shape[:axis]), -1)
    flat = Node(node.op_type, node.name, node.inputs, [Value("y")], {"axis": 1}, "", 13)
    return evaluate(flat, [rows])[0].reshape(x.shape)


def batch_normalization(node: Node, x: Array, *parameters: Array) -> Array:
    """Inference; onnx.reference takes that of opsets 9 to 13 for training."""
    assert not node.attributes.get("training_mode", 0)
    assert len(node.outputs) == 1
    shape = (1, *x.shape[1:]) if node.attributes.get("spatial", 1) == 0 else (-1, *[1] * (x.ndim - 2))
    scale, shift, mean, variance = (array.astype(np.float64).reshape(shape) for array in parameters)
    result = (x - mean) / np.sqrt(variance + node.attributes.get("epsilon", 1e-5)) * scale + shift
    return result.astype(x.dtype)


def softmax(node: Node, x: Array) -> Array:
    assert node.version >= 13
    e = np.exp(x - x.max(node.attributes["axis"], keepdims=True))
    return e / e.sum(node.attributes["axis"], keepdims=True)


def lrn(node: Node, x: Array) -> Array:
    size, channels = node.attributes["size"], x.shape[1]
    squares = np.pad(x.astype(np.float64) ** 2, [(0, 0), ((size - 1) // 2, size // 2), (0, 0), (0, 0)])
    total = sum(squares[:, i : i + channels] for i in range(size))
    alpha, beta, bias = (node.attributes[name] for name in ("alpha", "beta", "bias"))
    return (x / (bias + alpha / size * total) ** beta).astype(x.dtype)


OPERATORS: Operators = {
    ("cpuruntime", "Conv"): convolution,
    ("cpuruntime", "FullyConnected"): fully_connected,
    ("cpuruntime", "ScaleShift"): scale_shift,
    ("cpuruntime", "Add"): lambda node, a, b: a + b,
    ("cpuruntime", "ByteSums"): byte_sums,
    ("cpuruntime", "ChannelShuffle"): channel_shuffle,
    ("cpuruntime", "Elementwise"): elementwise,
    ("cpuruntime", "Silu"): lambda node, x: (x * sigmoid(x)).astype(x.dtype),
    ("cpuruntime", "Attention"): attention,
    ("cpuruntime", "Image"): image,
    ("cpuruntime", "LayerNorm"): normalised,
    ("cpuruntime", "RmsNorm"): normalised,
    ("cpuruntime", "Reshape"): lambda node, x: x.reshape(node.outputs[0].static_shape),
    ("cpuruntime", "WindowPool"): window_pool,
    ("", "BatchNormalization"): batch_normalization,
    ("", "Softmax"): any_softmax,
    ("", "LogSoftmax"): any_softmax,
    ("", "Hardmax"): any_softmax,
    ("", "Mean"): lambda node, *arrays: sum(arrays[1:], arrays[0]) / arrays[0].dtype.type(len(arrays)),
}

# Only for whole models after the passes, where onnx.reference would take minutes.
FAST = {
    ("", "MaxPool"): pool,
    ("", "AveragePool"): pool,
    ("", "LRN"): lrn,
    ("", "Softmax"): softmax,
    ("", "GlobalAveragePool"): lambda node, x: x.mean(tuple(range(2, x.ndim)), keepdims=True),
}
