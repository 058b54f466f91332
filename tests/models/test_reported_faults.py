"""Faults that users of ONNX runtimes reported in public, each as a small model whose results NumPy computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.judge import Net

import cpuruntime as ov
from cpuruntime.errors import InvalidArgumentError

RANDOM = np.random.default_rng(7)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def compiled(net: Net) -> ov.CompiledModel:
    return ov.Core().compile_model(net.model(), "CPU")


def same(found: np.ndarray, expected: Any, tolerance: float = 1e-5) -> None:
    """Fails unless shapes are the same and numbers within the tolerance, NaN nowhere."""
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, tolerance, tolerance, equal_nan=False)


@pytest.mark.parametrize("axes", [(), (1,), (-2,), (0, 1)], ids=str)
@pytest.mark.parametrize("op_type", ["ReduceProd", "ReduceMean", "ReduceMax"])
def test_axes_of_a_reduction_may_come_at_run_time(op_type: str, axes: tuple[int, ...]) -> None:
    """openvinotoolkit/openvino#35889"""
    net = Net(opset=18)
    net.output(net(op_type, net.input(3, 5), net.input("n", dtype=np.int64), keepdims=1, noop_with_empty_axes=1))
    x = floats(3, 5)
    reduce = {"ReduceProd": np.prod, "ReduceMean": np.mean, "ReduceMax": np.max}[op_type]
    same(compiled(net)([x, np.array(axes, np.int64)])[0], reduce(x, axes, keepdims=True) if axes else x)


def test_a_padded_sequence_ends_an_lstm_where_it_ends() -> None:
    """microsoft/onnxruntime#1400 and #12492: outputs past the end are 0, and the last states are those at the end."""
    steps, batch, inputs, hidden = 6, 3, 4, 5
    ends = np.array([6, 2, 4], np.int32)
    x, w, r, b = floats(steps, batch, inputs), floats(20, inputs), floats(20, hidden), floats(40)
    net = Net(opset=14)
    x_name, ends_name = net.input(*x.shape), net.input(batch, dtype=np.int32)
    weights = [net.constant(array[None]) for array in (w, r, b)]
    net.output(*net.many(3, "LSTM", x_name, *weights, ends_name, hidden_size=hidden))
    found = compiled(net)([x, ends])
    y, state, cell = np.zeros((steps, 1, batch, hidden)), np.zeros((batch, hidden)), np.zeros((batch, hidden))
    for step in range(steps):
        gates = x[step] @ w.T + state @ r.T + b[:20] + b[20:]
        entering, leaving, forgetting = (1 / (1 + np.exp(-gates[:, at : at + hidden])) for at in (0, 5, 10))
        inside = (step < ends)[:, None]
        next_cell = forgetting * cell + entering * np.tanh(gates[:, 15:])
        cell, state = np.where(inside, next_cell, cell), np.where(inside, leaving * np.tanh(next_cell), state)
        y[step, 0] = np.where(inside, state, 0)
    for index, expected in enumerate((y, state[None], cell[None])):
        same(found[index], expected, 1e-4)


def windows(x: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """The windows of 3 by 3 by ... with stride 3 and padding 1 that begin inside or in the left padding."""
    extents = x.shape[2:]
    for place in np.ndindex(*(-(-(extent + 1) // 3) for extent in extents)):
        parts = (slice(max(0, 3 * at - 1), 3 * at + 2) for at in place)
        yield place, x[(slice(None), slice(None), *parts)]


@pytest.mark.parametrize("opset", [11, 14, 18, 22])
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("extents", [(5, 5), (3, 6, 5)], ids=str)
def test_no_window_begins_in_the_right_padding(extents: tuple[int, ...], op_type: str, opset: int) -> None:
    """microsoft/onnxruntime#15446, onnx/onnx#4958: ceil_mode adds no window outside of the data, in any opset."""
    x = floats(1, 2, *extents)
    rank = len(extents)
    net = Net(opset=opset)
    window = dict(kernel_shape=[3] * rank, strides=[3] * rank, pads=[1] * 2 * rank)
    net.output(net(op_type, net.input(*x.shape), ceil_mode=1, **window))
    parts = dict(windows(x))
    expected = np.zeros((1, 2, *(at + 1 for at in max(parts))), np.float32)
    for place, part in parts.items():
        inner = tuple(range(2, 2 + rank))
        expected[(slice(None), slice(None), *place)] = part.max(inner) if op_type == "MaxPool" else part.mean(inner)
    same(compiled(net)([x])[0], expected)


@pytest.mark.parametrize("ordered", [0, 1])
def test_unique_gives_values_first_places_inverse_and_counts(ordered: int) -> None:
    """openvinotoolkit/openvino#31004"""
    x = np.array([2, 1, 1, 3, 4, 3], np.float32)
    values, first, inverse, counts = np.unique(x, True, True, True)
    order = np.arange(4) if ordered else np.argsort(first)
    net = Net(opset=11)
    net.output(*net.many(4, "Unique", net.input(6), sorted=ordered))
    found = compiled(net)([x])
    expected = values[order], first[order], np.argsort(order)[inverse], counts[order]
    for index, array in enumerate(expected):
        np.testing.assert_array_equal(found[index], array)


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [([0.9, 0.75, 0.6, 0.95, 0.5, 0.3], [3, 0, 5]), ([0.9, 0, 0, 0, 0, 0], [0]), ([0] * 6, [])],
    ids=["three", "one", "none"],
)
def test_a_detector_gathers_the_boxes_it_chose(scores: list[float], chosen: list[int]) -> None:
    """ROCm/AMDMIGraphX#4679, open-mmlab/mmdeploy#466"""
    tops = [0, 0.1, -0.1, 10, 10.1, 100]
    boxes = np.array([[[0, top, 1, top + 1] for top in tops]], np.float32)
    net = Net(opset=11)
    names = net.input(1, 6, 4), net.input(1, 1, 6)
    limits = net.integers(3), net.constant([0.5]), net.constant([0.1])
    rows = net("NonMaxSuppression", *names, *limits)
    which = net("Gather", rows, net.constant(2, np.int64), axis=1)
    net.output(rows, net("Mul", net("Gather", net("Squeeze", names[0], axes=[0]), which), net.constant(640)))
    found = compiled(net)([boxes, np.array([[scores]], np.float32)])
    np.testing.assert_array_equal(found[0], np.array([[0, 0, box] for box in chosen], np.int64).reshape(-1, 3))
    same(found[1], boxes[0, chosen] * 640)


@pytest.mark.parametrize("given", [None, 5])
def test_an_initializer_that_is_an_input_is_a_default(given: float | None) -> None:
    """microsoft/onnxruntime#57, onnx/onnx#1449"""
    net = Net()
    net.output(net("Mul", net.input(3, name="x"), net.constant([2, 2, 2])))
    model = net.model()
    model.graph.input.append(helper.make_tensor_value_info("c0", TensorProto.FLOAT, [3]))
    x = floats(3)
    feeds = {"x": x} if given is None else {"x": x, "c0": np.full(3, given, np.float32)}
    same(ov.Core().compile_model(model, "CPU")(feeds)[0], x * (given or 2))


@pytest.mark.parametrize("rounds", [3, 0])
@pytest.mark.parametrize("known", [True, False], ids=["constant", "input"])
def test_a_loop_carries_and_collects(known: bool, rounds: int) -> None:
    """openvinotoolkit/openvino#28235"""
    net = Net(opset=13)
    one = net.constant([1, 1])
    infos = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("v", "w", "seen")}
    body = helper.make_graph(
        [
            helper.make_node("Add", ["v", one], ["w"]),
            helper.make_node("Identity", ["w"], ["seen"]),
            helper.make_node("Identity", ["on"], ["go_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            infos["v"],
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), infos["w"], infos["seen"]],
    )
    x = floats(2)
    x_name = net.input(2)
    count = net.constant(rounds, np.int64) if known else net.input(dtype=np.int64)
    net.output(*net.many(2, "Loop", count, net.constant(True, bool), x_name, body=body))
    found = compiled(net)([x] if known else [x, np.array(rounds)])
    same(found[0], x + rounds)
    same(found[1], x + np.arange(1, rounds + 1)[:, None] if rounds else np.zeros((0, 2)))


def test_a_float16_model_computes_what_the_float32_one_does() -> None:
    """open-edge-platform/model_api#544"""
    x, first, second = floats(1, 16, 20, 20), floats(32, 16, 3, 3) / 12, floats(32, 32, 3, 3) / 17
    results = {}
    for dtype in (np.float32, np.float16):
        net = Net()
        y = net.input(*x.shape, dtype=dtype)
        for weights in (first, second):
            y = net("Conv", net("Relu", y), net.constant(weights, dtype), pads=[1] * 4)
        net.output(y)
        results[dtype] = compiled(net)([x.astype(dtype)])[0]
        assert results[dtype].dtype == dtype
    largest = np.abs(results[np.float32]).max()
    np.testing.assert_allclose(results[np.float16], results[np.float32], 0, 0.02 * largest)


def test_a_float16_model_runs_by_kernels() -> None:
    """open-edge-platform/model_api#544: it took 30 times as long as in float32."""
    net = Net()
    weights = net.constant(floats(8, 4, 3, 3), np.float16)
    net.output(net("Relu", net("Conv", net.input(1, 4, 9, 9, dtype=np.float16), weights)))
    assert not compiled(net).explain().fallbacks


def test_a_batch_of_no_images_goes_through_a_cnn() -> None:
    """microsoft/onnxruntime#1879 and #4559: the detector before found nothing."""
    net = Net()
    y = net("Relu", net.conv(net.input("n", 3, 16, 16), 3, 8, pads=[1] * 4))
    y = net("Flatten", net("GlobalAveragePool", net("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])))
    net.output(net("Softmax", net("Gemm", y, net.weights(8, 5), net.weights(5)), axis=1))
    model = compiled(net)
    for batch in (2, 0, 1, 0):
        found = model([floats(batch, 3, 16, 16)])[0]
        assert found.shape == (batch, 5)
        same(found.sum(1), np.ones(batch))


@pytest.mark.parametrize("op_type", ["Softmax", "Relu", "CumSum", "Transpose", "MatMul"])
def test_one_tensor_may_be_input_and_output(op_type: str) -> None:
    """openvinotoolkit/openvino#19743: the results are as if they did not share memory."""
    x, w = floats(64, 64), floats(64, 64)
    net = Net(opset=18)
    constants = {"MatMul": (w, np.float32), "CumSum": (0, np.int64)}
    attributes: dict[str, Any] = {"Softmax": {"axis": 0}, "Transpose": {"perm": [1, 0]}}.get(op_type, {})
    second = [net.constant(*constants[op_type])] if op_type in constants else []
    net.output(net(op_type, net.input(64, 64), *second, **attributes))
    powers = np.exp(x)
    expected = {
        "Softmax": powers / powers.sum(0),
        "Relu": np.maximum(x, 0),
        "Transpose": x.T,
        "MatMul": x @ w,
        "CumSum": x.cumsum(0),
    }
    request = compiled(net).create_infer_request()
    tensor = ov.Tensor(x.copy())
    request.set_input_tensor(tensor)
    request.set_output_tensor(tensor)
    request.infer()
    same(tensor.data, expected[op_type], 1e-3)


def cast_and_add() -> Net:
    net = Net()
    x, t = net.input(3, name="x"), net.input(1, dtype=np.int64, name="t")
    net.output(net("Add", x, net("Cast", t, to=TensorProto.FLOAT)))
    return net


@pytest.mark.parametrize("of_t", [np.int32, np.int64, np.uint8])
@pytest.mark.parametrize("of_x", [np.int32, np.int64, np.float64, np.float16, np.uint8])
def test_arrays_of_another_type_are_converted(of_x: type, of_t: type) -> None:
    """Peterande/D-FINE#218, bes-dev/stable_diffusion.openvino#119"""
    found = compiled(cast_and_add())({"x": np.array([1, 2, 3], of_x), "t": np.array([7], of_t)})[0]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [8, 9, 10])


def test_a_tensor_of_another_type_is_an_error_that_names_both() -> None:
    """Peterande/D-FINE#218: a Tensor is memory, which is not converted."""
    request = compiled(cast_and_add()).create_infer_request()
    with pytest.raises(InvalidArgumentError, match=r"(?=.*\bi64\b).*\bi32\b"):
        request.set_tensor("t", ov.Tensor(np.array([7], np.int32)))
