"""ONNX models built node by node, and ONNX Runtime's word on what they compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod, sqrt
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

import cpuruntime as ov

Feeds = Mapping[str, np.ndarray]


class Net:
    """`n = Net(); x = n.input(1, 3, 8, 8); n.output(n("Relu", x)); compare(n.model())`. Values go by their names."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[str] = []
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def input(self, *shape: int | str, dtype: Any = np.float32, name: str = "") -> str:
        name = name or f"x{len(self._inputs)}"
        element_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, element_type, shape))
        return name

    def constant(self, data: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(data, dtype), name))
        return name

    def integers(self, *numbers: int) -> str:
        return self.constant(list(numbers), np.int64)

    def weights(self, *shape: int) -> str:
        """Random numbers, scaled so that a convolution or x @ w keeps the size of its input."""
        terms = prod(shape[1:]) if len(shape) > 2 else shape[0]
        return self.constant(self.random.standard_normal(shape) / sqrt(max(terms, 1)))

    def positive(self, *shape: int) -> str:
        return self.constant(self.random.uniform(0.5, 1.5, shape))

    def __call__(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        return self.many(1, op_type, *inputs, **attributes)[0]

    def many(self, count: int, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        name = f"n{len(self._nodes)}_{op_type}"
        outputs = [f"{name}_{index}" for index in range(count)]
        self._nodes.append(helper.make_node(op_type, inputs, outputs, name, domain=domain, **attributes))
        return outputs

    def conv(
        self, x: str, channels: int, out: int, kernel: int | Sequence[int] = 3, group: int = 1, **more: Any
    ) -> str:
        """A convolution with random weights and bias."""
        window = (kernel, kernel) if isinstance(kernel, int) else kernel
        return self("Conv", x, self.weights(out, channels // group, *window), self.weights(out), group=group, **more)

    def norm(self, x: str, channels: int) -> str:
        """BatchNormalization with random parameters."""
        parameters = self.positive(channels), self.weights(channels), self.weights(channels), self.positive(channels)
        return self("BatchNormalization", x, *parameters)

    def output(self, *names: str) -> None:
        self._outputs += names

    def model(self) -> onnx.ModelProto:
        outputs = [helper.make_empty_tensor_value_info(name) for name in self._outputs]
        graph = helper.make_graph(self._nodes, "small", self._inputs, outputs, self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def random_inputs(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]] | None = None, seed: int = 1) -> Feeds:
    """Random numbers for each input of the model; `shapes` for those that it does not state."""
    random = np.random.default_rng(seed)
    feeds = {}
    for info in model.graph.input:
        tensor = info.type.tensor_type
        shape = (shapes or {}).get(info.name, [dim.dim_value for dim in tensor.shape.dim])
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        numbers = 2 * random.standard_normal(shape)
        feeds[info.name] = (numbers > 0 if dtype.kind == "b" else np.asarray(numbers)).astype(dtype)
    return feeds


def onnx_runtime_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """The model in ONNX Runtime, on one thread, with exact integer products.

    By default its products of u8 and s8 saturate at 16 bits on processors without VNNI.
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def onnx_runtime(model: onnx.ModelProto, feeds: Feeds) -> list[np.ndarray]:
    """The model's outputs according to ONNX Runtime."""
    return onnx_runtime_session(model).run(None, dict(feeds))


def compare(
    model: onnx.ModelProto,
    feeds: Feeds | None = None,
    *,
    fallbacks: Sequence[str] = (),
    tolerance: float = 1e-5,
    config: dict[str, Any] | None = None,
) -> ov.CompiledModel:
    """Fails unless the CPU device computes what ONNX Runtime does, with these operators falling back and no others.

    An inference on NaN goes before, whose traces must not show. `tolerance` is relative to the largest number of each
    output. Returns the compiled model.
    """
    feeds = random_inputs(model) if feeds is None else feeds
    compiled = ov.Core().compile_model(model, "CPU", config)
    with np.errstate(invalid="ignore"):
        compiled({name: np.full_like(x, np.nan) if x.dtype.kind == "f" else x for name, x in feeds.items()})
    found = compiled(dict(feeds))
    assert sorted(row.op_type for row in compiled.explain().fallbacks) == sorted(fallbacks)
    check([found[index] for index in range(len(compiled.outputs))], onnx_runtime(model, feeds), tolerance)
    return compiled


def check(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float = 1e-5) -> None:
    """Fails unless the arrays have the same types, shapes and, within the tolerance, numbers."""
    assert len(found) == len(expected)
    for index, (ours, theirs) in enumerate(zip(found, expected)):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), f"output {index}"
        if theirs.dtype.kind != "f":
            np.testing.assert_array_equal(ours, theirs, f"output {index}")
            continue
        largest = np.abs(theirs[np.isfinite(theirs)]).max(initial=0)
        np.testing.assert_allclose(ours, theirs, 0, tolerance * max(float(largest), 1e-30), err_msg=f"output {index}")
