"""Which graphs can split a batch; where they can, the graph for one sample computes each part of the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.judge import onnx_runtime
from support.onnx_models import make_model

import cpuruntime as ov
from cpuruntime.errors import UnsupportedError
from cpuruntime.graph import Graph
from cpuruntime.operators.batch_axis import enlarged, one_sample

COUNT = 3
RANDOM = np.random.default_rng(11)


class Case:
    """A model of nodes that leads from x to y, with constants; an array is one.

    In a node "x" is the result before it, and "v0" that of the first node; `take` is the number of outputs that it has
    and the index of the one that is its result.
    """

    def __init__(
        self, shape: Sequence[int], *nodes: tuple, integers: bool = False, opset: int = 17, limit: int = 9
    ) -> None:
        self.shape = [COUNT, *shape]
        self._constants: list[onnx.TensorProto] = []
        last = "x"
        made = []
        for index, (op_type, *inputs, attributes) in enumerate(nodes):
            names = [self._name(one, last) for one in inputs]
            last = f"v{index}" if index < len(nodes) - 1 else "y"
            attributes = dict(attributes)
            outputs, taken = attributes.pop("take", (1, 0))
            results = [last if place == taken else f"{last}/{place}" for place in range(outputs)]
            made.append(helper.make_node(op_type, names, results, **attributes))
        kind = TensorProto.INT64 if integers else TensorProto.FLOAT
        graph = helper.make_graph(
            made, "case", [helper.make_tensor_value_info("x", kind, self.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], self._constants,
        )  # fmt: skip
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        self.integers, self.limit = integers, limit

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


def integral(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 2, shape)


SWAP = ("Transpose", "x", {"perm": [1, 0, 2]})
TURN = ("Transpose", "x", {})
TO_FLOAT = ("Cast", "x", {"to": TensorProto.FLOAT})
TOP = ("TopK", "x", ints(2), {"take": (2, 1)})
QUANTISED = (np.float32(0.05), np.uint8(128))
CHANNELS = (np.float32([0.05, 0.1]), np.uint8([128, 99]))
JOIN = {"axis": 0}
FIRST_EXTENT = (
    ("Shape", "x", {}), ("Gather", "x", ints(0), {}), ("Mul", "x", ints(1), {}), ("Concat", "x", ints(-1), JOIN),
)  # fmt: skip
RECURRENT = {
    "LSTM": ("LSTM", "x", floats(1, 12, 4), floats(1, 12, 3), {"hidden_size": 3}),
    "GRU": ("GRU", "x", floats(1, 9, 4), floats(1, 9, 3), floats(1, 18), {"hidden_size": 3}),
    "RNN": ("RNN", "x", floats(2, 3, 4), floats(2, 3, 3), {"hidden_size": 3, "direction": "bidirectional"}),
    "last": ("LSTM", "x", floats(1, 12, 4), floats(1, 12, 3), {"hidden_size": 3, "take": (3, 1)}),
    "state": ("GRU", "x", floats(1, 9, 4), floats(1, 9, 3), "", "", floats(1, COUNT, 3), {"hidden_size": 3}),
    "states": (
        ("ReduceMean", "v0", {"axes": [0], "keepdims": 1}),
        ("GRU", "v0", floats(1, 12, 4), floats(1, 12, 4), "", "", "x", {"hidden_size": 4, "take": (2, 1)}),
    ),
}
INTEGERS = {
    "ConvInteger": ("ConvInteger", "x", integral(5, 4, 3, 3).astype(np.uint8), {}),
    "MatMulInteger": ("MatMulInteger", "x", integral(6, 5).astype(np.int8), np.uint8(3), np.int8([1, 2, 3, 4, 5]), {}),
}

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
    "samples as channels and back": Case([4, 5], *2 * [("Transpose", "x", {"perm": [1, 0, 2]})]),
    "more dimensions": Case([4, 5], ("Add", "x", floats(1, 1, 1, 5), {}), ("Reshape", "x", ints(-1, 20), {})),
    "expand": Case([1, 5], ("Expand", "x", ints(2, 1, 4, 1), {}), ("Transpose", "x", {"perm": [1, 0, 2, 3]})),
    "where": Case([4, 5], ("Greater", "x", floats(5), {}), ("Where", "x", floats(4, 1), floats(5), {})),
    "reduce before samples": Case([4, 6], SWAP, ("ReduceMean", "x", {"axes": [0], "keepdims": 0})),
    "argmax": Case([4, 6], ("ArgMax", "x", {"axis": 1, "keepdims": 0}), TO_FLOAT),
    "argmax before samples": Case([4, 6], SWAP, ("ArgMax", "x", {"axis": 0, "keepdims": 0}), TO_FLOAT),
    "reshape behind samples": Case([4, 6], SWAP, ("Reshape", "x", ints(2, 2, -1), {}), ("Transpose", "x", {})),
    "unsqueeze before": Case([4], ("Unsqueeze", "x", ints(0), {}), ("Transpose", "x", {"perm": [1, 0, 2]})),
    "squeeze before": Case([1, 6], SWAP, ("Squeeze", "x", ints(0), {})),
    "columns of a product": Case([6], TURN, ("Gemm", floats(5, 6), "x", floats(5, 1), {}), TURN),
    "rows as columns": Case([6], TURN, ("Gemm", "x", floats(6, 5), floats(5), {"transA": 1})),
    "columns by a constant": Case([6], TURN, ("MatMul", floats(5, 6), "x", {}), TURN),
    "a vector by matrices": Case([4, 6], ("MatMul", floats(4), "x", {})),
    "matrices by a vector": Case([4, 6], ("MatMul", "x", floats(6), {})),
    "a vector by rows": Case([6], TURN, ("MatMul", floats(6), "x", {})),
    "rows for each matrix": Case([6], ("MatMul", "x", floats(2, 6, 4), {}), ("Transpose", "x", {"perm": [1, 0, 2]})),
    "einsum": Case([4, 6], ("Einsum", "x", floats(5, 6), {"equation": "bij,kj->kbi"}), SWAP),
    "einsum of both": Case([4, 6], ("Einsum", "x", "x", {"equation": "bij,bik->bjk"})),
    "einsum without a result": Case([4, 6], ("Einsum", "x", floats(6, 5), {"equation": "bij,jk"})),
    "top k": Case([4, 6], ("TopK", "x", ints(2), {"take": (2, 0)})),
    "places of the top k": Case([4, 6], ("TopK", "x", ints(3), {"axis": 1, "take": (2, 1)}), TO_FLOAT),
    "grid sample": Case([2, 4, 2], ("GridSample", "x", "x", {}), opset=16),
    "lstm": Case([5, 4], SWAP, RECURRENT["LSTM"], ("Squeeze", "x", ints(1), {}), SWAP),
    "gru": Case([5, 4], SWAP, RECURRENT["GRU"], ("Transpose", "x", {"perm": [2, 0, 1, 3]})),
    "rnn in both directions": Case([5, 4], SWAP, RECURRENT["RNN"], ("Transpose", "x", {"perm": [2, 0, 1, 3]})),
    "last state": Case([5, 4], SWAP, RECURRENT["last"], SWAP),
    "lengths and states": Case([5, 4], SWAP, *RECURRENT["states"], SWAP),
    "quantise": Case([4, 6], ("QuantizeLinear", "x", *QUANTISED, {}), ("DequantizeLinear", "x", *QUANTISED, {})),
    "quantise channels": Case([2, 6], ("QuantizeLinear", "x", *CHANNELS, {}), ("DequantizeLinear", "x", *CHANNELS, {})),
    "convolution of integers": Case([4, 7, 6], ("Cast", "x", {"to": TensorProto.UINT8}), INTEGERS["ConvInteger"],
                                    TO_FLOAT, integers=True),
    "product of integers": Case([4, 6], ("Cast", "x", {"to": TensorProto.UINT8}), INTEGERS["MatMulInteger"],
                                TO_FLOAT, integers=True),
    "gather elements": Case([4, 6], ("Identity", "x", {}), TOP, ("GatherElements", "v0", "x", {"axis": -1})),
    "elements of a table": Case([4], ("GatherElements", integral(9, 4), "x", {}), TO_FLOAT, integers=True),
    "scatter elements": Case([4, 6], ("Identity", "x", {}), TOP, ("GatherElements", "v0", "x", {"axis": 2}),
                             ("ScatterElements", "v0", "v1", "x", {"axis": 2})),
    "slices of a table": Case([4, 1], ("GatherND", floats(9, 5), "x", {}), integers=True),
    "slices of each": Case([6, 1], ("GatherND", "x", "x", {"batch_dims": 1}), TO_FLOAT, integers=True, limit=6),
    "slices that samples lie in": Case([4, 5], SWAP, ("GatherND", "x", integral(2, 1), {}), SWAP),
    "scatter slices": Case([9, 5], SWAP, ("GatherND", "x", np.array([[3], [1]]), {}),
                           ("ScatterND", "v0", np.array([[0], [2]]), "x", {}), SWAP),
    "cumulated rows": Case([4, 6], ("CumSum", "x", np.int64(-1), {"reverse": 1, "exclusive": 1})),
    "one hot": Case([4], ("OneHot", "x", np.int64(9), np.float32([0, 1]), {}), integers=True),
    "one hot before": Case([4], ("OneHot", "x", np.int64(9), np.float32([0, 1]), {"axis": 0}), SWAP, integers=True),
    "reshape by the batch's extent": Case([4, 6], ("Identity", "x", {}), *FIRST_EXTENT, ("Reshape", "v0", "x", {})),
    "expand by the batch's extent": Case([1], ("Identity", "x", {}), *FIRST_EXTENT[:-1], ("Concat", "x", ints(5), JOIN),
                                         ("Expand", "v0", "x", {})),
    "resize by the batch's extent": Case([2, 3, 4], ("Identity", "x", {}), *FIRST_EXTENT[:-1],
                                         ("Concat", "x", ints(2, 6, 8), JOIN), ("Resize", "v0", "", "", "x", {})),
    "triangle": Case([4, 5], ("Trilu", "x", {})),
    "hardmax": Case([4, 5], ("Hardmax", "x", {"axis": 1})),
    "depth to space": Case([8, 2, 3], ("DepthToSpace", "x", {"blocksize": 2})),
    "resize by sizes": Case([4, 5, 6], ("Resize", "x", "", "", ints(10, 9), {"mode": "nearest", "axes": [2, 3]}),
                            opset=18),
}  # fmt: skip

MIXED = {
    "add one for each": Case([4, 5], ("Add", "x", floats(COUNT, 4, 5), {})),
    "add to more dimensions": Case([5], ("Add", "x", floats(2, 1, 5), {})),
    "softmax over samples": Case([4, 5], ("Softmax", "x", {"axis": 0})),
    "mean over samples": Case([4, 5], ("ReduceMean", "x", {"axes": [0]})),
    "mean over all": Case([4, 5], ("ReduceMean", "x", {})),
    "samples as channels": Case([4, 5], SWAP),
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
    "samples within rows": Case([4, 6], SWAP, ("Reshape", "x", ints(12, 6), {})),
    "add one for each channel that is a sample": Case([4, 5], SWAP, ("Add", "x", floats(COUNT, 1), {}), SWAP),
    "softmax over samples as channels": Case([4, 5], SWAP, ("Softmax", "x", {"axis": 1}), SWAP),
    "softmax of old from samples on": Case([4, 5], SWAP, ("Softmax", "x", {}), SWAP, opset=11),
    "sum over samples as columns": Case([6], TURN, ("MatMul", "x", floats(COUNT, 5), {})),
    "products of samples": Case([6], TURN, ("Identity", "x", {}), ("Transpose", "v0", {}), ("MatMul", "x", "v0", {})),
    "one matrix for each": Case([4, 6], ("MatMul", "x", floats(COUNT, 6, 2), {})),
    "bias for each column": Case([6], TURN, ("Gemm", floats(5, 6), "x", floats(COUNT), {}), TURN),
    "einsum over samples": Case([4, 6], ("Einsum", "x", floats(6, 4), {"equation": "bij,jk->ik"})),
    "einsum with one for each": Case([4, 6], ("Einsum", "x", floats(COUNT, 6), {"equation": "bij,bj->bi"})),
    "einsum of a diagonal": Case([COUNT], ("Einsum", "x", {"equation": "bb->b"})),
    "einsum of pairs": Case([4], ("Einsum", "x", "x", {"equation": "bi,ci->bc"})),
    "top k of samples": Case([4], ("TopK", "x", ints(3), {"axis": 0, "take": (2, 0)})),
    "argmax over samples": Case([4], ("ArgMax", "x", {"axis": 0}), TO_FLOAT),
    "grid for each": Case([4, 5, 6], ("GridSample", "x", floats(COUNT, 2, 2, 2), {}), opset=16),
    "samples as steps": Case([2, 4], RECURRENT["LSTM"], ("Squeeze", "x", ints(1), {})),
    "state for each": Case([5, 4], SWAP, RECURRENT["state"], ("Transpose", "x", {"perm": [2, 0, 1, 3]})),
    "scale for each": Case([4], ("QuantizeLinear", "x", np.float32([1, 2, 3]), np.zeros(3, np.uint8), {"axis": 0}),
                           TO_FLOAT),
    "scale of all": Case([4], ("DynamicQuantizeLinear", "x", {"take": (3, 0)}), TO_FLOAT),
    "places in the whole batch": Case([2, 4, 4], ("MaxPool", "x", {"kernel_shape": [2, 2], "take": (2, 1)}), TO_FLOAT),
    "elements for each": Case([4], ("GatherElements", "x", integral(COUNT, 2), {"axis": 1})),
    "fewer elements than samples": Case([4], ("Identity", "x", {}), ("Slice", "x", ints(0), ints(1), ints(0), {}), TOP,
                                        ("GatherElements", "v0", "x", {"axis": 1})),
    "elements over samples": Case([4], ("GatherElements", "x", integral(COUNT, 4), {"axis": 0})),
    "updates for each": Case([4], ("ScatterElements", "x", integral(COUNT, 2), floats(COUNT, 2), {"axis": 1})),
    "slices of samples": Case([4], ("GatherND", "x", ints(*range(COUNT)).reshape(COUNT, 1), {})),
    "one slice for each": Case([1], ("GatherND", floats(COUNT, 9), "x", {"batch_dims": 1}), integers=True),
    "write over samples": Case([4], ("ScatterND", "x", np.array([[0]]), floats(1, 4), {})),
    "triangle over samples": Case([4], ("Trilu", "x", {})),
    "resized samples": Case([4, 5, 6], ("Resize", "x", "", np.float32([1.2, 1, 2, 2]), {"mode": "linear"})),
    "places of both": Case([4], ("Gather", "x", "x", {"axis": 1}), integers=True, limit=4),
    "expanded samples": Case([1], ("Expand", "x", ints(COUNT, 4), {})),
    "add the batch's extent": Case([4], ("Identity", "x", {}), *FIRST_EXTENT[:3], TO_FLOAT, ("Add", "v0", "x", {})),
    "as many columns as samples": Case([4], ("Identity", "x", {}), *FIRST_EXTENT[:3],
                                       ("Slice", "v0", ints(0), "x", ints(1), {})),
    "a vector of samples": Case([4], ("Identity", "x", {}), *FIRST_EXTENT[:3], ("Concat", ints(4), "x", JOIN),
                                ("Reshape", "v0", "x", {})),
    "rows added to the batch": Case([1], ("Identity", "x", {}), *FIRST_EXTENT[:3],
                                    ("Concat", ints(2), "x", ints(5), JOIN), ("Expand", "v0", "x", {})),
    "zeros for each": Case([4], ("Identity", "x", {}), ("Shape", "x", {}), ("ConstantOfShape", "x", {}),
                           ("Add", "v0", "x", {})),
    "mixed after all": Case([4, 5], ("Relu", "x", {}), ("Softmax", "x", {"axis": 0}), ("Relu", "x", {})),
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_the_graph_of_one_sample_computes_each_part(name: str) -> None:
    case = APART[name]
    model = ov.Core().read_model(case.model.SerializeToString())
    found = one_sample(model.graph)
    assert found is not None
    graph, count = found
    assert count == COUNT
    assert graph.inputs[0].static_shape == (1, *case.shape[1:])
    x = RANDOM.integers(0, case.limit, case.shape) if case.integers else floats(*case.shape)
    expected = onnx_runtime(case.model, {"x": x})[0]
    model.reshape([1, *case.shape[1:]])
    compiled = ov.compile_model(model, "CPU")
    parts = [compiled([x[index : index + 1]])[0].copy() for index in range(COUNT)]
    assert graph.outputs[0].static_shape == parts[0].shape
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MIXED)
def test_what_mixes_samples_has_no_graph_of_one(name: str) -> None:
    assert one_sample(ov.Core().read_model(MIXED[name].model.SerializeToString()).graph) is None


def test_batches_only() -> None:
    def graph(**inputs: list[int | str]) -> object:
        nodes = [helper.make_node("Concat", list(inputs), ["y"], axis=1)]
        return ov.Core().read_model(make_model(nodes, inputs, {"y": ["r", "c"]}).SerializeToString()).graph

    assert one_sample(graph(a=[4, 2], b=[4, 3])) is not None
    assert one_sample(graph(a=[1, 2], b=[1, 3])) is None
    assert one_sample(graph(a=["n", 2], b=["n", 3])) is None


def test_inputs_of_different_lengths() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Relu", ["b"], ["z"])]
    model = make_model(nodes, {"a": [4, 2], "b": [2, 2]}, {"y": [4, 2], "z": [2, 2]})
    assert one_sample(ov.Core().read_model(model.SerializeToString()).graph) is None


def test_a_larger_batch_or_the_reason_why_there_is_none() -> None:
    def graph(operator: str, shape: list[int | str], **attributes: int) -> Graph:
        nodes = [helper.make_node(operator, ["x"], ["y"], name="n", **attributes)]
        model = make_model(nodes, {"x": shape}, {"y": [None] * len(shape)})
        return ov.Core().read_model(model.SerializeToString()).graph

    larger = enlarged(graph("Relu", [2, 3]), 4)
    assert [value.static_shape for value in (*larger.inputs, *larger.outputs)] == [(8, 3), (8, 3)]
    with pytest.raises(UnsupportedError, match=r"Softmax 'n' .*mixes samples"):
        enlarged(graph("Softmax", [1, 3], axis=0), 4)
    with pytest.raises(UnsupportedError, match="'x' has no static shape"):
        enlarged(graph("Relu", [1, "length"]), 4)
    with pytest.raises(UnsupportedError, match="'x' has no first dimension for samples"):
        enlarged(graph("Relu", []), 4)
    with pytest.raises(UnsupportedError, match="output 'y' is none of samples"):
        enlarged(graph("Shape", [1]), 4)
