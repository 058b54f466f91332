"""LSTM, GRU and RNN: directions, batches, initial states, layouts, with and without bias."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from cases.case import Case, Tensor, weights

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DIRECTIONS = ("forward", "reverse", "bidirectional")
STEPS, INPUTS = 7, 9


def layer(operator: str, direction: str, batch: int, units: int, given: bool, **more: Any) -> Case:
    """All results; the state is `given` to layers without bias, others begin with zeros."""
    count, gates = 2 if direction == "bidirectional" else 1, GATES[operator]
    state = Tensor((count, batch, units))
    inputs = (
        Tensor((STEPS, batch, INPUTS)),
        weights(count, gates * units, INPUTS, scale=INPUTS**-0.5),
        weights(count, gates * units, units, scale=units**-0.5),
        None if given else weights(count, 2 * gates * units),
        None,
        *([state] * (1 + (operator == "LSTM")) if given else []),
    )
    shown = " ".join(f"{name} {value}" for name, value in more.items())
    name = f"{operator} {direction} {batch}x{units}{' given a state' * given} {shown}".strip()
    outputs = 3 if operator == "LSTM" else 2
    return Case(name, operator, inputs, dict(hidden_size=units, direction=direction, **more), outputs)


def _with_lengths(operator: str, direction: str) -> Case:
    """Sequences of all lengths, 1 and that of the longest among them."""
    case = layer(operator, direction, 5, 20, True)
    lengths = Tensor((5,), np.int32, values=[STEPS, 1, 3, STEPS, 5])
    return replace(case, name=f"{case.name} with lengths", inputs=(*case.inputs[:4], lengths, *case.inputs[5:]))


def _with_peepholes(direction: str) -> Case:
    case = layer("LSTM", direction, 3, 20, True)
    peepholes = weights(case.inputs[1].shape[0], 60)
    return replace(case, name=f"{case.name} with peepholes", inputs=(*case.inputs, peepholes))


CASES = [
    *(
        layer(operator, direction, batch, units, given, **more)
        for (operator, more), direction, (batch, units), given in product(
            (("LSTM", {}), ("GRU", {}), ("GRU", dict(linear_before_reset=1)), ("RNN", {})),
            DIRECTIONS,
            ((1, 16), (3, 20), (6, 70)),
            (False, True),
        )
    ),
    *(_with_lengths(operator, direction) for operator, direction in product(GATES, DIRECTIONS)),
    *(layer(operator, "bidirectional", 3, 20, False, clip=0.3) for operator in GATES),
    layer("GRU", "forward", 3, 20, False, clip=0.3, linear_before_reset=1),
    layer("RNN", "forward", 3, 20, False, activations=["LeakyRelu"], activation_alpha=[0.3]),
    layer(
        "LSTM", "forward", 3, 20, False, activations=["HardSigmoid", "Elu", "Softsign"], activation_alpha=[0.3, 0.7],
        activation_beta=[0.4],
    ),
    _with_peepholes("forward"),
    _with_peepholes("bidirectional"),
]  # fmt: skip
