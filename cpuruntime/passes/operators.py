"""The operators that only the passes make, in a domain of their own.

Their values are f32, except what Image reads, the bytes of ByteSums, Reshape's and WindowPool's, which may have any
type, and the bytes, u8 or i8, of quantised operators. Convolutional data are N, C, then the spatial axes.

| operator | inputs | meaning |
|---|---|---|
| Conv | x, w, bias or None, residual or None | ONNX's Conv with all attributes present and `pads` explicit |
| ConvTranspose | as Conv | ONNX's ConvTranspose; the weights have Conv's order, output channels first |
| FullyConnected | x[..., K], w[K, N], bias[N] or None, residual or None | `x @ w + bias + residual` |
| ScaleShift | x, scale[C], shift[C] | `x * scale + shift` along axis 1 |
| Add | a, b | ONNX's Add, broadcasting, followed by an activation |
| GroupNorm | x, scale[C], shift[C], None | ONNX's GroupNormalization in `groups` groups of channels |
| Silu | x | `x * sigmoid(x)` |
| LayerNorm | x, scale or None, shift or None | `(x - mean) / sqrt(variance + epsilon) * scale + shift` from `axis` on |
| RmsNorm | x, scale or None, shift or None | `x / sqrt(mean square + epsilon) * scale + shift` from `axis` on |
| Softmax | x | ONNX's Softmax along the last axis, as bytes |
| Attention | query, key, value, mask or None | `softmax(scale * query @ key^T + mask) @ value` for each head |
| ChannelShuffle | x | channels seen as `group` x C/`group` and transposed |
| DeformColumns | x, offsets, mask or None | what a DeformConv reads under its windows, [N, groups, C, windows] |
| Elementwise | a, b, ... | `expression` of the inputs, element by element |
| Quantise | x | bytes: `x / y_scale`, stored |
| Dequantise | bytes | `(x - x_zero) * x_scale` |
| ByteTable | bytes, 256 bytes | what the table has for each byte, seen as u8 |
| QuantisedAveragePool | bytes | the sum of `x - x_zero` under a window times `multiplier` / their number, stored |
| QuantisedConvolution | x, weights, multiplier, bias or None, residual or None | below |
| QuantisedMatMul | a, b, multiplier, bias or None, scale or None, zero point or None | below |
| Image | x of u8, means or None, scales or None | a resized image of which channels are moved, less a mean, divided |
| ByteSums | x of u8, matrix of i32 | bytes along `axis`: `(matrix @ x + half) >> bits`, between 0 and 255 |
| Reshape | x | the same elements in the shape of the output |
| WindowPool | x | ONNX's LpPool of that `power`, or MaxPool where it is 0, which may give indices, too |

Those before Silu have the attributes `activation` ("" or a function whose row in `operators.traits` has an `epilogue`)
and `activation_arguments` (floats). A residual has exactly the shape of the output and is added before the activation.
w and bias may be any array views: transposed, or with strides of zero.

QuantisedConvolution reads bytes [N, C, ...], constant bytes as weights [M, C / group, ...], `multiplier` [M], and bias
[M], i32 or f32, and residual bytes of the output's shape or None. It has a Conv's attributes, `x_zero`, `weights_zero`
([] or one for each output channel), `residual_scale` and `residual_zero`. With `inner`, [scale, low, high], what a
residual is added to is limited, rounded and multiplied by the scale before. QuantisedMatMul reads bytes a [.., M, K]
and b [K, N] or [.., K, N], `multiplier` (scalar or [N]), and None or a bias [N], a scale and a zero point of a's rows
that are computed (scalar or [M]); `a_zero` is a number, `b_zero` [] or one or N of them. The exact sum of products less
zero points, plus a bias of i32, becomes float32, times the multiplier (and the rows' scale), plus a bias of f32, plus
`residual_scale * (residual - residual_zero)`; f32 outputs may have an activation, others are stored.
LayerNorm, RmsNorm and Softmax with a `y_scale` are divided by it and stored.
Stored: rounded to even, plus `y_zero`, within `low` .. `high`, where NaN is `low`. `operators.evaluation.quantised`
computes what kernels do to the bit.

Image has the attributes of a Resize. Its `axes` are those of x for batch, channels, rows and columns; axis i of the
result is `order[i]` of these. Channel c is x's `first + c * step`. With `rounds` the resized image is rounded to bytes.

Elementwise has an expression of `ops.fused`, whose numbers are `numbers`. `views` has an entry for each input: None
where the input broadcasts to the output's shape, else offset and strides, counted in elements, along the output's axes.

Attention's inputs and output lie in memory as its attributes `query`, `key`, `value`, `mask` and `target` say: offset
and strides, counted in elements, along batch, head, row and column of [batch, heads, queries, depth],
[.., keys, depth], [.., keys, width], [.., queries, keys] and [.., queries, width]. The last stride is 1; but of a key 1
is the last or the one before, and a mask's strides may be 0. With `causal`, query i sees the keys up to i + `offset`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cpuruntime.graph import Node, Type, Value
from cpuruntime.operators.traits import DOMAIN as DOMAIN

# Operators with weights, a bias and a residual; those and others apply an activation.
WEIGHTED = ("Conv", "ConvTranspose", "FullyConnected")
ACTIVATED = ("Add", *WEIGHTED, "GroupNorm", "ScaleShift")


def is_onnx(node: Node | None, *op_types: str) -> bool:
    """Whether `node` is one of ONNX's own operators named."""
    return node is not None and node.op_type in op_types and node.domain == ""


def is_internal(node: Node | None, *op_types: str) -> bool:
    """Whether `node` is one of the named operators of this domain."""
    return node is not None and node.op_type in op_types and node.domain == DOMAIN


def internal(
    op_type: str,
    like: Node,
    inputs: Iterable[Value | None],
    outputs: Iterable[Value],
    attributes: dict[str, Any] | None = None,
    merged: Iterable[Node] = (),
) -> Node:
    """A node of this domain that stands where `like` stood: with its name, and its origins or those of `merged`."""
    return Node(op_type, like.name, inputs, outputs, attributes, DOMAIN, 1, merge_origins(*merged or (like,)))


def no_activation() -> dict[str, Any]:
    """The attributes of an operator that has no activation yet."""
    return {"activation": "", "activation_arguments": []}


def all_f32(*values: Value | None) -> bool:
    """Whether all values that are present are f32."""
    return all(value is None or value.element_type is Type.f32 for value in values)


def scalar(value: Value | None) -> float | None:
    """The number that a constant of one element holds; None for anything else."""
    if value is None or value.constant is None or value.constant.size != 1 or value.constant.dtype == object:
        return None
    return float(value.constant.reshape(()))


def runs(numbers: Iterable[int]) -> list[list[int]]:
    """The numbers in their order, those together that count up by one."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] + 1 == number:
            found[-1].append(number)
        else:
            found.append([number])
    return found


def merge_origins(*nodes: Node) -> list[str]:
    """The origins of all nodes, each once, in order."""
    return list(dict.fromkeys(origin for node in nodes for origin in node.origins))
