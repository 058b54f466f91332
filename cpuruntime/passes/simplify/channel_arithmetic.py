"""Batch normalisation and per-channel products and sums: into the weights before them, or one ScaleShift a chain."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Graph, Node, Value
from cpuruntime.passes.editor import Editor
from cpuruntime.passes.operators import WEIGHTED, internal, is_internal, no_activation
from cpuruntime.passes.simplify.affine import Affine, affine, data_of


def run(graph: Graph) -> bool:
    """Fold chains of constant arithmetic into the Conv or FullyConnected that feeds them alone; make a ScaleShift of
    the rest, but leave alone a single operation with one number, which is elementwise already."""
    editor = Editor(graph)
    done: set[Node] = set()
    with np.errstate(all="ignore"):
        for node in editor.nodes():
            data = data_of(node) if node not in done else None
            if data is None:
                continue
            maker = data.producer if _is_foldable(editor, data) else None
            chain, total = _chain(editor, node, -1 if is_internal(maker, "FullyConnected") else 1)
            if total is None and maker is not None:
                maker = None
                chain, total = _chain(editor, node, 1)
            if total is None:
                continue
            done.update(chain)
            if maker is not None:
                _fold(editor, maker, chain, total)
            elif _is_worth_it(chain, total):
                _scale_shift(editor, data, chain, total)
    return editor.finish()


def _chain(editor: Editor, node: Node, axis: int) -> tuple[list[Node], Affine | None]:
    """The operations from `node` on, each the only reader of the one before, and their composition."""
    chain: list[Node] = []
    total: Affine | None = None
    following: Node | None = node
    while following is not None and data_of(following) is not None:
        step = affine(following, axis)
        if step is None:
            break
        chain.append(following)
        total = step if total is None else total.then(step)
        following = editor.sole_user(following.outputs[0])
    return chain, total


def _is_foldable(editor: Editor, value: Value) -> bool:
    """Whether the maker of `value` has constant weights and nothing after them, and `value` one reader."""
    maker = value.producer
    if not is_internal(maker, *WEIGHTED, "GroupNorm") or editor.sole_user(value) is None:
        return False
    _, weights, bias, residual = maker.inputs
    constant = weights.constant is not None and (bias is None or bias.constant is not None)
    return constant and residual is None and not maker.attributes["activation"]


def _fold(editor: Editor, maker: Node, chain: list[Node], total: Affine) -> None:
    _, weights, bias, _ = maker.inputs
    axis = 1 if maker.op_type == "FullyConnected" else 0
    channels = weights.static_shape[axis]
    scale = np.broadcast_to(total.scale, (channels,))
    if (scale != 1).any():
        factor = scale.astype(np.float32).reshape([channels] + [1] * (weights.constant.ndim - 1) if axis == 0 else [-1])
        editor.set_input(maker, 1, editor.constant(f"{weights.name}/scaled", weights.constant * factor))
    shift = total.shift if bias is None else bias.constant.astype(np.float64) * scale + total.shift
    if bias is not None or shift.any():
        name = f"{maker.name}/bias" if bias is None else f"{bias.name}/scaled"
        editor.set_input(maker, 2, editor.constant(name, _vector(shift, channels)))
    for node in chain:
        editor.take_output(maker, node)


def _is_worth_it(chain: list[Node], total: Affine) -> bool:
    if chain[0].op_type == "BatchNormalization" or not total.is_scalar:
        return True
    return len(chain) > 1 and len(chain[0].outputs[0].shape or ()) > 2


def _scale_shift(editor: Editor, data: Value, chain: list[Node], total: Affine) -> None:
    channels = data.shape[1]
    scale = editor.constant(f"{chain[0].name}/scale", _vector(total.scale, channels))
    shift = editor.constant(f"{chain[0].name}/shift", _vector(total.shift, channels))
    node = internal("ScaleShift", chain[0], [data, scale, shift], chain[0].outputs[:1], no_activation())
    editor.replace(chain[0], node)
    for later in chain[1:]:
        editor.take_output(node, later)


def _vector(numbers: np.ndarray, channels: int) -> np.ndarray:
    return np.array(np.broadcast_to(numbers, (channels,)), np.float32)
