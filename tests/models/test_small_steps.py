"""Steps that take about as long as threads need to meet are run by one thread of a stream."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.onnx_models import make_model

import cpuruntime as ov


def perceptron(widths: Sequence[int]) -> onnx.ModelProto:
    """Fully connected layers of these widths."""
    random = np.random.default_rng(0)
    nodes, value = [], "x"
    for index, (inner, outer) in enumerate(itertools.pairwise(widths)):
        weights = numpy_helper.from_array(random.standard_normal((inner, outer), np.float32) / np.float32(inner**0.5))
        nodes.append(helper.make_node("Constant", [], [f"w{index}"], value=weights))
        nodes.append(helper.make_node("MatMul", [value, f"w{index}"], [f"y{index}"], name=f"layer{index}"))
        value = f"y{index}"
    return make_model(nodes, {"x": [1, widths[0]]}, {value: [1, widths[-1]]})


@pytest.mark.parametrize(
    ("widths", "alone"),
    [
        ([64, 64, 64, 64], ["layer0", "layer1", "layer2"]),
        ([64, 64, 1024, 1024], ["layer0"]),
        ([1024, 1024, 16, 16, 2048, 32], ["layer2"]),
        ([1024, 1024], []),
    ],
)
def test_small_steps_are_left_to_one_thread(widths: Sequence[int], alone: list[str]) -> None:
    model = perceptron(widths)
    core = ov.Core()
    shared = core.compile_model(model, "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 2})
    single = core.compile_model(model, "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})
    assert [name for row in shared.explain().rows if "one thread" in row.notes for name in row.nodes] == alone
    assert not any("one thread" in row.notes for row in single.explain().rows)
    requests = [compiled.create_infer_request() for compiled in (shared, single)]
    for seed in range(10):
        x = np.random.default_rng(seed).standard_normal((1, widths[0]), np.float32)
        results = []
        for request in requests:
            request.start_async(x)
            request.wait()
            results.append(request.results[0].copy())
            results.append(request.infer(x)[0])
        for found in results[1:]:
            np.testing.assert_array_equal(found, results[0])


def test_steps_that_move_a_part_of_large_values_are_left_to_one_thread() -> None:
    table = numpy_helper.from_array(np.random.default_rng(0).standard_normal((1000, 64), np.float32), "table")
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["rows"], name="gather"),
        helper.make_node("Concat", ["past", "rows"], ["present"], name="concat", axis=0),
    ]
    inputs = [
        helper.make_tensor_value_info("x", onnx.TensorProto.INT64, [1]),
        helper.make_tensor_value_info("past", onnx.TensorProto.FLOAT, [2000, 64]),
    ]
    output = helper.make_tensor_value_info("present", onnx.TensorProto.FLOAT, [2001, 64])
    graph = helper.make_graph(nodes, "append", inputs, [output], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    compiled = ov.Core().compile_model(model, "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 2})
    rows = [(row.nodes, "one thread" in row.notes) for row in compiled.explain().rows]
    assert rows == [(("gather",), True), (("concat",), False), (("concat",), True)]
    past = np.ones((2000, 64), np.float32)
    found = compiled({"x": np.array([7]), "past": past})[0]
    np.testing.assert_array_equal(found, np.concatenate([past, numpy_helper.to_array(table)[[7]]]))
