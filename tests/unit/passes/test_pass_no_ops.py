"""Nodes that return what they are given go, and only those."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.graphs import Builder, kinds, optimise

from cpuruntime import passes
from cpuruntime.graph import Type, Value

NAME = "no_ops"
Make = Callable[[Builder, Value], Value]

NOTHING: dict[str, Make] = {
    "Identity": lambda b, x: b("Identity", x),
    "Dropout": lambda b, x: b("Dropout", x),
    "Dropout with ratio": lambda b, x: b("Dropout", x, b.constant(0.3), b.constant(False, bool)),
    "Cast": lambda b, x: b("Cast", x, to=Type.f32.to_onnx()),
    "Reshape": lambda b, x: b("Reshape", x, b.integers(0, 0, -1)),
    "Flatten": lambda b, x: b("Reshape", x, b.integers(2, 3, 4)),
    "Transpose": lambda b, x: b("Transpose", x, perm=[0, 1, 2]),
    "Pad": lambda b, x: b("Pad", x, b.integers(*[0] * 6)),
    "Concat": lambda b, x: b("Concat", x, axis=1),
    "Max": lambda b, x: b("Max", x),
    "Sum": lambda b, x: b("Sum", x),
    "Slice": lambda b, x: b("Slice", x, b.integers(0, 0), b.integers(1 << 40, 3), b.integers(2, 1)),
    "Expand": lambda b, x: b("Expand", x, b.integers(3, 1)),
    "Tile": lambda b, x: b("Tile", x, b.integers(1, 1, 1)),
    "Mul": lambda b, x: b("Mul", x, b.constant(np.ones((3, 1)))),
    "Mul on the left": lambda b, x: b("Mul", b.constant(1.0), x),
    "Add": lambda b, x: b("Add", x, b.constant(0.0)),
    "Sub": lambda b, x: b("Sub", x, b.constant([0.0] * 4)),
    "Div": lambda b, x: b("Div", x, b.constant(1.0)),
    "Pow": lambda b, x: b("Pow", x, b.constant(1, np.int64)),
}

SOMETHING: dict[str, Make] = {
    "Dropout in training": lambda b, x: b("Dropout", x, b.constant(0.0), b.input(dtype=bool)),
    "Cast": lambda b, x: b("Cast", x, to=Type.f64.to_onnx()),
    "Transpose": lambda b, x: b("Transpose", x),
    "Pad": lambda b, x: b("Pad", x, b.integers(0, 0, 0, 0, 0, 1)),
    "Pad by data": lambda b, x: b("Pad", x, b.input(6, dtype=np.int64)),
    "Concat": lambda b, x: b("Concat", x, x, axis=1),
    "Slice backwards": lambda b, x: b("Slice", x, b.integers(-1), b.integers(-99), b.integers(0), b.integers(-1)),
    "Expand": lambda b, x: b("Expand", x, b.integers(2, 1, 1, 1)),
    "Mul": lambda b, x: b("Mul", x, b.constant([1.0, 1.0, 1.0, 2.0])),
    "Mul that broadcasts": lambda b, x: b("Mul", x, b.constant(np.ones((2, 1, 1, 1)))),
    "Sub from 0": lambda b, x: b("Sub", b.constant(0.0), x),
    "1 divided": lambda b, x: b("Div", b.constant(1.0), x),
    "Add that adds an axis": lambda b, x: b("Add", x, b.constant(np.zeros((1, 1, 1, 1)))),
}


@pytest.mark.parametrize("make", NOTHING.values(), ids=NOTHING)
def test_between_two_nodes(make: Make) -> None:
    b = Builder()
    after = optimise(b.graph(b("Neg", make(b, b("Exp", b.input(2, 3, 4))))), NAME)
    assert kinds(after) == ["Exp", "Neg"]


@pytest.mark.parametrize("make", NOTHING.values(), ids=NOTHING)
def test_before_an_output_the_output_keeps_its_name(make: Make) -> None:
    b = Builder()
    x = b("Exp", b.input(2, 3, 4))
    graph = b.graph(make(b, x), b("Neg", x))
    after = optimise(graph, NAME)
    assert kinds(after) == ["Exp", "Neg"]
    assert [value.name for value in after.outputs] == [value.name for value in graph.outputs]
    assert after.nodes[1].inputs[0] is after.outputs[0]


@pytest.mark.parametrize("make", SOMETHING.values(), ids=SOMETHING)
def test_what_does_something_stays(make: Make) -> None:
    b = Builder()
    y = make(b, b("Exp", b.input(2, 3, 4)))
    graph = b.graph(y)
    if any(value.element_type is Type.boolean for value in graph.inputs) or not graph.outputs[0].is_static:
        assert len(passes.run(graph, stop_after=NAME).nodes) == 2
    else:
        assert len(optimise(graph, NAME).nodes) == 2


def test_between_an_input_and_an_output_something_must_stay() -> None:
    b = Builder()
    x = b.input(2, 3)
    assert kinds(optimise(b.graph(b("Identity", x)), NAME)) == ["Identity"]


def test_between_two_outputs_something_must_stay() -> None:
    b = Builder()
    y = b("Exp", b.input(2, 3))
    after = optimise(b.graph(y, b("Identity", y), b("Identity", y)), NAME)
    assert kinds(after) == ["Exp", "Identity", "Identity"]


def test_a_chain_between_input_and_output_leaves_one_node() -> None:
    b = Builder()
    x = b.input(2, 3)
    for _ in range(4):
        x = b("Identity", x)
    assert kinds(optimise(b.graph(x), NAME)) == ["Identity"]


@pytest.mark.parametrize(("opset", "dtype"), [(9, np.float32), (12, np.bool_)])
def test_the_mask_of_dropout_is_all_ones(opset: int, dtype: type) -> None:
    b = Builder(opset)
    y, mask = b.many(2, "Dropout", b("Exp", b.input(2, 3)))
    graph = b.graph(b("Neg", y), mask)
    mask.element_type = Type(dtype)
    after = passes.run(graph, stop_after=NAME)
    assert kinds(after) == ["Exp", "Neg"]
    assert after.outputs[1].constant.tolist() == np.ones((2, 3), dtype).tolist()
    assert after.outputs[1].constant.dtype == dtype


def test_a_mask_of_unknown_shape_keeps_its_node() -> None:
    b = Builder(12)
    y, mask = b.many(2, "Dropout", b("Exp", b.input(None, 3)))
    assert kinds(optimise(b.graph(b("Neg", y), mask), NAME)) == ["Exp", "Dropout", "Neg"]


def test_unknown_extents_might_broadcast() -> None:
    b = Builder()
    x = b("Exp", b.input(None, 3))
    assert kinds(optimise(b.graph(b("Mul", x, b.constant(np.ones((2, 1))))), NAME)) == ["Exp", "Mul"]
