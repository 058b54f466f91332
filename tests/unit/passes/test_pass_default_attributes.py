"""Attributes left to their defaults are written down."""

from __future__ import annotations

import pytest
from support.graphs import Builder, node_of, optimise

NAME = "default_attributes"


@pytest.mark.parametrize(
    ("op_type", "expected"),
    [
        ("LeakyRelu", {"alpha": pytest.approx(0.01)}),
        ("HardSigmoid", {"alpha": pytest.approx(0.2), "beta": 0.5}),
        ("Flatten", {"axis": 1}),
        ("Relu", {}),
    ],
)
def test_defaults_of_the_schema_are_written_down(op_type: str, expected: dict[str, object]) -> None:
    b = Builder()
    after = optimise(b.graph(b(op_type, b.input(2, 3))), NAME)
    assert node_of(after, op_type).attributes == expected


def test_what_the_model_says_stays() -> None:
    b = Builder()
    after = optimise(b.graph(b("LeakyRelu", b.input(2, 3), alpha=0.3)), NAME)
    assert node_of(after, "LeakyRelu").attributes == {"alpha": 0.3}


def test_texts_are_text() -> None:
    b = Builder()
    after = optimise(b.graph(b("Pad", b.input(2, 3), b.integers(0, 1, 0, 1))), NAME)
    assert node_of(after, "Pad").attributes == {"mode": "constant"}


@pytest.mark.parametrize(("opset", "axis"), [(11, 1), (13, -1)])
def test_the_default_is_that_of_the_nodes_operator_set(opset: int, axis: int) -> None:
    b = Builder(opset)
    after = optimise(b.graph(b("Hardmax", b.input(2, 3))), NAME)
    assert node_of(after, "Hardmax").attributes == {"axis": axis}


def test_two_nodes_share_no_list() -> None:
    b = Builder(opset=19)
    x = b.input(2, 3, 4)
    shapes = [b("Resize", x, None, b.constant([1.0, 2.0, 1.0]), mode="nearest") for _ in range(2)]
    after = optimise(b.graph(*shapes), NAME)
    lists = [[v for v in node.attributes.values() if isinstance(v, list)] for node in after.nodes]
    assert all(a is not b for a, b in zip(*lists))
