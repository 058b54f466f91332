"""LSTM, GRU and RNN: directions, batches, initial states, layouts, with and without bias."""

from __future__ import annotations

from itertools import product
from typing import Any

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


CASES = [
    layer(operator, direction, batch, units, given, **more)
    for (operator, more), direction, (batch, units), given in product(
        (("LSTM", {}), ("GRU", {}), ("GRU", dict(linear_before_reset=1)), ("RNN", {})),
        DIRECTIONS,
        ((1, 16), (3, 20), (6, 70)),
        (False, True),
    )
]
