"""Runs samples through the float32 model once and measures its values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from cpuruntime.api.core import Core
from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.quantize.editor import copied
from cpuruntime.quantize.histogram import Histogram

Feeds = Mapping[str, np.ndarray]
Progress = Callable[[str, int, int], None]
"""Takes what is done next, and how many pieces of how many are done before."""
CONFIG: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "EXECUTION_MODE_HINT": "ACCURACY"}


@dataclass
class Channels:
    """Of each channel of a value: extremes, and sums over the elements and their squares; `count` of elements."""

    least: np.ndarray
    most: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    count: int

    @property
    def mean(self) -> np.ndarray:
        return self.sums / self.count

    @property
    def mean_square(self) -> np.ndarray:
        return self.squares / self.count

    @property
    def magnitude(self) -> np.ndarray:
        return np.maximum(-self.least, self.most)

    @classmethod
    def of(cls, array: np.ndarray, axis: int) -> Channels:
        rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        return cls(rows.min(axis=1), rows.max(axis=1), rows.sum(axis=1, dtype=np.float64), squares, rows.shape[1])

    def with_(self, other: Channels) -> Channels:
        least, most = np.minimum(self.least, other.least), np.maximum(self.most, other.most)
        return Channels(least, most, self.sums + other.sums, self.squares + other.squares, self.count + other.count)


@dataclass
class Measured:
    """Histograms of values, and their channels along the axis asked for."""

    histograms: dict[str, Histogram] = field(default_factory=dict)
    channels: dict[str, Channels] = field(default_factory=dict)

    def add(self, name: str, array: np.ndarray, axis: int | None) -> None:
        self.histograms.setdefault(name, Histogram()).add(array)
        if axis is not None and array.ndim > 1 and array.size:
            found = Channels.of(array, axis)
            self.channels[name] = self.channels[name].with_(found) if name in self.channels else found


def calibrate(
    model: onnx.ModelProto, samples: Sequence[Feeds], values: Iterable[str], axes: Mapping[str, int], progress: Progress
) -> Measured:
    """Measures `values` of a float32 model over samples; `axes` holds the axis of channels of some.

    Raises InvalidArgumentError where a value becomes NaN or infinite.
    """
    names = list(dict.fromkeys(values))
    inputs = {value.name for value in model.graph.input}
    run = Runner(with_outputs(model, [name for name in names if name not in inputs]))
    found = Measured()
    for number, feeds in enumerate(samples):
        progress("calibration: samples", number, len(samples))
        results = run(feeds)
        for name in names:
            array = np.asarray(feeds[name] if name in inputs else results[name])
            if not np.isfinite(array).all():
                raise InvalidArgumentError(
                    f"Value '{printable(name)}' is NaN or infinite with sample {number}; ranges are measured on finite "
                    "numbers: leave the sample out."
                )
            found.add(name, array, axes.get(name))
    run.close()
    return found


class Runner:
    """A compiled model as a function from inputs to outputs by name."""

    def __init__(self, model: onnx.ModelProto, config: Mapping[str, Any] | None = None) -> None:
        self._names = [value.name for value in model.graph.output]
        self.compiled = Core().compile_model(model, "CPU", {**CONFIG, **(config or {})})
        self.request = self.compiled.create_infer_request()

    def __call__(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """Views of the results, which the next call changes."""
        results = self.request.infer(dict(feeds))
        return {name: results[index] for index, name in enumerate(self._names)}

    def close(self) -> None:
        del self.request, self.compiled


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy whose values of these names are outputs, too."""
    copy = copied(model)
    known = {value.name for value in copy.graph.output}
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    return copy
