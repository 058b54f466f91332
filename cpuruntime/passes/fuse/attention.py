"""Recognises attention: softmax(query @ key^T * scale + mask) @ value, with the moves of heads around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from cpuruntime.graph import Node, Type, Value
from cpuruntime.operators.shape_rules import broadcast
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.fuse.strided_views import Step, Strided, StridedView, find_view, scaled
from cpuruntime.passes.operators import all_f32, internal, is_internal, is_onnx, scalar

NEVER = -1e4
"""A summand that leaves a key no weight."""
ABSORBS = -1e9
"""A summand that makes any score itself."""


@dataclass
class _Scores:
    """What leads to the scores: masks to add, the product's two sides, the factor, and the nodes passed."""

    masks: list[Value] = field(default_factory=list)
    new_nodes: list[Node] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    factor: float = 1.0
    shape: tuple[int, ...] = ()
    product: Node | None = None


@sweep
def run(editor: Editor, node: Node) -> None:
    """MatMul, Softmax, MatMul -> Attention. The scale may be anywhere around the first product; masks are added, or
    put in by Where; views of queries, keys, values and of the result become strides."""
    if not is_onnx(node, "MatMul") or not all_f32(*node.inputs, *node.outputs):
        return
    weights, value = node.inputs
    weights, passed = _through_reshape(editor, weights)
    softmax = weights.producer
    if not is_onnx(softmax, "Softmax") or editor.sole_user(weights) is None or not weights.is_static:
        return
    rank = len(weights.static_shape)
    if softmax.version < 13 or softmax.attributes.get("axis", -1) % rank != rank - 1:
        return
    scores = _scores(editor, softmax.inputs[0])
    if scores is None or scores.product is None or 0 in scores.shape:
        return
    scores.nodes += [softmax, *passed]
    _replace(editor, node, scores, value)


def _through_reshape(editor: Editor, value: Value) -> tuple[Value, list[Node]]:
    """Past a Reshape that only takes the heads together or apart."""
    node = value.producer
    if is_internal(node, "Reshape") and editor.sole_user(value) is not None:
        source = node.inputs[0]
        if source.is_static and len(source.static_shape) > 2 and source.static_shape[-2:] == value.static_shape[-2:]:
            return source, [node]
    return value, []


def _scores(editor: Editor, value: Value) -> _Scores | None:
    """Follows the input of the softmax back to a product."""
    found = _Scores(shape=value.shape)
    while True:
        value, passed = _through_reshape(editor, value)
        found.nodes += passed
        node = value.producer
        if not value.is_static or node is None or editor.sole_user(value) is None:
            return None
        if len(value.static_shape) > len(found.shape):
            found.shape = value.static_shape
        if is_onnx(node, "MatMul"):
            found.product = node
            found.nodes.append(node)
            return found if len(found.shape) <= 4 else None
        step, number = (scaled(node) if is_onnx(node, "Mul", "Div") else None) or (None, 1.0)
        step = step or _added(editor, node, found) or _replaced(editor, node, found)
        if step is None or step.shape != value.shape:
            return None
        found.nodes.append(node)
        found.factor *= number
        value = step


def _leads_to_scores(value: Value) -> bool:
    while True:
        node = value.producer
        if is_internal(node, "Reshape"):
            value = node.inputs[0]
        elif is_onnx(node, "MatMul"):
            return True
        elif is_onnx(node, "Add", "Mul", "Div"):
            value = next((v for v in node.inputs if v.constant is None), node.inputs[0])
            if any(v.constant is None and v is not value for v in node.inputs):
                return any(_leads_to_scores(v) for v in node.inputs if v.constant is None)
        elif is_onnx(node, "Where"):
            return any(_leads_to_scores(v) for v in node.inputs[1:] if v.constant is None)
        else:
            return False


def _added(editor: Editor, node: Node, found: _Scores) -> Value | None:
    if not is_onnx(node, "Add") or found.factor != 1:
        return None
    for scores, mask in zip(node.inputs, node.inputs[::-1]):
        if scores.constant is None and scores.shape == node.outputs[0].shape and _leads_to_scores(scores):
            found.masks.append(mask)
            return scores
    return None


def _replaced(editor: Editor, node: Node, found: _Scores) -> Value | None:
    """Where(condition, scores, number) and Where(condition, number, scores)."""
    if not is_onnx(node, "Where"):
        return None
    condition, *branches = node.inputs
    for index, scores in enumerate(branches):
        number = scalar(branches[1 - index])
        if number is None or not number <= NEVER or scores.shape != node.outputs[0].shape:
            continue
        if found.factor != 1 and not number * found.factor <= ABSORBS:
            continue
        parts = [0.0, number] if index == 0 else [number, 0.0]
        if condition.constant is not None:
            array = np.where(condition.constant, *np.array(parts, np.float32)).astype(np.float32)
            if number > ABSORBS and not (array == 0).any(-1).all():
                return None
            found.masks.append(editor.constant(f"{node.name}/mask", array))
            return scores
        if number > ABSORBS:
            return None
        operands = [editor.constant(f"{node.name}/part", np.array(part, np.float32)) for part in parts]
        mask = editor.value(f"{node.name}/mask", Type.f32, condition.shape)
        new = Node("Where", f"{node.name}/mask", [condition, *operands], [mask], {}, "", 16, node.origins)
        found.new_nodes.append(new)
        found.masks.append(mask)
        return scores
    return None


def _replace(editor: Editor, node: Node, scores: _Scores, value: Value) -> None:
    product = scores.product
    query, key = product.inputs
    lead, (queries, keys) = (1, 1, *scores.shape[:-2])[-2:], scores.shape[-2:]
    depth, width = query.static_shape[-1], value.static_shape[-1]
    if min(len(query.static_shape), len(key.static_shape), len(value.static_shape)) < 2:
        return
    if prod(node.outputs[0].static_shape) != prod((*lead, queries, width)):
        return
    views = [
        find_view(query, _headed(lead, (queries, depth)), lambda s: s[3] in (0, 1), with_factor=True),
        find_view(key, _headed(lead, (depth, keys)), lambda s: s[3] in (0, 1) or s[2] in (0, 1), with_factor=True),
        find_view(value, _headed(lead, (keys, width)), lambda s: s[3] in (0, 1)),
    ]
    masks = _masks(editor, node, scores, (*lead, queries, keys))
    if masks is None or any(view is None for view in views):
        return
    mask, causal, offset = masks
    q, k, v = views
    order = (*k.strides[:2], k.strides[3], k.strides[2] if depth > 1 else 1)  # of the key itself, not turned
    attributes = {
        "batch": lead[0], "heads": lead[1], "queries": queries, "keys": keys, "depth": depth, "width": width,
        "scale": scores.factor * q.factor * k.factor, "causal": int(causal), "offset": offset,
        "query": q.numbers(), "key": [k.offset, *order], "value": v.numbers(),
        "mask": mask.numbers() if mask is not None else [0] * 5,
    }  # fmt: skip
    if all("precision" in each.attributes for each in (product, node)):
        attributes["precision"] = node.attributes["precision"]
    inputs = [q.base, k.base, v.base, None if mask is None else mask.base]
    attention = internal("Attention", node, inputs, node.outputs, attributes, (*reversed(scores.nodes), node))
    editor.replace(node, *scores.new_nodes, attention)
    _take_moves(editor, attention, (*lead, queries, width))


def _headed(lead: tuple[int, ...], matrix: tuple[int, int]) -> Step:
    """The step that gives a value two leading axes, batch and heads, before its matrices."""

    def step(array: Strided) -> Strided | None:
        if len(array.shape) == 3 and array.shape[0] == lead[0] * lead[1] and lead[0] > 1:
            return array.reshape((*lead, *matrix))
        return array.broadcast((*lead, *matrix))

    return step


def _masks(
    editor: Editor, node: Node, scores: _Scores, shape: tuple[int, ...]
) -> tuple[StridedView | None, bool, int] | None:
    """The sum of the masks that are no causal mask; whether there is a causal one, and its offset."""
    causal, offset, left = False, 0, []
    for mask in scores.masks:
        if not mask.is_static or not all_f32(mask):
            return None
        found = None if causal or mask.constant is None else _causal_offset(mask.constant, shape)
        if found is None:
            left.append(mask)
        else:
            causal, offset = True, found
    while len(left) > 1:
        pair = left[:2]
        extents = broadcast(*(mask.static_shape for mask in pair))
        total = editor.value(f"{node.name}/masks", Type.f32, extents)
        scores.new_nodes.append(Node("Add", f"{node.name}/masks", pair, [total], {}, "", 14, node.origins))
        left[:2] = [total]
    if not left:
        return None, causal, offset
    view = find_view(left[0], lambda array: array.broadcast(shape), lambda s: s[3] in (0, 1))
    return None if view is None else (view, causal, offset)


def _causal_offset(mask: np.ndarray, shape: tuple[int, ...]) -> int | None:
    """o when the mask lets query i see exactly the keys up to i + o."""
    if mask.ndim < 2 or mask.shape[-2:] != shape[-2:] or mask.size != shape[-2] * shape[-1]:
        return None
    plane = mask.reshape(shape[-2:])
    offset = int((plane[0] == 0).sum()) - 1
    seen = np.arange(shape[-1]) <= np.arange(shape[-2])[:, None] + offset
    fits = offset >= 0 and (plane[seen] == 0).all() and (plane[~seen] <= NEVER).all()
    return offset if fits else None


def _take_moves(editor: Editor, attention: Node, shape: tuple[int, ...]) -> None:
    """Lets the result be written as the Transpose after it arranges it."""
    target = [0, *Strided.contiguous(shape).strides]
    users: list[Node] = []
    output = attention.outputs[0]
    while len(users) < 2:
        user = editor.sole_user(output)
        if not is_internal(user, "Reshape") and not is_onnx(user, "Transpose"):
            break
        users.append(user)
        output = user.outputs[0]
        if is_onnx(user, "Transpose"):
            strides = _written_as(users, shape)
            if strides is not None and strides[3] in (0, 1):
                target = [0, *strides]
                for taken in users:
                    editor.take_output(attention, taken)
            break
    attention.attributes["target"] = target


def _written_as(users: list[Node], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides by which a result of `shape` becomes, through the moves of `users`, contiguous."""
    last = users[-1]
    perm = last.attributes.get("perm") or list(range(len(last.outputs[0].static_shape)))[::-1]
    inverse = sorted(range(len(perm)), key=lambda axis: perm[axis])
    view = Strided.contiguous(last.outputs[0].static_shape).transpose(inverse).reshape(shape)
    return None if view is None else view.strides
