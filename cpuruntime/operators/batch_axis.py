"""Samples: whether a graph for a batch does the same to each part of it, and the graph that does it to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Graph, Node, PartialShape, Value
from cpuruntime.operators.shape_inference import reshape


def one_sample(graph: Graph) -> tuple[Graph, int] | None:
    """The graph for the first of the samples that a graph's inputs consist of, and how many they are.

    A batch of n has its samples one after the other: all inputs and outputs are n times as long in their first
    dimension as those of a sample. None when the shapes are not static, there is one sample only, or some node mixes
    samples or is not known to keep them apart.
    """
    if not graph.inputs or not all(value.is_static and value.static_shape for value in graph.inputs):
        return None
    counts = {value.static_shape[0] for value in graph.inputs}
    count = counts.pop()
    if counts or count < 2:
        return None
    sampled = _sampled(graph, count)
    if sampled is None:
        return None
    try:
        found = reshape(graph, {v.name: PartialShape([1, *v.static_shape[1:]]) for v in graph.inputs})
    except InvalidArgumentError:
        return None
    for node, of_one in zip(graph.nodes, found.nodes):
        for value, part in zip(node.outputs, of_one.outputs):
            if value in sampled and (not part.is_static or not _is_times(value, part, count)):
                return None
    return found, count


def _is_times(value: Value, part: Value, count: int) -> bool:
    """Whether a value is as long as `count` parts."""
    return value.static_shape == (count * part.static_shape[0], *part.static_shape[1:])


def _sampled(graph: Graph, count: int) -> set[Value] | None:
    """The values that follow from the inputs; None if one does not consist of `count` parts, each of one sample."""
    sampled = set(graph.inputs)
    for node in graph.nodes:
        if any(value in sampled for value in node.inputs if value is not None):
            rule = _RULES.get(node.op_type)
            if node.domain or rule is None or not all(_is_whole(value, count) for value in node.outputs):
                return None
            if not rule(node, [value is not None and value in sampled for value in node.inputs]):
                return None
            sampled.update(node.outputs)
    return sampled if all(value in sampled for value in graph.outputs) else None


def _is_whole(value: Value, count: int) -> bool:
    """Whether the first dimension of a value can be that of `count` samples."""
    return value.is_static and bool(value.static_shape) and value.static_shape[0] % count == 0


Rule = Callable[[Node, Sequence[bool]], bool]
"""Whether a node keeps samples apart, given which of its inputs consist of samples."""


def _elementwise(node: Node, sampled: Sequence[bool]) -> bool:
    """The first dimensions of samples meet each other, or one that is spread over all of them."""
    rank = len(node.outputs[0].static_shape)
    for value, is_sampled in zip(node.inputs, sampled):
        if value is None:
            continue
        shape = value.shape
        if shape is None or (is_sampled and len(shape) != rank):
            return False
        if not is_sampled and len(shape) == rank and shape[0] != 1:
            return False
    return _same_rows(node, sampled)


def _same_rows(node: Node, sampled: Sequence[bool]) -> bool:
    """Whether all that consists of samples is equally long in its first dimension."""
    inputs = [value for value, is_sampled in zip(node.inputs, sampled) if is_sampled and value is not None]
    return len({value.static_shape[0] for value in (*inputs, node.outputs[0])}) == 1


def _first_only(node: Node, sampled: Sequence[bool]) -> bool:
    """Only the data consists of samples; the operator works within what lies beneath the first dimension."""
    return sampled[0] and not any(sampled[1:]) and len(node.outputs) == 1


def _along_axis(default: int) -> Rule:
    """Data is worked on along an axis, or from an axis on, which is not the first."""

    def rule(node: Node, sampled: Sequence[bool]) -> bool:
        return _axis(node, default) != 0 and not any(sampled[1:]) and sampled[0]

    return rule


def _axis(node: Node, default: int) -> int:
    value = node.inputs[0]
    rank = len(value.static_shape) if value is not None and value.is_static else 0
    axis = int(node.attributes.get("axis", default))
    return axis + rank if axis < 0 else axis


def _softmax(node: Node, sampled: Sequence[bool]) -> bool:
    return _axis(node, -1 if node.version >= 13 else 1) != 0


def _axes(node: Node) -> list[int] | None:
    """The axes that an attribute or the second input names, from 0 on; None where they are not known."""
    value, given = node.inputs[0], node.attributes.get("axes")
    listed = node.input(1)
    if given is None and listed is not None and listed.constant is not None:
        given = listed.constant.reshape(-1).tolist()
    if not given or value is None or not value.is_static:
        return None
    rank = len(value.static_shape) + (len(given) if node.op_type == "Unsqueeze" else 0)
    return [axis + rank if axis < 0 else axis for axis in given]


def _beneath(node: Node, sampled: Sequence[bool]) -> bool:
    """The axes that are reduced, squeezed or made do not include the first."""
    axes = _axes(node)
    return axes is not None and 0 not in axes and not any(sampled[1:])


def _gemm(node: Node, sampled: Sequence[bool]) -> bool:
    bias = node.input(2)
    spread = bias is None or bias.shape is None or len(bias.shape) < 2 or bias.shape[0] == 1
    return not node.attributes.get("transA", 0) and not any(sampled[1:]) and spread


def _matmul(node: Node, sampled: Sequence[bool]) -> bool:
    left, right = node.inputs
    if left is None or right is None or left.shape is None or right.shape is None:
        return False
    ranks = len(left.shape), len(right.shape)
    if sampled[0] and sampled[1]:
        return ranks[0] == ranks[1] > 2 and left.shape[0] == right.shape[0]
    if sampled[0]:
        return ranks[0] >= 2 and (ranks[1] == 2 or (ranks[0] == ranks[1] > 2 and right.shape[0] == 1))
    return ranks[1] > 2 and (ranks[0] < ranks[1] or left.shape[0] == 1)


def _concat(node: Node, sampled: Sequence[bool]) -> bool:
    return all(sampled) and _axis(node, 0) != 0


def _gather(node: Node, sampled: Sequence[bool]) -> bool:
    """Rows of a table, for indices that are samples; or along another axis than the first."""
    if sampled[1]:
        return not sampled[0] and _axis(node, 0) == 0
    return _axis(node, 0) != 0


def _slice(node: Node, sampled: Sequence[bool]) -> bool:
    axes = node.input(3)
    given = node.attributes.get("axes") if axes is None else None if axes.constant is None else axes.constant.tolist()
    value = node.inputs[0]
    if not given or value is None or any(sampled[1:]):
        return False
    return all(axis % len(value.static_shape) for axis in given)


def _pad(node: Node, sampled: Sequence[bool]) -> bool:
    value, amounts = node.inputs[0], node.input(1)
    given = node.attributes.get("pads") if amounts is None else None if amounts.constant is None else amounts.constant
    if given is None or value is None or node.input(3) is not None or any(sampled[1:]):
        return False
    return not given[0] and not given[len(value.static_shape)]


def _transpose(node: Node, sampled: Sequence[bool]) -> bool:
    order = node.attributes.get("perm")
    return bool(order) and order[0] == 0


def _reshape(node: Node, sampled: Sequence[bool]) -> bool:
    return not any(sampled[1:])


def _flatten(node: Node, sampled: Sequence[bool]) -> bool:
    return True


def _normalised_batch(node: Node, sampled: Sequence[bool]) -> bool:
    return not node.attributes.get("training_mode", 0) and _first_only(node, sampled)


def _dropout(node: Node, sampled: Sequence[bool]) -> bool:
    return node.input(2) is None and sampled[0] and not any(sampled[1:])


def _same_first(node: Node, sampled: Sequence[bool]) -> bool:
    """Data is resized, or repeated, but not along the first dimension."""
    return _first_only(node, sampled) and _same_rows(node, sampled)


_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "Abs", "Acos", "Add", "And", "Asin", "Atan", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Equal",
            "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity",
            "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or",
            "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign",
            "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Where", "Xor",
        ),
        _elementwise,
    ),
    **dict.fromkeys(
        (
            "AveragePool", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalLpPool",
            "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpPool", "MaxPool", "SpaceToDepth",
        ),
        _first_only,
    ),
    **dict.fromkeys(("Resize", "Upsample", "Tile"), _same_first),
    **dict.fromkeys(
        (
            "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
            "ReduceProd", "ReduceSum", "ReduceSumSquare", "Squeeze", "Unsqueeze",
        ),
        _beneath,
    ),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    "ArgMax": _along_axis(0),
    "ArgMin": _along_axis(0),
    "BatchNormalization": _normalised_batch,
    "Concat": _concat,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "LayerNormalization": _along_axis(-1),
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _along_axis(0),
    "Transpose": _transpose,
}  # fmt: skip
