"""Memory bound to several inputs and outputs: results are as if it did not overlap, outputs that overlap are refused.

At 53c12cb an inference read what it had just written: wrong values without an error, and outputs were not compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_models import make_model, one_input, two_inputs

import cpuruntime as ov
from cpuruntime import InvalidArgumentError, Tensor
from cpuruntime.devices.cpu import batch_split
from cpuruntime.testing.probes import device_of, device_request_of

ROWS, COLUMNS = 24, 40
RANDOM = np.random.default_rng(3)
WEIGHTS = RANDOM.standard_normal((COLUMNS, COLUMNS)).astype(np.float32)


def given(shape: tuple[int, ...] = (ROWS, COLUMNS)) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(0))
    return powers / powers.sum(0)


# Operators whose later results are made of elements that earlier ones would have overwritten, and what they compute.
OPERATORS: dict[str, tuple[dict[str, Any], dict[str, np.ndarray], Any]] = {
    "Softmax": ({"axis": 0}, {}, softmax),
    "Relu": ({}, {}, lambda x: np.maximum(x, 0)),
    "Identity": ({}, {}, lambda x: x),
    "Transpose": ({"perm": [1, 0]}, {}, lambda x: x.T),
    "MatMul": ({}, {"w": WEIGHTS}, lambda x: x @ WEIGHTS),
    "CumSum": ({}, {"w": np.array(0)}, lambda x: x.cumsum(0)),
    "Gather": ({}, {"w": np.arange(ROWS)[::-1].copy()}, lambda x: x[::-1]),
}


def model(op_type: str) -> onnx.ModelProto:
    attributes, constants, _ = OPERATORS[op_type]
    shape = (COLUMNS, ROWS) if op_type == "Transpose" else (ROWS, COLUMNS)
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    node = helper.make_node(op_type, ["x", *constants], ["y"], **attributes)
    return make_model([node], {"x": (ROWS, COLUMNS)}, {"y": shape}, constants=tensors)


def parts(shift: int) -> tuple[Tensor, np.ndarray]:
    """A tensor of random numbers, and an array that begins `shift` elements behind it."""
    memory, size = np.zeros(3 * ROWS * COLUMNS, np.float32), ROWS * COLUMNS
    source, target = memory[size : 2 * size].reshape(ROWS, COLUMNS), memory[size + shift :][:size]
    source[...] = given()
    return Tensor(source, shared_memory=True), target


@pytest.mark.parametrize("shift", [0, 1, -1, COLUMNS, -COLUMNS, 17 * COLUMNS + 3])
@pytest.mark.parametrize("op_type", OPERATORS)
def test_an_output_that_overlaps_the_input(op_type: str, shift: int, device: str) -> None:
    request = ov.compile_model(model(op_type), device).create_infer_request()
    source, memory = parts(shift)
    target = Tensor(memory.reshape(request.model_outputs[0].shape), shared_memory=True)
    for first, second in (("input", "output"), ("output", "input")):
        for side in (first, second):
            bind = request.set_input_tensor if side == "input" else request.set_output_tensor
            bind(source if side == "input" else target)
        assert request.get_input_tensor() is source
        for _ in range(2):
            source.data[...] = x = given()
            request.infer()
            np.testing.assert_allclose(target.data, OPERATORS[op_type][2](x), atol=1e-4)
        source.data[...] = x = given()
        request.start_async()
        request.wait()
        np.testing.assert_allclose(target.data, OPERATORS[op_type][2](x), atol=1e-4)


def test_what_the_request_returned_is_its_next_input(device: str) -> None:
    compiled = ov.compile_model(model("Gather"), device)
    x = given()
    y = compiled(x, share_outputs=True)[0]
    assert (compiled(y, share_outputs=True)[0] == x).all()
    request = compiled.create_infer_request()
    y = request.infer(x, share_outputs=True)[0]
    for expected in (x, x[::-1], x):
        request.start_async([y], share_inputs=True)
        request.wait()
        assert (request.results[0] == expected).all()
    request.infer()
    assert (request.results[0] == x[::-1]).all()
    request.infer(given())
    request.set_input_tensor(request.get_output_tensor())
    request.get_output_tensor().data[...] = x
    assert (request.infer()[0] == x[::-1]).all()


def test_an_output_in_the_memory_of_an_input_of_the_request(device: str) -> None:
    request = ov.compile_model(model("Gather"), device).create_infer_request()
    tensor = request.get_input_tensor()
    request.set_output_tensor(tensor)
    for _ in range(2):
        tensor.data[...] = x = given()
        request.infer()
        assert (tensor.data == x[::-1]).all()
    for share in (False, True):
        x = given()
        assert (request.infer(x.copy(), share)[0] == x[::-1]).all()
        assert (tensor.data == x[::-1]).all()


def test_tensors_that_move_to_other_memory(device: str) -> None:
    """An input in memory of its own again is read in place."""
    request = ov.compile_model(model("Gather"), device).create_infer_request()
    tensor, other = Tensor(given()), Tensor(given())
    request.set_input_tensor(tensor)
    request.set_output_tensor(tensor)
    request.set_output_tensor(other)
    x = tensor.data.copy()
    assert (request.infer()[0] == x[::-1]).all()
    assert (tensor.data == x).all()
    bound = device_request_of(request).bound_inputs()
    assert bound[0] is tensor.data


@pytest.mark.parametrize("shift", [0, 1, -1, 5])
def test_outputs_that_overlap_are_refused(shift: int, device: str) -> None:
    request = ov.compile_model(two_inputs(), device).create_infer_request()
    memory = np.zeros(18, np.float32)
    first, second = (Tensor(memory[start:][:6].reshape(2, 3), shared_memory=True) for start in (6, 6 + shift))
    request.set_tensor("sum", first)
    with pytest.raises(InvalidArgumentError, match="Output 'result': its memory overlaps that of output 'sum'"):
        request.set_tensor("result", second)
    assert request.get_tensor("result") is not second
    with pytest.raises(InvalidArgumentError, match="Output 'sum': its memory overlaps that of output 'result'"):
        request.set_tensor("sum", request.get_tensor("result"))
    request.set_tensor("result", Tensor(memory[12:].reshape(2, 3), shared_memory=True))
    x = given((2, 3))
    request.infer([x, x])
    np.testing.assert_array_equal(memory[6:].reshape(2, 2, 3), [2 * x, np.maximum(2 * x, 0)])


def test_outputs_of_dynamic_shape_that_overlap_are_refused(device: str) -> None:
    request = ov.compile_model(two_inputs(["n", 3]), device).create_infer_request()
    memory = np.zeros((2, 6), np.float32)
    request.set_tensor("sum", Tensor(Tensor(memory, shared_memory=True), [0, 0], [2, 3]))
    with pytest.raises(InvalidArgumentError, match="'result': its memory overlaps that of output 'sum'"):
        request.set_tensor("result", Tensor(Tensor(memory, shared_memory=True), [0, 2], [2, 5]))
    request.set_tensor("result", Tensor(Tensor(memory, shared_memory=True), [0, 3], [2, 6]))


def test_top_k_in_overlapping_memory(device: str) -> None:
    """At 53c12cb the heap lay in the indices: values and indices bound to overlapping memory were a SIGSEGV."""
    ports = [helper.make_tensor_value_info("x", TensorProto.INT64, [4096])]
    results = [helper.make_tensor_value_info(name, TensorProto.INT64, [1024]) for name in ("values", "indices")]
    k = numpy_helper.from_array(np.array([1024]), "k")
    graph = helper.make_graph(
        [helper.make_node("TopK", ["x", "k"], ["values", "indices"])], "best", ports, results, [k]
    )
    request = ov.compile_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
                               device).create_infer_request()  # fmt: skip
    x = 2**44 + RANDOM.permutation(4096)
    memory = np.zeros(4096, np.int64)
    request.set_tensor("indices", Tensor(memory[1:1025], shared_memory=True))
    with pytest.raises(InvalidArgumentError, match="overlaps"):
        request.set_tensor("values", Tensor(memory[:1024], shared_memory=True))
    # The indices written over the input.
    memory[:] = x
    request.set_tensor("x", Tensor(memory, shared_memory=True))
    request.infer()
    assert (memory[1:1025] == np.argsort(-x)[:1024]).all()
    assert (request.get_tensor("values").data == np.sort(x)[:-1025:-1]).all()


def test_in_a_queue(device: str) -> None:
    queue = ov.AsyncInferQueue(ov.compile_model(model("CumSum"), device), 3)
    tensors = {}
    for request in queue:
        tensors[id(request)] = tensor = Tensor(np.float32, [ROWS, COLUMNS])
        request.set_input_tensor(tensor)
        request.set_output_tensor(tensor)
    pairs = []

    def note(request: ov.InferRequest, x: np.ndarray) -> None:
        pairs.append((x, tensors[id(request)].data.copy()))

    queue.set_callback(note)
    for _ in range(20):
        x = given()
        free = queue.get_idle_request_id()
        tensors[id(queue[free])].data[...] = x
        queue.start_async(userdata=x)
    queue.wait_all()
    assert len(pairs) == 20
    for x, found in pairs:
        np.testing.assert_allclose(found, x.cumsum(0), atol=1e-4)


@pytest.mark.parametrize("shift", [0, 3, -3])
def test_in_a_batch_split(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sample's results would overwrite the input of the next one."""
    for name in ("CACHE", "SMALLEST", "FEWEST"):
        monkeypatch.setattr(batch_split, name, 0)
    weights = numpy_helper.from_array(RANDOM.standard_normal((3, 3, 1, 1), dtype=np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Softmax", ["c"], ["y"], axis=3)]
    compiled = ov.compile_model(make_model(nodes, {"x": (4, 3, 5, 7)}, {"y": (4, 3, 5, 7)}, constants=[weights]), "CPU")
    (program,) = device_of(compiled).programs.cached()
    assert program.repeats == 4
    memory = np.zeros(430, np.float32)
    x = given((4, 3, 5, 7))
    source, target = memory[3:423].reshape(x.shape), memory[3 + shift :][:420].reshape(x.shape)
    source[...] = x
    request = compiled.create_infer_request()
    request.set_input_tensor(Tensor(source, shared_memory=True))
    request.set_output_tensor(Tensor(target, shared_memory=True))
    request.infer()
    np.testing.assert_array_equal(target, compiled(x)[0])


def test_with_a_latency_target() -> None:
    compiled = ov.compile_model(one_input(), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "LATENCY_TARGET_MS": 10_000})
    x, memory = given((2, 3)), np.zeros(7, np.float32)
    requests = [compiled.create_infer_request() for _ in range(4)]
    tensors = [Tensor(x) for _ in requests]
    for request, tensor in zip(requests, tensors):
        request.set_input_tensor(tensor)
        request.set_output_tensor(tensor)
        request.start_async()
    for request, tensor in zip(requests, tensors):
        request.wait()
        np.testing.assert_array_equal(tensor.data, -x)
    memory[:6] = x.ravel()
    request.set_input_tensor(Tensor(memory[:6].reshape(2, 3), shared_memory=True))
    request.set_output_tensor(Tensor(memory[1:].reshape(2, 3), shared_memory=True))
    request.infer()
    np.testing.assert_array_equal(memory[1:], -x.ravel())
