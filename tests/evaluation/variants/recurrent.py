"""LSTM, GRU and RNN."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from evaluation.variants.variant import Draw, Variant

_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
_FUNCTIONS = {"GRU": 2, "LSTM": 3, "RNN": 1}
# activation: whether it takes alpha and beta
_ACTIVATIONS = {
    "Tanh": (0, 0), "Sigmoid": (0, 0), "Relu": (0, 0), "HardSigmoid": (1, 1), "LeakyRelu": (1, 0), "Elu": (1, 0),
    "Softsign": (0, 0), "Softplus": (0, 0), "ScaledTanh": (1, 1), "Affine": (1, 1), "ThresholdedRelu": (1, 0),
}  # fmt: skip


def _recurrent(op_type: str, d: Draw) -> Variant:
    opset, gates = d.opset(op_type), _GATES[op_type]
    steps, batch, width, hidden = d.number(1, 6), d.number(1, 3), d.number(1, 4), d.number(1, 4)
    direction = d.choose("forward", "reverse", "bidirectional")
    count = 2 if direction == "bidirectional" else 1
    attributes = {"hidden_size": hidden, "direction": direction, **d.some(clip=d.choose(0.3, 1.5))}
    if op_type == "GRU":
        attributes |= d.some(linear_before_reset=d.number(0, 1))
    if op_type == "LSTM" and d.chance(0.2):
        attributes["input_forget"] = 1
    if d.chance(0.4):
        known = [name for name in _ACTIVATIONS if op_type != "LSTM" or name != "Softplus"]  # overflows in ONNX Runtime
        names = [d.choose(*known) for _ in range(_FUNCTIONS[op_type] * count)]
        attributes["activations"] = names
        steps = min(steps, 3)  # some grow
        if d.chance(0.7) or {"Affine", "ScaledTanh", "ThresholdedRelu"} & set(names):  # ONNX Runtime takes 0 for these
            alphas, betas = (
                [round(d.random.uniform(0.2, 0.9), 2) + 0.005 for name in names if _ACTIVATIONS[name][part]]
                for part in (0, 1)
            )
            attributes |= {"activation_alpha": alphas} if alphas else {}
            attributes |= {"activation_beta": betas} if betas else {}

    def maybe(*shape: int) -> np.ndarray | None:
        return d.array(shape, np.float32, 0.6) if d.chance() else None

    lengths = d.random.integers(0, steps + 1, batch).astype(np.int32) if d.chance() else None
    inputs = [d.array([steps, batch, width]), d.array([count, gates * hidden, width], np.float32, 0.6),
              d.array([count, gates * hidden, hidden], np.float32, 0.6), maybe(count, 2 * gates * hidden), lengths,
              maybe(count, batch, hidden)]  # fmt: skip
    if op_type == "LSTM":
        inputs += [maybe(count, batch, hidden), maybe(count, 3 * hidden)]
    outputs = [d.chance(0.8) for _ in range(3 if op_type == "LSTM" else 2)]
    outputs[d.number(0, len(outputs) - 1)] = True
    return Variant(op_type, opset, inputs, attributes, outputs)


GENERATORS: dict[str, Callable[[Draw], Variant]] = {name: partial(_recurrent, name) for name in _GATES}
