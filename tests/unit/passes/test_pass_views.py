"""Operators that only change the shape become Reshape."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import Builder, kinds, optimise

from cpuruntime import passes

NAME = "views"


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("op_type", ["Flatten", "Squeeze", "Unsqueeze", "Reshape"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_all_are_reshapes(op_type: str, opset: int, dtype: type) -> None:
    b = Builder(opset)
    x = b.input(2, 1, 3, 4, dtype=dtype)
    axes = {"Squeeze": [1], "Unsqueeze": [0, -1]}.get(op_type)
    if op_type == "Reshape":
        y = b("Reshape", x, b.integers(0, -1))
    elif axes is None:
        y = b("Flatten", x, axis=2)
    else:
        y = b(op_type, x, axes=axes) if opset == 11 else b(op_type, x, b.integers(*axes))
    after = optimise(b.graph(y), NAME)
    assert kinds(after) == ["+Reshape"]
    assert len(after.nodes[0].inputs) == 1
    assert after.nodes[0].name == "n0"


def test_shapes_that_are_not_known_stay() -> None:
    b = Builder()
    x = b.input(None, 4)
    after = passes.run(b.graph(b("Flatten", x), b("Reshape", x, b.input(2, dtype=np.int64))), stop_after=NAME)
    assert kinds(after) == ["Flatten", "Reshape"]


def test_a_target_that_is_data_is_not_needed_when_the_shape_is_known() -> None:
    b = Builder()
    x = b.input(2, 6)
    graph = b.graph(b("Reshape", x, b.input(2, dtype=np.int64)))
    graph.outputs[0].shape = (4, 3)
    assert kinds(passes.run(graph, stop_after=NAME)) == ["+Reshape"]
