"""Recurrent layers as programs run them: every cell, direction and group of sequences, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from support.programs import NodeProgram, activation, random_array, same_for_threads

from cpuruntime.graph import Node, Value

pytestmark = pytest.mark.every_isa

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, INPUTS = 5, 7


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(x: np.ndarray, h: np.ndarray, r: np.ndarray, b: np.ndarray, state: np.ndarray, after: int) -> np.ndarray:
    i, o, f, c = np.split(x + h @ r.T + b, 4, 1)
    state[...] = sigmoid(f) * state + sigmoid(i) * np.tanh(c)
    return sigmoid(o) * np.tanh(state)


def gru(x: np.ndarray, h: np.ndarray, r: np.ndarray, b: np.ndarray, state: np.ndarray, after: int) -> np.ndarray:
    units = h.shape[1]
    z, reset = np.split(sigmoid(x[:, : 2 * units] + h @ r[: 2 * units].T + b[: 2 * units]), 2, 1)
    last, bias = r[2 * units :].T, b[2 * units :]
    inner = reset * (h @ last + bias) if after else (reset * h) @ last + bias
    return (1 - z) * np.tanh(x[:, 2 * units :] + inner) + z * h


def rnn(x: np.ndarray, h: np.ndarray, r: np.ndarray, b: np.ndarray, state: np.ndarray, after: int) -> np.ndarray:
    return np.tanh(x + h @ r.T + b)


CELLS = {"LSTM": lstm, "GRU": gru, "RNN": rnn}


def expected(op_type: str, x: np.ndarray, weights: list[np.ndarray], backwards: list[bool], after: int) -> np.ndarray:
    """The hidden states [steps, directions, batch, units]."""
    x = x.astype(np.float64)
    w, r, b = (array.astype(np.float64) for array in weights)
    half = b.shape[1] // 2
    result = np.zeros((len(x), len(w), x.shape[1], r.shape[2]))
    for direction, back in enumerate(backwards):
        hidden, state = np.zeros((x.shape[1], r.shape[2])), np.zeros((x.shape[1], r.shape[2]))
        for time in range(len(x))[:: -1 if back else 1]:
            given = x[time] @ w[direction].T + b[direction, :half]
            hidden = CELLS[op_type](given, hidden, r[direction], b[direction, half:], state, after)
            result[time, direction] = hidden
    return result


@pytest.mark.parametrize(("op_type", "after"), [("LSTM", 0), ("GRU", 0), ("GRU", 1), ("RNN", 0)])
@pytest.mark.parametrize(("batch", "units"), [(1, 3), (1, 64), (2, 17), (9, 33)])
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
def test_hidden_states(op_type: str, after: int, batch: int, units: int, direction: str, layout: int) -> None:
    backwards = [True] if direction == "reverse" else [False, True]
    count, gates = len(backwards), GATES[op_type]
    shapes = [(count, gates * units, INPUTS), (count, gates * units, units), (count, 2 * gates * units)]
    weights = [random_array(shape, seed) / np.float32(3) for seed, shape in enumerate(shapes)]
    shape, result = (STEPS, batch, INPUTS), (STEPS, count, batch, units)
    if layout:
        shape, result = (batch, STEPS, INPUTS), (batch, STEPS, count, units)
    inputs = [activation("x", shape), *(Value.of(f"w{i}", w) for i, w in enumerate(weights))]
    attributes = {"hidden_size": units, "direction": direction, "layout": layout, "linear_before_reset": after}
    outputs = [activation("y", result)]
    node = Node(op_type, "layer", inputs, outputs, attributes, "", 14)
    x = random_array(shape, 9)
    found = same_for_threads(NodeProgram(node, threads=2, watched=["recurrent"]), x)
    if layout:
        x, found = x.swapaxes(0, 1), found.transpose(1, 2, 0, 3)
    np.testing.assert_allclose(found, expected(op_type, x, weights, backwards, after), 1e-5, 2e-6)
