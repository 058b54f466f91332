"""Chains of Reshape and of Transpose become one."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import Builder, kinds, optimise

LAST = "no_ops_after_merge_views"


def test_reshapes_read_the_first_one_s_input() -> None:
    b = Builder()
    x = b("Exp", b.input(2, 3, 4))
    after = optimise(b.graph(b("Flatten", b("Unsqueeze", b("Reshape", x, b.integers(4, 6)), b.integers(0)))), LAST)
    assert kinds(after) == ["Exp", "+Reshape"]
    assert after.nodes[1].origins == ["n1", "n2", "n3"]


def test_a_reshape_and_its_inverse_vanish() -> None:
    b = Builder()
    x = b("Exp", b.input(2, 3, 4))
    y = b("Reshape", b("Reshape", x, b.integers(24)), b.integers(2, 3, 4))
    assert kinds(optimise(b.graph(b("Neg", y)), LAST)) == ["Exp", "Neg"]


def test_what_others_read_stays() -> None:
    b = Builder()
    x = b("Exp", b.input(2, 3, 4))
    flat = b("Flatten", x)
    after = optimise(b.graph(b("Neg", flat), b("Reshape", flat, b.integers(4, 6))), LAST)
    assert sorted(kinds(after)) == ["+Reshape", "+Reshape", "Exp", "Neg"]
    assert [node.inputs[0].name for node in after.nodes if node.op_type == "Reshape"] == ["n0_Exp", "n0_Exp"]


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        ([1, 2, 0], [1, 2, 0], [2, 0, 1]),
        ([1, 2, 0], [2, 0, 1], None),
        ([2, 1, 0], [2, 1, 0], None),
        (None, [1, 0, 2], [1, 2, 0]),
    ],
)
def test_transposes(first: list[int] | None, second: list[int], left: list[int] | None) -> None:
    b = Builder()
    x = b("Exp", b.input(2, 3, 4))
    inner = b("Transpose", x) if first is None else b("Transpose", x, perm=first)
    after = optimise(b.graph(b("Neg", b("Transpose", inner, perm=second))), LAST)
    if left is None:
        assert kinds(after) == ["Exp", "Neg"]
    else:
        assert kinds(after) == ["Exp", "Transpose", "Neg"]
        assert after.nodes[1].attributes["perm"] == left
        assert after.nodes[1].origins == ["n1", "n2"]


@pytest.mark.parametrize(
    ("shape", "perm"), [((2, 1, 3), [0, 2, 1]), ((1, 4, 1, 1), [0, 2, 3, 1]), ((1, 1, 5), [1, 0, 2])]
)
def test_a_transpose_that_keeps_the_order_is_a_reshape(shape: tuple[int, ...], perm: list[int]) -> None:
    b = Builder()
    y = b("Flatten", b("Transpose", b("Exp", b.input(*shape)), perm=perm))
    assert kinds(optimise(b.graph(b("Neg", y)), LAST)) == ["Exp", "+Reshape", "Neg"]


def test_other_transposes_stay() -> None:
    b = Builder()
    x = b.input(2, 3, 1, dtype=np.int32)
    assert kinds(optimise(b.graph(b("Transpose", x, perm=[1, 0, 2])), LAST)) == ["Transpose"]


def test_it_reaches_through_what_does_nothing() -> None:
    b = Builder()
    x = b("Exp", b.input(2, 3, 4))
    y = b("Flatten", b("Identity", b("Flatten", b("Dropout", x))))
    assert kinds(optimise(b.graph(b("Neg", y)), LAST)) == ["Exp", "+Reshape", "Neg"]
