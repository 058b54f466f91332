"""Shape rules say what ONNX's own inference says, for every row of the tables of cases and for shapes near theirs."""

from __future__ import annotations

import random

import numpy as np
import pytest
from cases import FAMILIES, rows
from cases.case import Case

import cpuruntime as ov
from cpuruntime.errors import Error, ModelError
from cpuruntime.graph import Graph
from cpuruntime.operators.movement_shapes import bound_of_slice, len_of_slice
from cpuruntime.operators.shape_inference import reshape
from cpuruntime.operators.shape_rules import broadcast, result_shapes

COMPARED = {"elementwise", "indexing", "matmul", "movement", "normalisation", "pooling", "reduce", "softmax", "topk"}
CASES = [(family, case) for family in FAMILIES for case in rows(family) if isinstance(case, Case)]


def check(graph: Graph) -> int:
    """Compare the rules for all nodes; how many there were."""
    compared = 0
    for node in graph.nodes:
        is_static = all(value is None or value.is_static for value in (*node.inputs, *node.outputs))
        if not is_static or node.attributes.get("ceil_mode"):  # of which ONNX's inference makes too much
            continue
        try:
            found = result_shapes(node, [None if value is None else value.constant for value in node.inputs])
        except ModelError:  # ONNX's inference does not look at all shapes
            continue
        if found is not None:
            wanted = [value.shape for value in node.outputs if value.name]
            assert [tuple(shape) for shape, value in zip(found, node.outputs) if value.name] == wanted, node
            compared += 1
    return compared


def varied(graph: Graph, chosen: random.Random) -> Graph | None:
    """The graph for inputs of other extents; None where it does not take them."""
    more = (0, 0, 1, 3)
    shapes = {v.name: [extent + chosen.choice(more) for extent in v.static_shape] for v in graph.inputs}
    try:
        return reshape(graph, shapes)
    except Error:
        return None


@pytest.mark.parametrize("family", FAMILIES)
def test_rules_agree_with_inference(family: str) -> None:
    compared, chosen = 0, random.Random(family)
    for other, case in CASES:
        if other != family:
            continue
        graph = ov.Core().read_model(case.model()).graph
        compared += check(graph)
        for _ in range(5):
            changed = varied(graph, chosen)
            compared += 0 if changed is None else check(changed)
    assert compared or family not in COMPARED


def test_broadcast() -> None:
    assert broadcast((3, 1), (2,), (4, 1, 1)) == (4, 3, 2)
    assert broadcast((0,), (1,)) == (0,)
    with pytest.raises(ValueError, match="do not broadcast"):
        broadcast((3,), (2,))


def test_bounds_of_slices_are_those_of_numpy_but_for_starts_in_front_of_the_axis() -> None:
    """Backwards, ONNX moves these to the first element; NumPy takes nothing."""
    chosen = random.Random(1)
    for _ in range(3000):
        extent, step = chosen.randint(0, 6), chosen.choice((1, 2, 5, -1, -2, -3))
        start, end = (chosen.choice((*range(-9, 10), 2**63 - 1, -(2**63))) for _ in range(2))
        array = np.arange(extent)[max(start, -extent) if step < 0 else start : end : step]
        assert len_of_slice(extent, start, end, step) == len(array)
        if len(array):
            assert bound_of_slice(extent, start, step, True) == array[0]


