"""Recurrent networks: a text classifier of two bidirectional LSTMs, and text recognition by convolutions and GRUs."""

from __future__ import annotations

from math import sqrt

import numpy as np
import onnx

from models.builder import RELU, Builder


def lstm_classifier(
    seed: int = 0, *, tokens: int = 128, width: int = 256, embedded: int = 300, vocabulary: int = 20000
) -> onnx.ModelProto:
    """Embedding, two bidirectional LSTMs, logits from the last step of both directions."""
    b = Builder("lstm_classifier", seed)
    ids = b.input("input_ids", 1, tokens, dtype=np.int64, below=vocabulary)
    x = b("Gather", b.weight("embedding.weight", vocabulary, embedded, deviation=1.0), ids)
    x, channels = b.transpose(x, 1, 0, 2), embedded
    for layer in range(2):
        with b.scope(f"lstm.{layer}"):
            x, last, _ = _recurrent(b, "LSTM", x, channels, width)
        channels = 2 * width
    both = b.split(last, 0, 1, 1)
    last = b("Concat", *(b("Squeeze", part, b.constant([0])) for part in both), axis=1)
    b.output(b.gemm(last, channels, 5), "logits", 1, 5)
    return b.model()


def crnn(seed: int = 0, *, length: int = 128, width: int = 256) -> onnx.ModelProto:
    """Reads a line of text: a VGG-like encoder that ends one pixel high, two bidirectional GRUs, logits per column."""
    b = Builder("crnn", seed)
    x = b.input("input", 1, 1, 32, length)
    channels = 1
    layers = ((64, 2, 2), (128, 2, 2), (256, 1, 1), (256, 2, 1), (512, 1, 1), (512, 2, 1))
    for index, (out, rows, columns) in enumerate(layers):
        with b.scope(f"cnn.{index}"):
            x, channels = b("Relu", b.conv(x, channels, out, 3, gain=RELU)), out
            if rows > 1:
                x = b("MaxPool", x, kernel_shape=[rows, columns], strides=[rows, columns])
    x = b("Relu", b.conv(x, channels, channels, 2, pads=[0, 0, 0, 0], gain=RELU))
    x = b.transpose(b("Squeeze", x, b.constant([2])), 2, 0, 1)
    for layer in range(2):
        with b.scope(f"gru.{layer}"):
            x, *_ = _recurrent(b, "GRU", x, channels, width)
        channels = 2 * width
    b.output(b.matmul(x, channels, 37), "logits", length // 4 - 1, 1, 37)
    return b.model()


def _recurrent(b: Builder, op_type: str, x: str, channels: int, width: int) -> list[str]:
    """A bidirectional layer as torch exports it: every step's result with both directions joined, and last states."""
    gates = {"LSTM": 4, "GRU": 3}[op_type]
    weights = (
        b.weight("W", 2, gates * width, channels, deviation=1 / sqrt(channels)),
        b.weight("R", 2, gates * width, width, deviation=1 / sqrt(width)),
        b.weight("B", 2, 2 * gates * width),
    )
    zeros = b.initializer("initial", np.zeros((2, 1, width), np.float32))
    states = [zeros, zeros] if op_type == "LSTM" else [zeros]
    attributes = {} if op_type == "LSTM" else {"linear_before_reset": 1}
    y, *last = b.many(
        1 + len(states), op_type, x, *weights, "", *states, direction="bidirectional", hidden_size=width, **attributes
    )
    return [b.reshape(b.transpose(y, 0, 2, 1, 3), 0, 0, -1), *last]
