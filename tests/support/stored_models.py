"""Models that tests store in files, and what they compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from support.judge import Net, random_inputs

import cpuruntime as ov

CONFIG = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "COMPILE_MODE": "OPTIMIZED"}


def convolutional(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed=seed)
    x = n("Relu", n.conv(n.input(1, 3, 20, 20), 3, 32, pads=[1] * 4))
    x = n("Add", x, n.conv(x, 32, 32, pads=[1] * 4))
    n.output(n("Gemm", n("Flatten", n("GlobalAveragePool", x)), n.weights(32, 10), n.weights(10)))
    return n.model()


def batched() -> onnx.ModelProto:
    """A batch that is split."""
    n = Net()
    x = n.input(8, 3, 64, 64)
    for channels in (3, 64):
        x = n("Relu", n.conv(x, channels, 64, pads=[1] * 4))
    n.output(n("GlobalAveragePool", x))
    return n.model()


def indexed() -> onnx.ModelProto:
    """A kernel that reports faults, and two outputs of which one is an input."""
    n = Net()
    x = n.input(5, 4)
    n.output(n("Gather", x, n.input(3, dtype=np.int64)), n("Sigmoid", x))
    return n.model()


def recurrent() -> onnx.ModelProto:
    n = Net()
    hidden, *_ = n("LSTM", n.input(6, 1, 8), n.weights(1, 64, 8), n.weights(1, 64, 16), hidden_size=16), None
    n.output(hidden)
    return n.model()


STORED = {"convolutional": convolutional, "batched": batched, "indexed": indexed, "recurrent": recurrent}


def feeds(model: onnx.ModelProto) -> list[np.ndarray]:
    arrays = [np.ascontiguousarray(array) for array in random_inputs(model).values()]
    return [np.array([4, 0, 2]) if array.dtype == np.int64 else array for array in arrays]


def results(compiled: ov.CompiledModel, inputs: list[np.ndarray]) -> list[bytes]:
    found = compiled(inputs)
    return [found[index].tobytes() for index in range(len(compiled.outputs))]


def compile_in(folder: Path, model: Any, **config: Any) -> ov.CompiledModel:
    return ov.Core().compile_model(model, "CPU", {**CONFIG, "CACHE_DIR": folder, **config})


def is_loaded(compiled: ov.CompiledModel) -> bool:
    found: bool = compiled.get_property("LOADED_FROM_CACHE")
    return found
