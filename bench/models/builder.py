"""Writes ONNX models as exporters of trained networks do: named nodes, constants as nodes, weights as initializers.

Every layer is scaled to give a mean square of about one for inputs with a mean square of one, so that numbers stay in
range through any depth. `gain` says by how much more, to make up for what comes after the layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod, sqrt
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALL = 0.1  # standard deviation of biases
RELU = sqrt(2)  # gain of a layer before a Relu
SILU = 1.6  # gain of a layer before x * sigmoid(x) or GELU
BRANCH = 0.5  # gain of the last layer of a residual branch
LIMIT = "limit:"
"""With an input's name, the key in a model's metadata of what whole numbers in that input stay below."""

_IR_VERSION = 8
Shape = Sequence[int | str]


class Builder:
    """Collects nodes and weights. Values go by their names: `y = b("Relu", x)`."""

    def __init__(self, name: str, seed: int, opset: int = 17) -> None:
        self._name = name
        self._opset = opset
        self._random = np.random.default_rng(seed)
        self._scopes: list[str] = []
        self._used: Counter[str] = Counter()
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._limits: dict[str, str] = {}

    def input(self, name: str, *shape: int | str, dtype: Any = np.float32, below: int = 0) -> str:
        """An input of the model; whole numbers in it are at least 0 and less than `below`."""
        self._inputs.append(helper.make_tensor_value_info(name, _element_type(dtype), shape))
        if below:
            self._limits[LIMIT + name] = str(below)
        return name

    def output(self, value: str, name: str, *shape: int | str) -> None:
        """Make float32 `value` an output of the model under another name."""
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [name if other == value else other for other in names]
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def model(self) -> onnx.ModelProto:
        """What was built. Its metadata has an entry LIMIT + name for each input of whole numbers."""
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._weights)
        opset = helper.make_opsetid("", self._opset)
        model = helper.make_model(graph, producer_name="bench", opset_imports=[opset], ir_version=_IR_VERSION)
        helper.set_model_props(model, self._limits)
        return model

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names of nodes and weights made inside begin with `name`."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    def __call__(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output and returns the output."""
        return self.many(1, op_type, *inputs, **attributes)[0]

    def many(self, count: int, op_type: str, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node of `count` outputs; those and inputs that are "" are left out."""
        name = self._unique("/" + "/".join([*self._scopes, op_type]), "_")
        outputs = [f"{name}_output_{index}" for index in range(count)]
        self._nodes.append(helper.make_node(op_type, inputs, outputs, name, **attributes))
        return outputs

    def constant(self, data: Any) -> str:
        """A Constant node: float32, int64 or boolean as `data` is."""
        array = np.asarray(data)
        dtype = {"f": np.float32, "i": np.int64, "b": np.bool_}[array.dtype.kind]
        return self("Constant", value=numpy_helper.from_array(array.astype(dtype)))

    def initializer(self, name: str, array: np.ndarray) -> str:
        """A weight with the data given."""
        name = self._unique(".".join([*self._scopes, name]), "_")
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, *shape: int, deviation: float = SMALL) -> str:
        """A weight of normally distributed random numbers."""
        array = self._random.standard_normal(shape, np.float32)
        array *= np.float32(deviation)
        return self.initializer(name, array)

    def around_one(self, name: str, *shape: int, mean: float = 1.0) -> str:
        """A weight of random numbers between half of `mean` and one and a half."""
        return self.initializer(name, (self._random.random(shape, np.float32) + np.float32(0.5)) * np.float32(mean))

    def conv(
        self,
        x: str,
        channels: int,
        out: int,
        kernel: int | Sequence[int] = 1,
        stride: int | Sequence[int] = 1,
        *,
        group: int = 1,
        dilation: int = 1,
        pads: Sequence[int] | None = None,
        gain: float = 1.0,
        bias: bool = True,
    ) -> str:
        """A convolution, padded to keep the size unless `pads` are given; as many axes as `kernel` has, or two."""
        kernel = [kernel, kernel] if isinstance(kernel, int) else list(kernel)
        stride = [stride] * len(kernel) if isinstance(stride, int) else list(stride)
        if pads is None:
            pads = [dilation * (size - 1) // 2 for size in kernel] * 2
        terms = channels // group * prod(kernel)
        weights = [self.weight("weight", out, channels // group, *kernel, deviation=gain / sqrt(terms))]
        if bias:
            weights.append(self.weight("bias", out))
        return self(
            "Conv",
            x,
            *weights,
            dilations=[dilation] * len(kernel),
            group=group,
            kernel_shape=kernel,
            pads=list(pads),
            strides=stride,
        )

    def matmul(self, x: str, channels: int, out: int, *, gain: float = 1.0, bias: bool = True) -> str:
        """A linear layer over the last axis of any rank, as MatMul and Add."""
        y = self("MatMul", x, self.weight("weight", channels, out, deviation=gain / sqrt(channels)))
        return self("Add", self.weight("bias", out), y) if bias else y

    def gemm(self, x: str, channels: int, out: int, *, gain: float = 1.0, transposed: bool = True) -> str:
        """A linear layer over a matrix, as Gemm; `transposed` weights are [out, channels]."""
        shape = (out, channels) if transposed else (channels, out)
        weight = self.weight("weight", *shape, deviation=gain / sqrt(channels))
        return self("Gemm", x, weight, self.weight("bias", out), alpha=1.0, beta=1.0, transB=int(transposed))

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape to a constant shape; 0 keeps a dimension, -1 is the rest."""
        return self("Reshape", x, self.constant(list(shape)))

    def transpose(self, x: str, *order: int) -> str:
        return self("Transpose", x, perm=list(order))

    def slice(self, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
        return self("Slice", x, *(self.constant([number]) for number in (start, end, axis, step)))

    def split(self, x: str, axis: int, *sizes: int) -> list[str]:
        return self.many(len(sizes), "Split", x, self.constant(list(sizes)), axis=axis)

    def _unique(self, name: str, separator: str) -> str:
        count = self._used[name]
        self._used[name] += 1
        return f"{name}{separator}{count}" if count else name


def _element_type(dtype: Any) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
