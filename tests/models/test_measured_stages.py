"""`explain(measure=True)` of models of several stages: times of steps, of what runs between programs, and of loops."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import cpuruntime as ov
from cpuruntime.devices.cpu import explain

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def model(
    nodes: list, inputs: dict[str, tuple[int, list]], outputs: dict[str, tuple[int, list]], **constants: np.ndarray
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *port) for name, port in inputs.items()],
        [helper.make_tensor_value_info(name, *port) for name, port in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def places(size: int | str) -> onnx.ModelProto:
    """The exponential of the indices of what is positive."""
    make = helper.make_node
    nodes = [make("Relu", ["x"], ["a"]), make("NonZero", ["a"], ["i"]), make("Cast", ["i"], ["f"], to=FLOAT)]
    nodes.append(make("Exp", ["f"], ["y"]))
    return model(nodes, {"x": (FLOAT, [4, size])}, {"y": (FLOAT, [2, "n"])})


def loop(condition: str) -> onnx.ModelProto:
    """The tangent, n times, or as long as the condition in the body says."""
    make, info = helper.make_node, helper.make_tensor_value_info
    last = [make("Identity", ["c"], ["go"])]
    if condition == "endless":
        last = [make("ReduceMax", ["t"], ["m"], keepdims=0), make("Less", ["m"], ["go"])]
        last[1].input.append("two")
    body = helper.make_graph(
        [make("Tanh", ["s"], ["t"]), *last],
        "body",
        [info("number", INT64, []), info("c", BOOL, []), info("s", FLOAT, [64])],
        [info("go", BOOL, []), info("t", FLOAT, [64])],
    )
    count = "n" if condition == "count" else ""
    nodes = [make("Neg", ["x"], ["a"]), make("Loop", [count, "true", "a"], ["r"], body=body)]
    nodes.append(make("Exp", ["r"], ["y"]))
    inputs = {"x": (FLOAT, [64]), **({"n": (INT64, [])} if count else {})}
    return model(nodes, inputs, {"y": (FLOAT, [64])}, true=np.array(True), two=np.array(2, np.float32))


def times(compiled: ov.CompiledModel) -> dict[str, float | None]:
    return {row.op_type: row.microseconds for row in compiled.explain(measure=True).rows}


def test_steps_of_all_stages_are_measured() -> None:
    compiled = ov.Core().compile_model(places(64), "CPU")
    assert [row.op_type for row in compiled.explain().rows] == ["Relu", "NonZero"]
    found = times(compiled)
    assert list(found) == ["Relu", "NonZero", "Cast", "Exp"]
    assert all(found.values())
    assert not any(row.microseconds for row in compiled.explain().rows)


def test_inputs_have_the_shapes_of_the_latest_inference() -> None:
    compiled = ov.Core().compile_model(places("size"), "CPU", {"WARMUP_SHAPES": "NONE"})
    assert "run one" in str(compiled.explain(measure=True))
    x = np.ones((4, 9), np.float32)
    expected = compiled(x)[0]
    assert all(times(compiled).values())
    np.testing.assert_array_equal(compiled(x)[0], expected)


def test_bodies_of_loops_are_measured_in_all_iterations() -> None:
    compiled = ov.Core().compile_model(loop("count"), "CPU")
    for iterations in (3, 1000):
        compiled({"x": np.ones(64, np.float32), "n": np.array(iterations)})
        found = times(compiled)
        assert found.pop("Loop") is None
        assert found["Neg"]
        if iterations == 3:
            before = found["Tanh"]
    assert found["Tanh"] > 5 * before > 0


def test_an_inference_that_random_inputs_do_not_suit_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "LONGEST_SECONDS", 1)
    compiled = ov.Core().compile_model(loop("endless"), "CPU")
    text = str(compiled.explain(measure=True))
    assert "random inputs failed; compile with PERF_COUNT" in text
    assert "deadline" in text
