"""Softmax of old operator sets means the same along one axis."""

from __future__ import annotations

import pytest
from support.graphs import Builder, attributes_of, kinds, node_of, optimise

NAME = "softmax"
ALL = pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])


@ALL
@pytest.mark.parametrize(
    ("shape", "attributes", "axis"), [((2, 5), {}, 1), ((2, 3, 4), {"axis": 2}, 2), ((4,), {"axis": 0}, 0)]
)
def test_the_last_axis_means_the_same_in_every_opset(
    op_type: str, shape: tuple[int, ...], attributes: dict[str, int], axis: int
) -> None:
    b = Builder(opset=11)
    after = optimise(b.graph(b(op_type, b.input(*shape), **attributes)), NAME)
    assert kinds(after) == [op_type]
    assert node_of(after, op_type).version == 13
    assert attributes_of(after, op_type, "axis") == [axis]


@ALL
@pytest.mark.parametrize("axis", [0, 1, -2])
def test_several_axes_that_count_as_one_are_reshaped_into_one(op_type: str, axis: int) -> None:
    b = Builder(opset=9)
    after = optimise(b.graph(b(op_type, b.input(2, 3, 4), axis=axis)), NAME)
    assert kinds(after) == ["+Reshape", op_type, "+Reshape"]
    assert after.nodes[1].inputs[0].shape == ((1, 24) if axis == 0 else (2, 12))
    assert attributes_of(after, op_type, "axis") == [1]
    assert after.outputs[0].name == f"n0_{op_type}"


@ALL
def test_axes_of_extent_one_do_not_count(op_type: str) -> None:
    b = Builder(opset=9)
    after = optimise(b.graph(b(op_type, b.input(2, 5, 1, 1))), NAME)
    assert kinds(after) == [op_type]
    assert attributes_of(after, op_type, "axis") == [1]


def test_a_single_element() -> None:
    b = Builder(opset=9)
    assert kinds(optimise(b.graph(b("Softmax", b.input(1, 1, 1))), NAME)) == ["Softmax"]


@pytest.mark.parametrize(("attributes", "axis"), [({}, 2), ({"axis": 1}, 1), ({"axis": -3}, 0)])
def test_since_opset_13(attributes: dict[str, int], axis: int) -> None:
    b = Builder(opset=13)
    after = optimise(b.graph(b("Softmax", b.input(2, 3, 4), **attributes)), NAME)
    assert kinds(after) == ["Softmax"]
    assert attributes_of(after, "Softmax", "axis") == [axis]
