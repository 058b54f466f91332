"""LSTM, GRU and RNN with all their attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, many, optional, wide
from cpuruntime.records import record

_Function = Callable[[np.ndarray], np.ndarray]

# name: (function of x, alpha and beta; default of alpha, None without; default of beta, None without)
_FUNCTIONS: dict[str, tuple[Callable[..., np.ndarray], float | None, float | None]] = {
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "elu": (lambda x, a, b: np.where(x >= 0, x, a * np.expm1(x)), 1.0, None),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "leakyrelu": (lambda x, a, b: np.where(x >= 0, x, a * x), 0.01, None),
    "relu": (lambda x, a, b: np.maximum(x, 0), None, None),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "sigmoid": (lambda x, a, b: 1 / (1 + np.exp(-x)), None, None),
    "softplus": (lambda x, a, b: np.logaddexp(0, x).astype(x.dtype), None, None),
    "softsign": (lambda x, a, b: x / (1 + np.abs(x)), None, None),
    "tanh": (lambda x, a, b: np.tanh(x), None, None),
    "thresholdedrelu": (lambda x, a, b: np.where(x >= a, x, 0), 1.0, None),
}

_DEFAULTS = {"GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "RNN": ["Tanh"]}
_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


@record
class _Direction:
    """Weights of one direction: `w` is [gates * hidden, inputs], `r` [gates * hidden, hidden]."""

    w: np.ndarray
    r: np.ndarray
    input_bias: np.ndarray
    state_bias: np.ndarray
    peepholes: np.ndarray
    functions: list[_Function]
    linear_before_reset: bool
    couples: bool


def _functions(node: Node, directions: int) -> list[_Function]:
    """The activations of all directions; each that has alpha or beta takes the next one given."""
    names = node.attributes.get("activations") or _DEFAULTS[node.op_type] * directions
    alphas, betas = (iter(attribute(node, name) or ()) for name in ("activation_alpha", "activation_beta"))
    found = []
    for name in names:
        if name.lower() not in _FUNCTIONS:
            raise ModelError(f"{node.where}: there is no activation '{name}'.")
        function, alpha, beta = _FUNCTIONS[name.lower()]
        alpha, beta = (None if default is None else next(given, default)
                       for default, given in ((alpha, alphas), (beta, betas)))  # fmt: skip
        found.append(partial(lambda x, f, a, b: f(x, a, b), f=function, a=alpha, b=beta))
    clip, each = attribute(node, "clip"), len(_DEFAULTS[node.op_type])
    if clip:  # not the cell of an LSTM, as in ONNX Runtime
        found = [f if index % each == 2 else partial(_clipped, function=f, most=clip) for index, f in enumerate(found)]
    return found


def _clipped(x: np.ndarray, function: _Function, most: float) -> np.ndarray:
    return function(np.clip(x, -most, most))


def _directions(node: Node, arrays: Arrays) -> Iterator[_Direction]:
    w, r, bias, peepholes = wide(arrays[1]), wide(arrays[2]), optional(arrays, 3), optional(arrays, 7)
    count, rows, hidden = r.shape
    functions = _functions(node, count)
    each = len(functions) // count
    for index in range(count):
        given = np.zeros(2 * rows, r.dtype) if bias is None else wide(bias)[index]
        peep = np.zeros(3 * hidden, r.dtype) if peepholes is None else wide(peepholes)[index]
        yield _Direction(
            w[index], r[index], given[:rows], given[rows:], peep, functions[index * each : (index + 1) * each],
            bool(attribute(node, "linear_before_reset")), bool(attribute(node, "input_forget")),
        )  # fmt: skip


def _lstm(d: _Direction, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    f, g, last = d.functions
    i, o, forget, new = np.split(x + h @ d.r.T + d.state_bias, 4, axis=1)
    p_i, p_o, p_f = np.split(d.peepholes, 3)
    i = f(i + p_i * c)
    forget = 1 - i if d.couples else f(forget + p_f * c)
    c = forget * c + i * g(new)
    return f(o + p_o * c) * last(c), c


def _gru(d: _Direction, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    f, g = d.functions
    hidden = h.shape[1]
    z, reset = np.split(f(x[:, : 2 * hidden] + h @ d.r[: 2 * hidden].T + d.state_bias[: 2 * hidden]), 2, axis=1)
    r, bias = d.r[2 * hidden :].T, d.state_bias[2 * hidden :]
    state = reset * (h @ r + bias) if d.linear_before_reset else (reset * h) @ r + bias
    return (1 - z) * g(x[:, 2 * hidden :] + state) + z * h, c


def _rnn(d: _Direction, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return d.functions[0](x + h @ d.r.T + d.state_bias), c


_STEPS = {"GRU": _gru, "LSTM": _lstm, "RNN": _rnn}


def _run(
    node: Node, d: _Direction, x: np.ndarray, lengths: np.ndarray, h: np.ndarray, c: np.ndarray, backward: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All steps of one direction: the states after each, zero behind a row's length, and the last ones.

    The last ones are zero for a row without steps.
    """
    times = np.arange(x.shape[0])[:, None]
    order = np.where(times < lengths, lengths - 1 - times, times) if backward else np.broadcast_to(
        times, (x.shape[0], x.shape[1]))  # fmt: skip
    rows = np.arange(x.shape[1])
    inputs = x[order, rows] @ d.w.T + d.input_bias
    states = np.zeros((x.shape[0], x.shape[1], h.shape[1]), h.dtype)
    step = _STEPS[node.op_type]
    for time in range(int(lengths.max(initial=0))):
        new_h, new_c = step(d, inputs[time], h, c)
        alive = (time < lengths)[:, None]
        h, c = np.where(alive, new_h, h), np.where(alive, new_c, c)
        states[order[time], rows] = np.where(alive, new_h, 0)
    stepped = (lengths > 0)[:, None]
    return states, np.where(stepped, h, 0), np.where(stepped, c, 0)


def _recurrent(node: Node, arrays: Arrays) -> tuple[np.ndarray | None, ...]:
    dtype, batchwise = arrays[0].dtype, bool(attribute(node, "layout"))
    x = wide(arrays[0]).swapaxes(0, 1) if batchwise else wide(arrays[0])
    count, rows, hidden = arrays[2].shape
    if rows != _GATES[node.op_type] * hidden or arrays[1].shape[1:] != (rows, x.shape[2]):
        raise ModelError(f"{node.where}: weights {arrays[1].shape} and {arrays[2].shape} for inputs {arrays[0].shape}.")
    lengths = np.full(x.shape[1], x.shape[0]) if optional(arrays, 4) is None else arrays[4].astype(np.int64)
    if ((lengths < 0) | (lengths > x.shape[0])).any():
        raise ModelError(f"{node.where}: sequence_lens {lengths.tolist()} must be between 0 and {x.shape[0]}.")

    def initial(index: int) -> np.ndarray:
        given = optional(arrays, index)
        if given is None:
            return np.zeros((count, x.shape[1], hidden), x.dtype)
        return wide(given).swapaxes(0, 1) if batchwise else wide(given)

    states, cells = initial(5), initial(6)
    backward = {"forward": [False], "reverse": [True]}.get(attribute(node, "direction"), [False, True])
    found = [
        _run(node, d, x, lengths, states[index], cells[index], backward[index])
        for index, d in enumerate(_directions(node, arrays))
    ]
    every, last, cell = (np.stack([results[part] for results in found]) for part in range(3))
    every = every.transpose(2, 1, 0, 3) if batchwise else every.swapaxes(0, 1)
    ends = [state.swapaxes(0, 1) if batchwise else state for state in (last, cell)]
    return tuple(array.astype(dtype) for array in (every, *ends)[: many(node)])


TABLE: dict[str, Rule] = dict.fromkeys(("GRU", "LSTM", "RNN"), _recurrent)
