"""Batches done one sample after the other give what a batch gives, in every way a model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.judge import onnx_runtime
from support.onnx_models import make_model

import cpuruntime as ov
from cpuruntime.devices.cpu import batch_split
from cpuruntime.testing.probes import device_of

RANDOM = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a whole batch would fit into the cache."""
    for name in ("CACHE", "SMALLEST", "FEWEST"):
        monkeypatch.setattr(batch_split, name, 0)


def network(count: int | str = 3) -> onnx.ModelProto:
    """Two inputs, two convolutions, a joint head; the middle is an output, too. Rows are no multiple of 64 bytes."""
    weights = {
        "w1": RANDOM.standard_normal((5, 3, 3, 3), dtype=np.float32),
        "w2": RANDOM.standard_normal((7, 5, 1, 1), dtype=np.float32),
        "w3": RANDOM.standard_normal((10, 3), dtype=np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["middle"]),
        helper.make_node("Conv", ["middle", "w2"], ["c2"]),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Concat", ["f", "facts"], ["joint"], axis=1),
        helper.make_node("MatMul", ["joint", "w3"], ["m"]),
        helper.make_node("Softmax", ["m"], ["scores"], axis=1),
    ]
    inputs = {"image": [count, 3, 7, 5], "facts": [count, 3]}
    outputs = {"scores": [count, 3], "middle": [count, 5, 7, 5]}
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    return make_model(nodes, inputs, outputs, constants=constants)


def data(count: int) -> list[np.ndarray]:
    return [RANDOM.standard_normal(shape, dtype=np.float32) for shape in ((count, 3, 7, 5), (count, 3))]


def check(model: onnx.ModelProto, inputs: list[np.ndarray], results: Any) -> None:
    expected = onnx_runtime(model, dict(zip(("image", "facts"), inputs)))
    for index, array in enumerate(expected):
        np.testing.assert_allclose(results[index], array, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_batch_gives_the_same(count: int, threads: int) -> None:
    model = network(count)
    compiled = ov.compile_model(model, "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads})
    assert f"each of the {count} samples" in str(compiled.explain())
    for _ in range(2):
        inputs = data(count)
        check(model, inputs, compiled(inputs))
        request = compiled.create_infer_request()
        request.start_async(inputs)
        request.wait()
        check(model, inputs, request.results)


def repeats(model: onnx.ModelProto) -> int:
    (program,) = device_of(ov.compile_model(model, "CPU")).programs.cached()
    return program.repeats


def test_a_sample_alone_is_no_batch() -> None:
    assert [repeats(network(count)) for count in (1, 2, 5)] == [1, 2, 5]


LIMITS = [("CACHE", 1 << 20), ("SMALLEST", 1 << 16), ("FEWEST", 4), ("WEIGHTS", 99)]


@pytest.mark.parametrize(("limit", "value"), LIMITS)
def test_where_a_whole_batch_is_better(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_split, limit, value)
    assert repeats(network(3)) == 1


@pytest.mark.parametrize("steps", [1, 64])
def test_a_recurrent_batch_stays_whole_since_each_sample_would_read_all_weights_again(steps: int) -> None:
    constants = [
        numpy_helper.from_array(RANDOM.standard_normal(shape, dtype=np.float32), name)
        for name, shape in (("w", (1, 64, 8)), ("r", (1, 64, 16)))
    ]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "w", "r"], ["l"], hidden_size=16),
        helper.make_node("Transpose", ["l"], ["y"], perm=[2, 0, 1, 3]),
    ]
    model = make_model(nodes, {"x": [8, steps, 8]}, {"y": [8, steps, 1, 16]}, constants=constants)
    assert repeats(model) == 1


def test_shapes_that_are_open_until_an_inference() -> None:
    """A plan for many shapes runs all samples of a batch at once."""
    model = network("n")
    compiled = ov.compile_model(model, "CPU")
    for count in (4, 1, 3, 4):
        inputs = data(count)
        check(model, inputs, compiled(inputs))
    assert {program.repeats for program in device_of(compiled).programs.cached()} == {1}


def test_memory_of_the_users_own_at_any_address() -> None:
    model, count = network(3), 3
    request = ov.compile_model(model, "CPU").create_infer_request()
    sizes = ((count, 3), (count, 5, 7, 5))
    memory = [np.zeros(int(np.prod(shape)) + 1, np.float32)[1:].reshape(shape) for shape in sizes]
    for index, array in enumerate(memory):
        request.set_output_tensor(index, ov.Tensor(array, shared_memory=True))
    inputs = data(count)
    request.infer([ov.Tensor(array, shared_memory=True) for array in inputs])
    check(model, inputs, memory)


def test_each_step_is_timed_once_for_all_samples() -> None:
    compiled = ov.compile_model(network(3), "CPU", {"PERF_COUNT": True})
    alone = ov.compile_model(network(1), "CPU", {"PERF_COUNT": True})
    request, single = compiled.create_infer_request(), alone.create_infer_request()
    request.infer(data(3))
    single.infer(data(1))
    assert [row.node_name for row in request.profiling_info] == [row.node_name for row in single.profiling_info]
    assert all(row.real_time.total_seconds() >= 0 for row in request.profiling_info)
    assert [row.kernel for row in compiled.explain(measure=True).rows] == [row.kernel for row in alone.explain().rows]


def test_a_node_without_a_kernel_makes_it_a_whole_batch() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Multinomial", ["r"], ["s"], sample_size=5),
        helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT),
    ]
    model = make_model(nodes, {"x": [3, 4]}, {"y": [3, 5]})
    compiled = ov.compile_model(model, "CPU")
    assert any(row.fallback for row in compiled.explain().rows)
    x = 1000 * np.eye(4, dtype=np.float32)[[2, 0, 3]]  # the samples are certain
    np.testing.assert_array_equal(compiled([x])[0], onnx_runtime(model, {"x": x})[0])
