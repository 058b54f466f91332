"""From nodes to launches: the lowering of each operator, and why a node has none."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

from cpuruntime.devices.gpu.kernels.functions import FUNCTIONS, WHOLE
from cpuruntime.devices.gpu.kernels.prelude import supports
from cpuruntime.devices.gpu.kernels.rows import REDUCTIONS
from cpuruntime.devices.gpu.lower import (
    attention,
    convolution,
    elementwise,
    movement,
    product,
    recurrent,
    rows,
    windows,
)
from cpuruntime.devices.gpu.lower.emitter import Emitter, is_view
from cpuruntime.graph import Kind, Node, Type, Value
from cpuruntime.operators.traits import DOMAIN, traits_of
from cpuruntime.program.lowerings.resize import check_resize

MOST = 2**31 - 2**16
"""Elements that the ints of kernels count."""

Check = Callable[[Node], "str | None"]


class Lowering(NamedTuple):
    """`run` writes launches; `check` gives the reason for which it cannot."""

    run: Callable[[Emitter, Node], None]
    check: Check | None = None
    only_floats: bool = False


_VIEW = Lowering(movement.lower_view)
_OPERATOR = Lowering(elementwise.lower_operator, elementwise.check_operator)
_ARGMAX = Lowering(rows.lower_argmax, rows.check_argmax)
_REDUCE = Lowering(rows.lower_reduce, rows.check_reduce)
_POOL = Lowering(windows.lower_pool, windows.check_pool, only_floats=True)
_SOFTMAX = Lowering(rows.lower_softmax, rows.check_softmax, only_floats=True)

_INTERNAL: dict[str, Lowering] = {
    "Add": _OPERATOR,
    "Attention": Lowering(attention.lower_attention, attention.check_attention),
    "ChannelShuffle": Lowering(movement.lower_channel_shuffle),
    "Conv": Lowering(convolution.lower_convolution, convolution.check_convolution),
    "ConvTranspose": Lowering(convolution.lower_transposed, convolution.check_convolution),
    "Elementwise": Lowering(elementwise.lower_chain, elementwise.check_chain),
    "FullyConnected": Lowering(product.lower_fully_connected, product.check_fully_connected),
    "GroupNorm": Lowering(rows.lower_group_norm, rows.check_group_norm),
    "LayerNorm": Lowering(rows.lower_layer_norm),
    "Reshape": _VIEW,
    "RmsNorm": Lowering(rows.lower_layer_norm),
    "ScaleShift": _OPERATOR,
    "Silu": _OPERATOR,
}

_ONNX: dict[str, Lowering] = {
    "ArgMax": _ARGMAX,
    "ArgMin": _ARGMAX,
    "AveragePool": _POOL,
    "Cast": _OPERATOR,
    "Concat": Lowering(movement.lower_concat),
    "ConstantOfShape": Lowering(movement.lower_fill),
    "DepthToSpace": Lowering(movement.lower_depth_to_space),
    "Expand": Lowering(movement.EXPAND),
    "GRU": Lowering(recurrent.lower_gru, recurrent.check_recurrent, only_floats=True),
    "Gather": Lowering(movement.lower_gather, movement.check_gather),
    "GatherElements": Lowering(movement.lower_gather_elements, movement.check_gather_elements),
    "GlobalAveragePool": _REDUCE,
    "GlobalMaxPool": _REDUCE,
    "LRN": Lowering(rows.lower_lrn, only_floats=True),
    "LSTM": Lowering(recurrent.lower_lstm, recurrent.check_recurrent, only_floats=True),
    "LogSoftmax": _SOFTMAX,
    "MatMul": Lowering(product.lower_matmul, only_floats=True),
    "MaxPool": _POOL,
    "Pad": Lowering(movement.lower_pad, movement.check_pad),
    "Resize": Lowering(windows.lower_resize, check_resize),
    "Slice": Lowering(movement.SLICE, movement.check_numbers),
    "Softmax": _SOFTMAX,
    "SpaceToDepth": Lowering(movement.lower_space_to_depth),
    "Split": Lowering(movement.lower_split, movement.check_numbers),
    "Tile": Lowering(movement.lower_tile),
    "Transpose": Lowering(movement.TRANSPOSE),
    **dict.fromkeys(REDUCTIONS, _REDUCE),
    **dict.fromkeys(("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"), _VIEW),
}


def find(node: Node) -> Lowering | None:
    """The lowering of an operator; None for one that has none."""
    if node.domain == DOMAIN:
        return _INTERNAL.get(node.op_type)
    if node.domain:
        return None
    is_operator = traits_of(node).elementwise and (node.op_type in FUNCTIONS or node.op_type in WHOLE)
    return _ONNX.get(node.op_type) or (_OPERATOR if is_operator else None)


def reason(node: Node) -> str | None:
    """Why a node has no kernel; None where it has one. The sentence has no end."""
    lowering = find(node)
    if lowering is None:
        return f"no kernel for {node.op_type}"
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    for value in values:
        found = _reason_of(node, value)
        if found is not None:
            return found
    if is_view(node):
        return None
    if lowering.only_floats and any(value.element_type != Type.f32 for value in (node.require(0), *node.outputs)):
        return f"{node.op_type} has a kernel for f32"
    return lowering.check(node) if lowering.check else None


def _reason_of(node: Node, value: Value) -> str | None:
    if not value.name and value in node.outputs:
        return None
    if value.kind is not Kind.TENSOR or value.shape is None or not value.is_static:
        return f"{node.op_type} has kernels for known shapes"
    if not supports(value.element_type):
        return f"{node.op_type} has no kernel for {value.element_type.get_type_name()}"
    return f"{value.name} has too many elements" if prod(value.static_shape) > MOST else None
