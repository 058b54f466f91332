"""Which graphs keep the samples of a batch apart; where they do, the graph of one sample computes each one's part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.judge import onnx_runtime
from support.onnx_models import make_model

import cpuruntime as ov
from cpuruntime.operators.batch_axis import one_sample

COUNT = 3
RANDOM = np.random.default_rng(11)


class Case:
    """A model of nodes that leads from x to y, with constants; an array is one."""

    def __init__(self, shape: Sequence[int], *nodes: tuple, integers: bool = False, opset: int = 17) -> None:
        self.shape = [COUNT, *shape]
        self._constants: list[onnx.TensorProto] = []
        last = "x"
        made = []
        for index, (op_type, *inputs, attributes) in enumerate(nodes):
            names = [self._name(one, last) for one in inputs]
            last = f"v{index}" if index < len(nodes) - 1 else "y"
            made.append(helper.make_node(op_type, names, [last], **attributes))
        kind = TensorProto.INT64 if integers else TensorProto.FLOAT
        graph = helper.make_graph(
            made, "case", [helper.make_tensor_value_info("x", kind, self.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], self._constants,
        )  # fmt: skip
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        self.integers = integers

    def _name(self, given: str | np.ndarray, last: str) -> str:
        if isinstance(given, str):
            return last if given == "x" else given
        return self._constant(given)

    def _constant(self, array: np.ndarray) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, dtype=np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


APART = {
    "add a vector": Case([4, 5], ("Add", "x", floats(5), {})),
    "add one for all": Case([4, 5], ("Mul", "x", floats(1, 4, 1), {})),
    "add itself": Case([4, 5], ("Add", "x", "x", {})),
    "prelu": Case([4, 5], ("PRelu", "x", floats(4, 1), {})),
    "clip": Case([4, 5], ("Clip", "x", np.float32(-0.5), np.float32(0.5), {})),
    "dropout": Case([4, 5], ("Dropout", "x", {})),
    "convolution": Case([4, 7, 6], ("Conv", "x", floats(6, 4, 3, 3), floats(6), {"pads": [1, 1, 1, 1]})),
    "transposed convolution": Case([4, 5, 6], ("ConvTranspose", "x", floats(4, 3, 2, 2), {"strides": [2, 2]})),
    "pools": Case([4, 7, 6], ("MaxPool", "x", {"kernel_shape": [3, 3]}), ("GlobalAveragePool", "x", {})),
    "batch normalization": Case([4, 5], ("BatchNormalization", "x", *(np.abs(floats(4)) for _ in range(4)), {})),
    "local response": Case([4, 5, 6], ("LRN", "x", {"size": 3})),
    "instance normalization": Case([4, 5], ("InstanceNormalization", "x", floats(4), floats(4), {})),
    "layer normalization": Case([4, 5], ("LayerNormalization", "x", floats(5), {})),
    "fully connected": Case([6], ("Gemm", "x", floats(6, 5), floats(5), {}), ("Softmax", "x", {})),
    "matrices by a constant": Case([4, 6], ("MatMul", "x", floats(6, 5), {})),
    "a constant by matrices": Case([4, 6], ("MatMul", floats(5, 4), "x", {})),
    "matrices by their own": Case([4, 4], ("MatMul", "x", "x", {})),
    "reshape": Case([4, 6], ("Reshape", "x", ints(COUNT, 24), {}), ("Relu", "x", {})),
    "reshape to more rows": Case([4, 6], ("Reshape", "x", ints(-1, 6), {}), ("Softmax", "x", {"axis": 1})),
    "flatten": Case([4, 6], ("Flatten", "x", {})),
    "flatten less": Case([4, 6], ("Flatten", "x", {"axis": 2}), ("Softmax", "x", {})),
    "transpose": Case([4, 6], ("Transpose", "x", {"perm": [0, 2, 1]})),
    "reduce": Case([4, 6], ("ReduceMean", "x", {"axes": [-1]})),
    "squeeze": Case([1, 6], ("Squeeze", "x", ints(1), {}), ("Unsqueeze", "x", ints(-1), {})),
    "concat": Case([4, 6], ("Concat", "x", "x", {"axis": 1})),
    "slice": Case([4, 6], ("Slice", "x", ints(1), ints(3), ints(1), {})),
    "gather": Case([4, 6], ("Gather", "x", ints(2, 0), {"axis": 1})),
    "embedding": Case([4], ("Gather", floats(9, 5), "x", {}), integers=True),
    "pad": Case([4, 6], ("Pad", "x", ints(0, 1, 0, 0, 0, 2), {})),
    "resize": Case([4, 5, 6], ("Resize", "x", "", np.float32([1, 1, 2, 2]), {"mode": "nearest"})),
    "tile": Case([4, 6], ("Tile", "x", ints(1, 2, 1), {})),
    "softmax of old": Case([4, 6], ("Softmax", "x", {}), opset=11),
}

MIXED = {
    "add one for each": Case([4, 5], ("Add", "x", floats(COUNT, 4, 5), {})),
    "add to more dimensions": Case([5], ("Add", "x", floats(2, 1, 5), {})),
    "softmax over samples": Case([4, 5], ("Softmax", "x", {"axis": 0})),
    "mean over samples": Case([4, 5], ("ReduceMean", "x", {"axes": [0]})),
    "mean over all": Case([4, 5], ("ReduceMean", "x", {})),
    "samples as channels": Case([4, 5], *2 * [("Transpose", "x", {"perm": [1, 0, 2]})]),
    "reversed": Case([5], ("Transpose", "x", {})),
    "rows in other groups": Case([2, 6], ("Reshape", "x", ints(2, 18), {}), ("Reshape", "x", ints(3, 12), {})),
    "flatten all": Case([4], ("Flatten", "x", {"axis": 0})),
    "transposed product": Case([COUNT], ("Gemm", "x", floats(COUNT, 5), {"transA": 1})),
    "bias for each": Case([6], ("Gemm", "x", floats(6, 5), floats(COUNT, 5), {})),
    "product with samples": Case([COUNT], ("MatMul", "x", "x", {})),
    "constant product over samples": Case([5], ("MatMul", floats(COUNT, COUNT), "x", {})),
    "concat samples": Case([4], ("Concat", "x", "x", {"axis": 0})),
    "one more sample": Case([4], ("Concat", "x", floats(COUNT, 2), {"axis": 1})),
    "another order": Case([4], ("Gather", "x", ints(2, 1, 0), {})),
    "the first ones": Case([4], ("Slice", "x", ints(0), ints(3), {})),
    "pad samples": Case([4], ("Pad", "x", ints(3, 0, 0, 0), {})),
    "cumulated": Case([4], ("CumSum", "x", np.int64(0), {})),
    "shape": Case([4], ("Shape", "x", {}), ("Cast", "x", {"to": TensorProto.FLOAT})),
    "mixed after all": Case([4, 5], ("Relu", "x", {}), ("Softmax", "x", {"axis": 0}), ("Relu", "x", {})),
}


@pytest.mark.parametrize("name", APART)
def test_the_graph_of_one_sample_computes_each_part(name: str) -> None:
    case = APART[name]
    model = ov.Core().read_model(case.model.SerializeToString())
    found = one_sample(model._graph)
    assert found is not None
    graph, count = found
    assert count == COUNT
    assert graph.inputs[0].static_shape == (1, *case.shape[1:])
    x = RANDOM.integers(0, 9, case.shape) if case.integers else floats(*case.shape)
    expected = onnx_runtime(case.model, {"x": x})[0]
    model.reshape([1, *case.shape[1:]])
    compiled = ov.compile_model(model, "CPU")
    parts = [compiled([x[index : index + 1]])[0].copy() for index in range(COUNT)]
    assert graph.outputs[0].static_shape == parts[0].shape
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MIXED)
def test_what_mixes_samples_has_no_graph_of_one(name: str) -> None:
    assert one_sample(ov.Core().read_model(MIXED[name].model.SerializeToString())._graph) is None


def test_batches_only() -> None:
    def graph(**inputs: list[int | str]) -> object:
        nodes = [helper.make_node("Concat", list(inputs), ["y"], axis=1)]
        return ov.Core().read_model(make_model(nodes, inputs, {"y": ["r", "c"]}).SerializeToString())._graph

    assert one_sample(graph(a=[4, 2], b=[4, 3])) is not None
    assert one_sample(graph(a=[1, 2], b=[1, 3])) is None
    assert one_sample(graph(a=["n", 2], b=["n", 3])) is None


def test_inputs_of_different_lengths() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Relu", ["b"], ["z"])]
    model = make_model(nodes, {"a": [4, 2], "b": [2, 2]}, {"y": [4, 2], "z": [2, 2]})
    assert one_sample(ov.Core().read_model(model.SerializeToString())._graph) is None
