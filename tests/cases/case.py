"""A row: one operator with its shapes, types and attributes, from which tests and benchmarks make a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

import cpuruntime as ov
from cpuruntime import passes
from cpuruntime.graph import Graph


@dataclass(frozen=True)
class Tensor:
    """An input of an operator: `values`, or random numbers.

    Floating-point numbers are normally distributed (standard deviation 2), integers uniform in [`low`, `high`).
    `high` makes floating-point numbers uniform, too; `step` rounds to its multiples, so that some are equal.
    """

    shape: tuple[int, ...]
    dtype: Any = np.float32
    low: float = -9
    high: float | None = None
    step: float = 0
    values: Any = None
    constant: bool = False

    def array(self, seed: int) -> np.ndarray:
        """The numbers; the same for the same seed."""
        if self.values is not None:
            return np.array(self.values, self.dtype).reshape(self.shape)
        random, kind = np.random.default_rng(seed), np.dtype(self.dtype).kind
        if kind == "b":
            return random.random(self.shape) > 0.5
        if kind in "iu":
            low = max(self.low, 0) if kind == "u" else self.low
            return random.integers(low, 10 if self.high is None else self.high, self.shape).astype(self.dtype)
        numbers = 2 * random.standard_normal(self.shape)
        if self.high is not None:
            numbers = random.uniform(self.low, self.high, self.shape)
        return np.asarray(np.round(numbers / self.step) * self.step if self.step else numbers, self.dtype)


def constant(values: Any, dtype: Any = np.float32) -> Tensor:
    """An input that the model holds: the values given."""
    return Tensor(np.shape(values), dtype, values=values, constant=True)


def weights(*shape: int, scale: float = 1.0) -> Tensor:
    """An input that the model holds: uniform numbers between -scale and scale."""
    return Tensor(shape, low=-scale, high=scale, constant=True)


def integers(*values: int) -> Tensor:
    """An input that the model holds: a list of int64."""
    return constant(values, np.int64)


@dataclass(frozen=True)
class Case:
    """One ONNX operator. `inputs` are in its order, None for one that is left out.

    `tolerance` is relative to the largest number of each output; integers have to be equal. `opset` is of `domain`.
    """

    name: str
    operator: str
    inputs: tuple[Tensor | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 21
    tolerance: float = 1e-5
    domain: str = ""

    def arrays(self) -> list[np.ndarray | None]:
        """The numbers of all inputs, constants included."""
        return [None if tensor is None else tensor.array(seed) for seed, tensor in enumerate(self.inputs)]

    def feeds(self) -> dict[str, np.ndarray]:
        """The numbers of the inputs that a model takes, by name."""
        pairs = enumerate(zip(self.inputs, self.arrays()))
        return {f"x{i}": array for i, (tensor, array) in pairs if tensor is not None and not tensor.constant}

    def model(self) -> onnx.ModelProto:
        """The operator as an ONNX model; its inputs are x0, x1, ..., its outputs y0, y1, ..."""
        names = ["" if tensor is None else f"x{index}" for index, tensor in enumerate(self.inputs)]
        results = [f"y{index}" for index in range(self.outputs)]
        node = helper.make_node(self.operator, names, results, self.operator, domain=self.domain, **self.attributes)
        ports, held = [], []
        for name, tensor, array in zip(names, self.inputs, self.arrays()):
            if tensor is not None and tensor.constant:
                held.append(numpy_helper.from_array(array, name))
            elif tensor is not None:
                element_type = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
                ports.append(helper.make_tensor_value_info(name, element_type, tensor.shape))
        outputs = [helper.make_empty_tensor_value_info(name) for name in results]
        graph = helper.make_graph([node], self.operator, ports, outputs, held)
        opsets = [helper.make_opsetid(*each) for each in {"": 21, self.domain: self.opset}.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def graph(self) -> Graph:
        """The graph that the CPU device plans."""
        return passes.run(ov.Core().read_model(self.model()).graph)
