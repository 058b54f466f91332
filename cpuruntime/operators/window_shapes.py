"""Shapes that ONNX's own inference gets wrong: pools and back, transposed convolutions, transforms of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Node
from cpuruntime.operators.evaluation.convolution import transposed_windows
from cpuruntime.operators.evaluation.inputs import attribute, integers
from cpuruntime.operators.evaluation.windows import find_windows, reaches

Known = Sequence["np.ndarray | None"]


def correct_shape(node: Node, known: Known) -> None:
    """Set the shapes of the outputs where a rule here knows better. `known` are the data of the inputs, or None."""
    rule = _RULES.get(node.op_type) if node.domain == "" else None
    shape = None if rule is None else rule(node, known)
    if shape is not None:
        for value in node.outputs:
            value.shape = shape


def _pool(node: Node, known: Known) -> tuple[int | None, ...] | None:
    shape, kernel = node.require(0).shape, node.attributes["kernel_shape"]
    if shape is None or len(shape) != len(kernel) + 2:
        return None
    given = [reach if n is None else n for n, reach in zip(shape[2:], reaches(node, kernel))]
    counts = find_windows(node, given, kernel).counts
    return (*shape[:2], *(None if n is None else count for n, count in zip(shape[2:], counts)))


def _conv_transpose(node: Node, known: Known) -> tuple[int | None, ...] | None:
    shape, weights = node.require(0).shape, node.require(1).shape
    if shape is None or weights is None or None in weights or len(shape) != len(weights):
        return None
    stated = attribute(node, "output_shape")
    if stated is not None and min(stated) < 1:
        raise ModelError(f"{node.where}: every extent of output_shape {stated} must be positive.")
    counts = transposed_windows(node, [1 if n is None else n for n in shape[2:]], weights[2:]).counts
    spatial = (count if stated is not None or n is not None else None for n, count in zip(shape[2:], counts))
    return (shape[0], weights[1] * attribute(node, "group"), *spatial)


def _max_unpool(node: Node, known: Known) -> tuple[int | None, ...] | None:
    given = known[2] if len(known) > 2 else None
    return None if given is None else tuple(integers(given))


def _stft(node: Node, known: Known) -> tuple[int | None, ...] | None:
    signal, step, window = node.require(0).shape, known[1], node.input(2)
    length = known[3] if len(known) > 3 else None
    if signal is None or len(signal) < 2:
        return None
    if node.input(3) is not None:
        size = None if length is None else integers(length)[0]
    else:
        size = signal[1] if window is None else None if window.shape is None else window.shape[0]
    if step is not None and integers(step)[0] < 1:
        raise ModelError(f"{node.where}: frame_step is {integers(step)[0]}; it must be positive.")
    frames = None if None in (size, signal[1]) or step is None else (signal[1] - size) // integers(step)[0] + 1
    bins = size // 2 + 1 if size is not None and attribute(node, "onesided") else size
    return (signal[0], frames, bins, 2)


_RULES: dict[str, Callable[[Node, Known], tuple[int | None, ...] | None]] = {
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), _pool),
    "ConvTranspose": _conv_transpose,
    "MaxUnpool": _max_unpool,
    "STFT": _stft,
}
