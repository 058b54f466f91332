"""Loops whose bodies are one program and keep their shapes: they iterate without the interpreter."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.judge import check, onnx_runtime_session

import cpuruntime as ov
from cpuruntime.streams.thread_group import ThreadGroup

random = np.random.default_rng(3)
node = helper.make_node
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def floats(*shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def port(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def loop_model(rows: int, width: int, last: int = 1 << 40) -> onnx.ModelProto:
    """n, s, t -> two states that change places, their sums, and how often; it ends after iteration `last`."""
    nodes = [
        node("Less", ["i", "last"], ["again"]), node("MatMul", ["s", "w"], ["p"]), node("Add", ["p", "extra"], ["q"]),
        node("Tanh", ["q"], ["next"]), node("Identity", ["s"], ["then"]), node("Add", ["s", "t"], ["sum"]),
        node("Cast", ["i"], ["number"], to=FLOAT),
    ]  # fmt: skip
    state = (FLOAT, rows, width)
    body = helper.make_graph(
        nodes, "body", [port("i", INT64), port("c", BOOL), port("s", *state), port("t", *state)],
        [port("again", BOOL), port("next", *state), port("then", *state), port("sum", *state), port("number", FLOAT)],
        [
            numpy_helper.from_array(floats(width, width) / np.float32(2 * width**0.5), "w"),
            numpy_helper.from_array(np.array(last), "last"),
        ],
    )  # fmt: skip
    graph = helper.make_graph(
        [node("Loop", ["n", "", "s0", "t0"], ["s", "t", "sums", "numbers"], body=body)], "loops",
        [port("n", INT64), port("s0", *state), port("t0", *state), port("extra", FLOAT, width)],
        [port("s", *state), port("t", *state), port("sums", FLOAT, "n", rows, width), port("numbers", FLOAT, "n")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("rows", "width"), [(1, 3), (64, 160)])
def test_results_are_those_of_single_iterations(rows: int, width: int, threads: int) -> None:
    """Few and many iterations by one compiled model; the larger body is shared among threads."""
    model = loop_model(rows, width)
    session = onnx_runtime_session(model)
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1})
    for count in (1, 2, 3, 0, 40, 7):
        feeds = {"n": np.int64(count), "s0": floats(rows, width), "t0": floats(rows, width), "extra": floats(width)}
        feeds["n"] = np.asarray(feeds["n"])
        results = compiled(feeds)
        check([results[index] for index in range(4)], session.run(None, feeds), 1e-4)


def test_the_interpreter_has_no_part_between_iterations() -> None:
    compiled = ov.Core().compile_model(loop_model(1, 3, last=4_999), "CPU")
    feeds = {"n": np.array(10_000), "s0": floats(1, 3), "t0": floats(1, 3), "extra": floats(3)}
    with patch.object(ThreadGroup, "run", autospec=True, side_effect=ThreadGroup.run) as run:
        found = compiled(feeds)
    np.testing.assert_array_equal(found[3], np.arange(5_000))
    assert run.call_count < 5


def test_memory_grows_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpuruntime.program.stages.rows.FIRST_BYTES", 100)
    model = loop_model(2, 3)
    feeds = {"n": np.array(333), "s0": floats(2, 3), "t0": floats(2, 3), "extra": floats(3)}
    found = ov.Core().compile_model(model, "CPU")(feeds)
    check([found[index] for index in range(4)], onnx_runtime_session(model).run(None, feeds), 1e-4)


def test_a_wrong_index_ends_an_endless_loop() -> None:
    """The index of iteration 5 is outside the table."""
    nodes = [
        node("Gather", ["table", "i"], ["row"]), node("Add", ["s", "row"], ["next"]), node("Identity", ["c"], ["d"]),
    ]  # fmt: skip
    inputs = [port("i", INT64), port("c", BOOL), port("s", FLOAT, 2)]
    body = helper.make_graph(nodes, "body", inputs, [port("d", BOOL), port("next", FLOAT, 2)])
    graph = helper.make_graph(
        [node("Loop", ["n", "", "s0"], ["s"], "steps", body=body)], "loops",
        [port("n", INT64), port("s0", FLOAT, 2), port("table", FLOAT, 5, 2)], [port("s", FLOAT, 2)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    compiled = ov.Core().compile_model(model, "CPU")
    table, start = floats(5, 2), floats(2)
    with pytest.raises(ov.InvalidArgumentError, match=r"Gather .*ind"):
        compiled({"n": np.array(2**62), "s0": start, "table": table})
    found = compiled({"n": np.array(5), "s0": start, "table": table})
    np.testing.assert_allclose(found[0], start + table.sum(0), rtol=1e-5)
