"""Fourier transforms, windows and mel weights."""

from __future__ import annotations

import math

import numpy as np

from cpuruntime.graph import Node, Type
from cpuruntime.operators.evaluation.inputs import Arrays, Rule, attribute, integers, normal_axis, optional, widest


def _complex(x: np.ndarray) -> np.ndarray:
    """The last axis holds the real part alone or both parts."""
    return x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0].astype(np.complex128)


def _parts(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.stack([x.real, x.imag], -1).astype(dtype)


def _dft(node: Node, arrays: Arrays) -> np.ndarray:
    given = arrays[0]
    length, chosen = optional(arrays, 1), optional(arrays, 2)
    axis = attribute(node, "axis") if node.version < 20 else -2 if chosen is None else integers(chosen)[0]
    axis = normal_axis(node, axis, given.ndim)
    count = given.shape[axis] if length is None else integers(length)[0]
    inverse, onesided = attribute(node, "inverse"), attribute(node, "onesided")
    x = _complex(widest(given))
    if inverse and onesided:
        return np.fft.irfft(x, count if length is not None else 2 * (count - 1), axis)[..., None].astype(given.dtype)
    y = (np.fft.ifft if inverse else np.fft.fft)(x, count, axis)
    y = np.take(y, range(count // 2 + 1), axis) if onesided else y
    return _parts(y, given.dtype)


def _stft(node: Node, arrays: Arrays) -> np.ndarray:
    given, step, window = arrays[0], integers(arrays[1])[0], optional(arrays, 2)
    signal = _complex(widest(given) if given.ndim == 3 else widest(given)[..., None])
    length = optional(arrays, 3)
    size = integers(length)[0] if length is not None else signal.shape[1] if window is None else window.shape[0]
    starts = np.arange(0, signal.shape[1] - size + 1, step)
    frames = signal[:, starts[:, None] + np.arange(size)]
    y = np.fft.fft(frames if window is None else frames * widest(window), axis=-1)
    return _parts(y[..., : size // 2 + 1] if attribute(node, "onesided") else y, given.dtype)


def _window(*terms: float) -> Rule:
    """A sum of cosines with these factors."""

    def run(node: Node, arrays: Arrays) -> np.ndarray:
        size = integers(arrays[0])[0]
        span = size if attribute(node, "periodic") else max(size - 1, 1)
        angle = 2 * math.pi * np.arange(size) / span
        y = sum(factor * np.cos(index * angle) for index, factor in enumerate(terms))
        return np.asarray(y).astype(Type.from_onnx(attribute(node, "output_datatype")).to_dtype())

    return run


def _mel(hertz: np.ndarray) -> np.ndarray:
    return 2595 * np.log10(1 + hertz / 700)


def _mel_weights(node: Node, arrays: Arrays) -> np.ndarray:
    bins, length, rate = (integers(array)[0] for array in arrays[:3])
    low, high = (float(widest(array).reshape(())) for array in arrays[3:])
    edges = _mel(np.float64(low)) + np.arange(bins + 2) * (_mel(np.float64(high)) - _mel(np.float64(low))) / (bins + 2)
    hertz = 700 * (np.power(10, edges / 2595) - 1)
    places = np.floor((length + 1) * hertz / rate).astype(np.int64)
    weights = np.zeros((length // 2 + 1, bins))
    for index in range(bins):
        first, peak, last = places[index : index + 3]
        if peak == first:
            weights[peak, index] = 1
        else:
            rising = np.arange(first, peak + 1)
            weights[rising, index] = (rising - first) / (peak - first)
        if last > peak:
            falling = np.arange(peak, last)
            weights[falling, index] = (last - falling) / (last - peak)
    return weights.astype(Type.from_onnx(attribute(node, "output_datatype")).to_dtype())


TABLE: dict[str, Rule] = {
    "BlackmanWindow": _window(0.42, -0.5, 0.08),
    "DFT": _dft,
    "HammingWindow": _window(25 / 46, -21 / 46),
    "HannWindow": _window(0.5, -0.5),
    "MelWeightMatrix": _mel_weights,
    "STFT": _stft,
}
