"""Sizes that are wrong when a model runs: one sentence with the node, the value and the rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.judge import Net

import cpuruntime as ov
from cpuruntime.graph import Node, Type, Value
from cpuruntime.operators.shape_inference import evaluate

F, INT, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node, port = helper.make_node, helper.make_tensor_value_info


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def model_of(nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, [port("y", F, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_parameter(op_type: str, *outputs: int, **attributes: Any) -> onnx.ModelProto:
    n = Net(opset=18)
    n.output(*n.many(*outputs, op_type, n.input("rows", 4), n.input("numbers", dtype=np.int64), **attributes))
    return n.model()


def fill() -> onnx.ModelProto:
    n = Net(opset=18)
    n.output(n("Exp", n("ConstantOfShape", n.input(2, dtype=np.int64))))
    return n.model()


def less_five() -> onnx.ModelProto:
    n = Net(opset=18)
    rows = n("Slice", n("Shape", n.input("rows", 4)), n.integers(0), n.integers(1))
    n.output(n("Exp", n("ConstantOfShape", n("Sub", rows, n.integers(5)))))
    return n.model()


def table() -> onnx.ModelProto:
    n = Net(opset=18)
    n.output(n("Gather", n.weights(5, 2), n.input("k", dtype=np.int64)))
    return n.model()


def choice() -> onnx.ModelProto:
    """The branches take 5 and 7 columns."""
    branches = {}
    for name, columns in (("then_branch", 5), ("else_branch", 7)):
        weights = numpy_helper.from_array(zeros(columns, 2), f"w{columns}")
        product = node("MatMul", ["x", f"w{columns}"], [f"p{columns}"], f"product{columns}")
        branches[name] = helper.make_graph([product], name, [], [port(f"p{columns}", F, None)], [weights])
    return model_of([node("If", ["c"], ["y"], **branches)], [port("c", B, []), port("x", F, [3, "columns"])])


# The model, inputs that it takes, inputs that it does not, and what the error says.
WRONG: dict[str, tuple[Callable[[], onnx.ModelProto], list[Any], list[Any], type[Exception], str]] = {
    "an overflow": (fill, [[2, 3]], [[2**40, 2**40]], ov.InvalidArgumentError, r"ConstantOfShape .*overflows 64 bits"),
    "no memory": (fill, [[2, 3]], [[2**20, 2**22]], ov.OutOfMemoryError, r"need .*GiB; this machine has .*GiB"),
    "a negative shape": (
        less_five, [zeros(7, 4)], [zeros(3, 4)], ov.InvalidArgumentError, r"ConstantOfShape .*\[-2\] must be",
    ),
    "a target": (
        lambda: with_parameter("Reshape", 1), [zeros(3, 4), [2, 6]], [zeros(3, 4), [5, 3]],
        ov.InvalidArgumentError, r"Reshape .*\[5, ?3\]",
    ),
    "a negative extent": (
        lambda: with_parameter("Expand", 1), [zeros(1, 4), [3, 4]], [zeros(1, 4), [-3, 4]],
        ov.InvalidArgumentError, r"Expand .*-3",
    ),
    "too many": (
        lambda: with_parameter("TopK", 2, axis=0), [zeros(9, 4), [3]], [zeros(3, 4), [5]],
        ov.InvalidArgumentError, r"TopK .*k elements",
    ),
    "parts": (
        lambda: with_parameter("Split", 2, axis=0), [zeros(9, 4), [3, 6]], [zeros(9, 4), [4, 6]],
        ov.InvalidArgumentError, r"Split .*10.*9",
    ),
    "an index": (table, [[1, 4]], [[1, 7]], ov.InvalidArgumentError, r"Gather .*out of range.*between -5 and 4"),
    "a branch": (
        choice, [True, zeros(3, 5)], [True, zeros(3, 7)],
        ov.InvalidArgumentError, r"MatMul 'product5' .*x: f32\[3,7\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_an_error_names_node_and_value(name: str) -> None:
    build, right, wrong, error, message = WRONG[name]
    compiled = ov.Core().compile_model(build(), "CPU")
    compiled([np.asarray(value) for value in right])
    with pytest.raises(error, match=message):
        compiled([np.asarray(value) for value in wrong])
    compiled([np.asarray(value) for value in right])


def test_a_shape_outside_its_bounds() -> None:
    n = Net(opset=18)
    n.output(n("Neg", n.input("rows", 4)))
    model = ov.Core().read_model(n.model())
    model.reshape({0: ov.PartialShape([(1, 8), 4])})
    with pytest.raises(ov.InvalidArgumentError, match=r"Input 'x0': shape \[9,4\] given, \[1\.\.8,4\] needed"):
        ov.Core().compile_model(model, "CPU")([zeros(9, 4)])


def test_a_state_that_changes_its_type() -> None:
    body = helper.make_graph(
        [node("Cast", ["s"], ["t"], to=INT), node("Identity", ["c"], ["d"])], "b",
        [port("i", INT, []), port("c", B, []), port("s", F, [2])], [port("d", B, []), port("t", INT, [2])],
    )  # fmt: skip
    model = model_of([node("Loop", ["n", "", "x"], ["y"], "steps", body=body)], [port("n", INT, []), port("x", F, [2])])
    with pytest.raises(ov.ModelError, match=r"Loop 'steps' .*state variable 0 \('x'\) is f32 and i64"):
        ov.Core().compile_model(model, "CPU")


def test_an_evaluation_without_memory() -> None:
    tile = Node("Tile", "t", [Value("x"), Value("r")], [Value("y", Type.f32)], {}, "", 18)
    with pytest.raises(ov.OutOfMemoryError, match=r"^Tile 't' .*(TiB|PiB)"):
        evaluate(tile, [zeros(4), np.array([2**45])])
