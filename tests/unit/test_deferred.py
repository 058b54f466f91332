"""Large weights are read when they are packed, and are then what they would have been."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cpuruntime.errors import ModelError
from cpuruntime.frontend.reader import read
from cpuruntime.graph import Deferred, Value, joined, settle, verify
from cpuruntime.passes import run

LARGE = np.random.default_rng(1).standard_normal((128, 256), np.float32)


def counted(array: np.ndarray) -> tuple[Deferred, list[None]]:
    """The array deferred, and an entry for each time that it is made."""
    made: list[None] = []

    def make() -> np.ndarray:
        made.append(None)
        return array.copy()

    return Deferred(array.shape, array.dtype, make), made


def test_operators_are_those_of_arrays() -> None:
    deferred, _ = counted(np.float32([1, 2]))
    assert (deferred == 1).tolist() == [True, False]
    assert (deferred != np.float32([1, 2])).tolist() == [False, False]
    assert (1 - deferred).tolist() == (-(deferred - 1)).tolist() == [0, -1]
    assert len({deferred, deferred}) == 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A model of a product with large weights, then scaled by columns."""
    scale = numpy_helper.from_array(np.arange(256, dtype=np.float32), "scale")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["t"]), helper.make_node("Mul", ["t", "scale"], ["y"])]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3, s]) for n, s in (("x", 128), ("y", 256))]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(LARGE, "w"), scale])
    path = tmp_path / "model.onnx"
    padding = "p" * (1 << 20)  # larger files are read in pieces
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], doc_string=padding), path)
    return path


def test_facts_need_no_content() -> None:
    deferred, made = counted(LARGE)
    value = Value.of("w", deferred)
    scaled = deferred * np.ones((1, 256), np.float32)
    wide = joined([deferred, scaled], 1)
    assert (value.shape, value.nbytes, wide.shape, wide.T.shape) == ((128, 256), LARGE.nbytes, (128, 512), (512, 128))
    assert not made


def test_the_content_is_that_of_the_array() -> None:
    deferred, made = counted(LARGE)
    factor = np.arange(256, dtype=np.float32)
    wide = joined([deferred, deferred * factor, LARGE], 1)
    np.testing.assert_array_equal(np.asarray(wide.T), np.concatenate([LARGE, LARGE * factor, LARGE], 1).T)
    np.testing.assert_array_equal(np.asarray(deferred), LARGE)
    np.testing.assert_array_equal(deferred[3:5], LARGE[3:5])
    assert deferred.max() == LARGE.max()
    assert np.add(1, deferred)[0, 0] == 1 + LARGE[0, 0]
    assert (deferred * np.float64(2)).dtype == (LARGE * np.float64(2)).dtype
    assert (deferred * np.ones((2, 1, 1), np.float32)).shape == (2, 128, 256)
    held, before = np.asarray(deferred), len(made)
    assert np.asarray(deferred) is held
    assert len(made) == before
    assert not held.flags.writeable


def test_weights_of_a_file_are_read_after_the_passes(file: Path) -> None:
    early, late = run(read(file)), run(read(file, late=True))
    verify(late)
    (node,), (expected,) = late.nodes, early.nodes
    assert isinstance(node.inputs[1].constant, Deferred)
    assert isinstance(expected.inputs[1].constant, np.ndarray)
    np.testing.assert_array_equal(node.inputs[1].constant, expected.inputs[1].constant)


def test_a_file_that_changed_is_an_error(file: Path) -> None:
    graphs = [read(file, late=True) for _ in range(3)]
    settle(graphs[0])
    weights = [graph.nodes[0].inputs[1] for graph in graphs]
    os.utime(file, ns=(1, 1))
    with pytest.raises(ModelError, match="was changed while"):
        np.asarray(weights[1].constant)
    os.truncate(file, file.stat().st_size - LARGE.nbytes)
    with pytest.raises(ModelError, match="file ended at byte"):
        np.asarray(weights[2].constant)
    np.testing.assert_array_equal(weights[0].constant, LARGE)


def test_the_file_is_closed_with_the_last_array(file: Path) -> None:
    def is_open() -> bool:
        places = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return str(file) in [os.readlink(place) for place in places if os.path.lexists(place)]

    graph = read(file, late=True)
    assert is_open()
    settle(graph)
    assert not is_open()
