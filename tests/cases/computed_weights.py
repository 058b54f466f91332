"""Layers whose weights are inputs: convolutions, normalisations, recurrent ones; products of other types."""

from __future__ import annotations

from typing import Any

import numpy as np

from cases.case import Case, Tensor

PER_CHANNEL = (Tensor((6,)), Tensor((6,)))


def _convolution(name: str, x: tuple[int, ...], weights: tuple[int, ...], operator: str = "Conv", **more: Any) -> Case:
    outputs = weights[0] if operator == "Conv" else weights[1] * more.get("group", 1)
    inputs = (Tensor(x), Tensor(weights), Tensor((outputs,)))
    return Case(f"{operator} {name}", operator, inputs, more, tolerance=3e-5)


def _recurrent(operator: str, direction: str, batch: int, units: int, *computed: int, **more: Any) -> Case:
    """A layer over 5 steps, of which the inputs in `computed` are no constants; peepholes where that is one of them."""
    count, gates = 2 if direction == "bidirectional" else 1, {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    shapes = [(count, gates * units, 9), (count, gates * units, units), (count, 2 * gates * units)]
    inputs = [Tensor(s, low=-0.3, high=0.3, constant=i not in computed) for i, s in enumerate(shapes, start=1)]
    peepholes = [None, None, None, Tensor((count, 3 * units), low=-0.3, high=0.3)] if 7 in computed else []
    shown = " ".join(f"{name} {value}" for name, value in more.items())
    name = f"{operator} {direction} {batch}x{units} {computed} {shown}".strip()
    attributes, outputs = dict(hidden_size=units, direction=direction, **more), 3 if operator == "LSTM" else 2
    return Case(name, operator, (Tensor((5, batch, 9)), *inputs, *peepholes), attributes, outputs)


CASES = [
    _convolution("3x3", (2, 5, 9, 8), (7, 5, 3, 3), pads=[1, 1, 1, 1]),
    _convolution("strided and dilated", (1, 4, 11, 12), (6, 4, 3, 2), strides=[2, 3], dilations=[2, 1]),
    _convolution("in groups", (2, 6, 7), (9, 2, 3), group=3, auto_pad="SAME_UPPER"),
    _convolution("of volumes", (1, 2, 4, 5, 6), (3, 2, 2, 3, 1)),
    _convolution("1x1", (2, 6, 3, 5), (4, 6, 1, 1)),
    _convolution("3x3", (2, 5, 6, 5), (5, 4, 3, 3), "ConvTranspose", strides=[2, 2], pads=[1, 0, 0, 1]),
    _convolution(
        "in groups", (1, 6, 9), (6, 2, 4), "ConvTranspose", group=3, strides=[3], output_padding=[1], dilations=[2]
    ),
    _convolution("of volumes", (1, 2, 3, 4, 5), (2, 3, 2, 2, 2), "ConvTranspose", strides=[2, 1, 2]),
    _convolution("cropped", (1, 2, 6, 6), (2, 3, 2, 2), "ConvTranspose", pads=[2, 2, 2, 2], strides=[2, 2]),
    Case("ConvTranspose to a shape", "ConvTranspose", (Tensor((1, 2, 6, 6)), Tensor((2, 3, 3, 3))),
         dict(strides=[2, 2], output_shape=[12, 13])),
    Case("BatchNormalization", "BatchNormalization",
         (Tensor((2, 6, 5, 4)), *PER_CHANNEL, Tensor((6,)), Tensor((6,), low=0.5, high=2))),
    Case("InstanceNormalization", "InstanceNormalization", (Tensor((2, 6, 5, 4)), *PER_CHANNEL)),
    Case("GroupNormalization", "GroupNormalization", (Tensor((2, 6, 5, 4)), *PER_CHANNEL), dict(num_groups=2)),
    Case("LayerNormalization", "LayerNormalization", (Tensor((2, 5, 6)), *PER_CHANNEL)),
    *(Case(f"MatMul {np.dtype(t).name}", "MatMul", (Tensor((2, 3, 5, 7), t), Tensor((3, 7, 9), t)))
      for t in (np.float64, np.int32, np.int64)),
    Case("MatMulInteger", "MatMulInteger", (Tensor((2, 5, 300), np.uint8, high=100), Tensor((300, 7), np.int8, -90, 90),
         Tensor((), np.uint8, values=3), Tensor((7,), np.int8))),
    Case("ConvInteger", "ConvInteger", (Tensor((2, 3, 6, 5), np.uint8, high=255), Tensor((4, 3, 3, 2), np.uint8),
         Tensor((), np.uint8, values=7), Tensor((), np.uint8, values=2)), dict(pads=[1, 0, 1, 1])),
    Case("Einsum of a diagonal", "Einsum", (Tensor((3, 4, 4)),), dict(equation="bii->bi")),
    Case("Einsum of three", "Einsum", (Tensor((3, 4)), Tensor((4, 5)), Tensor((5, 2))), dict(equation="ij,jk,kl->li")),
    Case("Einsum float64", "Einsum", (Tensor((3, 4), np.float64), Tensor((4, 5), np.float64)),
         dict(equation="ij,jk->ik")),
    _recurrent("LSTM", "bidirectional", 3, 20, 1, 2, 3, 7),
    _recurrent("LSTM", "forward", 2, 64, 2),
    _recurrent("LSTM", "reverse", 1, 16, 3),
    _recurrent("GRU", "bidirectional", 6, 21, 1, 2, 3),
    _recurrent("GRU", "bidirectional", 6, 21, 1, 2, 3, linear_before_reset=1),
    _recurrent("GRU", "forward", 1, 70, 1),
    _recurrent("RNN", "bidirectional", 6, 70, 1, 2, 3),
    _recurrent("RNN", "forward", 3, 3, 2),
    Case("MatMul of nothing", "MatMul", (Tensor((3, 0)), Tensor((0, 4)))),
]  # fmt: skip
