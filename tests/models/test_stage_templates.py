"""Models of several stages, and with numbers at run time, are planned once for many shapes and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from support.judge import Net, check, onnx_runtime_session

import cpuruntime as ov
from cpuruntime.program.plan.planner import Planner

random = np.random.default_rng(11)


def floats(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def plans_of(net: Net, runs: Sequence[Sequence[Any]], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many plans have been made after each run; results are compared with ONNX Runtime's."""
    model = net.model()
    made: list[Planner] = []
    plan = Planner.plan
    monkeypatch.setattr(Planner, "plan", lambda planner: (made.append(planner), plan(planner)))
    names, session = [port.name for port in model.graph.input], onnx_runtime_session(model)
    compiled = ov.Core().compile_model(model, "CPU", {"WARMUP_SHAPES": "NONE"})
    counts = []
    for arrays in runs:
        feeds = dict(zip(names, map(np.asarray, arrays)))
        results = compiled(dict(feeds))
        check([results[index] for index in range(len(compiled.outputs))], session.run(None, feeds), 1e-4)
        counts.append(len(made))
    return counts


def test_what_stands_before_data_is_planned_once_for_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product, then the places of its positive elements and what is computed from them."""
    n = Net(opset=18)
    x = n("Relu", n("MatMul", n.input("rows", 5), n.weights(5, 6)))
    values = n("GatherND", x, n("Transpose", n("NonZero", n("Relu", x)), perm=[1, 0]))
    n.output(n("Softmax", n("Reshape", values, n.integers(1, -1))), n("Exp", x))
    counts = plans_of(n, [(floats(rows, 5),) for rows in (4, 9, 30, 17, 6, 12, 40, 8)], monkeypatch)
    assert counts[-1] == counts[2]


def test_shapes_of_the_first_stage_are_numbers_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows chosen are padded to the number of rows there were."""
    n = Net(opset=18)
    x = n("Neg", n.input("rows", 4))
    chosen = n("Compress", x, n("Greater", n("ReduceMax", x, n.integers(1), keepdims=0), n.constant(0.3)), axis=0)
    rows, left = (n("Slice", n("Shape", y), n.integers(0), n.integers(1)) for y in (x, chosen))
    pads = n("Concat", n.integers(0, 0), n("Sub", rows, left), n.integers(0), axis=0)
    n.output(n("Exp", n("Pad", chosen, pads)))
    runs = [(floats(rows, 4),) for rows in (14, 9, 30, 17, 26, 12, 40, 18)]
    counts = plans_of(n, runs, monkeypatch)
    assert counts[-1] == counts[2]


@pytest.mark.parametrize("name", ["Reshape", "Expand", "Tile", "ConstantOfShape", "TopK", "Slice"])
def test_a_new_number_is_no_new_plan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n = Net(opset=18)
    x, count = n("MatMul", n.input("rows", 6), n.weights(6, 12)), n.input("numbers", dtype=np.int64)
    if name == "TopK":
        y, numbers = n.many(2, "TopK", x, count, axis=0)[0], [[k] for k in range(2, 10)]
    elif name == "Slice":
        y, numbers = n("Slice", x, n.integers(0), count, n.integers(0)), [[k] for k in range(2, 10)]
    elif name == "ConstantOfShape":
        y, numbers = n("ConstantOfShape", count), [[3, k] for k in range(4, 12)]
    elif name == "Expand":
        y, numbers = n("Expand", x, count), [[k, 10, 12] for k in range(2, 10)]
    elif name == "Tile":
        y, numbers = n("Tile", x, count), [[k, 2] for k in range(2, 10)]
    else:
        y, numbers = n("Reshape", x, count), [[-1, k] for k in (2, 3, 4, 5, 6, 8, 10, 12)]
    n.output(n("Exp", n("Neg", y)), x)
    counts = plans_of(n, [(floats(10, 6), np.array(each)) for each in numbers], monkeypatch)
    assert counts[-1] - counts[1] <= 1


def test_contents_that_change_in_memory_that_stays_bound() -> None:
    """The numbers of a request's own tensor are read anew in each inference."""
    n = Net(opset=18)
    n.output(n("Neg", n("Reshape", n.input("rows", 6), n.input("numbers", dtype=np.int64))))
    request = ov.Core().compile_model(n.model(), "CPU").create_infer_request()
    x, numbers = floats(4, 6), np.array([3, 8])
    request.set_input_tensor(0, ov.Tensor(x))
    request.set_input_tensor(1, ov.Tensor(numbers, shared_memory=True))
    for shape in ([3, 8], [8, 3], [12, 2], [3, 8]):
        numbers[:] = shape
        request.infer()
        np.testing.assert_array_equal(request.get_output_tensor(0).data, -x.reshape(shape))


def test_a_loop_and_what_stands_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    node = helper.make_node
    body = helper.make_graph(
        [node("Add", ["s", "s"], ["t"]), node("Identity", ["c"], ["d"])], "body",
        [helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
         helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []),
         helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("d", onnx.TensorProto.BOOL, []),
         helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, None)],
    )  # fmt: skip
    n = Net()
    x = n("MatMul", n.input("rows", 5), n.weights(5, 6))
    n.output(n("Exp", n("Tanh", n("Loop", n.integers(3), "", x, body=body))))
    counts = plans_of(n, [(floats(rows, 5),) for rows in (4, 9, 30, 17, 6, 12, 40, 8)], monkeypatch)
    assert counts[-1] == counts[2]


def test_a_stage_of_numbers_and_data_is_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are needed before what depends on data and behind it; none of the stages is planned anew."""
    n = Net(opset=18)
    x, counts = n.input("rows", 6), n.input(2, dtype=np.int64)
    tiled = n("Tile", n("Neg", x), counts)
    values = n("GatherND", tiled, n("Transpose", n("NonZero", n("Relu", tiled)), perm=[1, 0]))
    n.output(n("Tile", n("Exp", values), n("Slice", counts, n.integers(0), n.integers(1))), tiled, counts)
    counts = plans_of(n, [(floats(10, 6), np.array([k, 2])) for k in (3, 5, 7, 4, 9, 8, 6)], monkeypatch)
    assert counts[-1] == counts[1]


def test_a_stage_that_only_waits_is_cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two slices, whose ends are numbers of the iteration, nothing can be planned."""
    node, n = helper.make_node, Net(opset=18)
    x = n.input("rows", 3)
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("Add", ["i", "two"], ["j"]), node("Add", ["j", "two"], ["k"]),
         node("Slice", [x, "zero", "k"], ["y"]), node("Slice", ["y", "zero", "j"], ["z"]),
         node("Exp", ["z"], ["e"]), node("ReduceSum", ["e"], ["r"], keepdims=0), node("Add", ["s", "r"], ["t"])],
        "body",
        [helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
         helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []),
         helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info("d", onnx.TensorProto.BOOL, []),
         helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, [])],
        [onnx.numpy_helper.from_array(np.int64([2]), "two"), onnx.numpy_helper.from_array(np.int64([0]), "zero")],
    )  # fmt: skip
    n.output(n("Loop", n.input(dtype=np.int64), "", n.constant(0.0), body=body), n("Neg", x))
    counts = plans_of(n, [(floats(40, 3), np.int64(k)) for k in (3, 5, 12, 20)], monkeypatch)
    assert counts[-1] == counts[0]


def test_a_new_plan_of_one_stage_leaves_those_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rows than a slice wants need another plan, but what waits for data, and a loop in it, do not."""
    node, n = helper.make_node, Net(opset=18)
    body = helper.make_graph(
        [node("Exp", ["s"], ["e"]), node("NonZero", ["e"], ["z"]), node("Transpose", ["z"], ["f"], perm=[1, 0]),
         node("GatherND", ["e", "f"], ["g"]), node("Softmax", ["g"], ["t"]), node("Identity", ["c"], ["d"])],
        "body",
        [helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
         helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []),
         helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("d", onnx.TensorProto.BOOL, []),
         helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, [None])],
    )  # fmt: skip
    x = n.input("rows", 4)
    few = n("Slice", x, n.integers(0), n.integers(10))
    y = n("Relu", n("Concat", n("Exp", few), n("Neg", x), axis=0))
    values = n("GatherND", y, n("Transpose", n("NonZero", y), perm=[1, 0]))
    n.output(n("Neg", n("Loop", n.integers(2), "", n("Tanh", values), body=body)))
    counts = plans_of(n, [(floats(rows, 4),) for rows in (14, 30, 20, 8, 5)], monkeypatch)
    assert counts[2:] == [counts[1], counts[1] + 1, counts[1] + 1]
