"""Recurrent layers over sequences of different lengths, which come with the inputs."""

from __future__ import annotations

import numpy as np
import pytest
from support.judge import Net, compare

import cpuruntime as ov


def _model() -> Net:
    net = Net()
    x, lengths = net.input(6, 3, 4), net.input(3, dtype=np.int32, name="lengths")
    weights = net.weights(2, 20, 4), net.weights(2, 20, 5), net.weights(2, 40)
    net.output(*net.many(3, "LSTM", x, *weights, lengths, hidden_size=5, direction="bidirectional"))
    return net


@pytest.mark.parametrize("lengths", [(6, 1, 3), (2, 6, 5)])
def test_each_sequence_ends_by_itself(lengths: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((6, 3, 4)).astype(np.float32)
    compare(_model().model(), {"x0": x, "lengths": np.array(lengths, np.int32)})


def test_the_last_states_of_a_sequence_without_steps_are_zeros() -> None:
    net = Net()
    x, lengths = net.input(6, 3, 4), net.input(3, dtype=np.int32, name="lengths")
    for op_type, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        weights = net.weights(1, gates * 5, 4), net.weights(1, gates * 5, 5), net.weights(1, gates * 10)
        states = [net.weights(1, 3, 5) for _ in range(1 + (op_type == "LSTM"))]
        net.output(*net.many(1 + len(states), op_type, x, *weights, lengths, *states, hidden_size=5))
    array = np.random.default_rng(0).standard_normal((6, 3, 4)).astype(np.float32)
    compare(net.model(), {"x0": array, "lengths": np.array([4, 0, 6], np.int32)})


@pytest.mark.parametrize("length", [7, -1])
def test_a_length_out_of_range_is_an_error_of_the_data(length: int) -> None:
    compiled = ov.Core().compile_model(_model().model(), "CPU")
    feeds = {"x0": np.zeros((6, 3, 4), np.float32), "lengths": np.array([6, length, 1], np.int32)}
    with pytest.raises(ov.InvalidArgumentError, match="a length in 'lengths' is negative or above"):
        compiled(feeds)
