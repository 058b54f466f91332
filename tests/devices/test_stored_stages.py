"""Models in stages in the cache: with loops, branches, and shapes that depend on data. Their parts serve later."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import stored_mutants
from support.judge import Net
from support.stored_models import CONFIG, compile_in, is_loaded, results

import cpuruntime as ov
from cpuruntime.cache import growth
from cpuruntime.devices.cpu import programs
from cpuruntime.errors import ModelError, UnsupportedError
from cpuruntime.graph import Graph


def found(batch: int | str = 2) -> onnx.ModelProto:
    """Where a network's results are above zero, and how far from the middle."""
    n = Net()
    x = n("Relu", n.conv(n.input(batch, 3, 16, 16), 3, 32, pads=[1] * 4))
    x = n("MatMul", n("Flatten", n("GlobalAveragePool", x)), n.weights(32, 10))
    n.output(n("Abs", n("Sub", n("NonZero", n("Relu", x)), n.constant(np.array(5), np.int64))), x)
    return n.model()


def above(is_first: bool = False) -> onnx.ModelProto:
    """Two products of what is above zero: of the rows that have it, or, if it `is_first`, of numbers of the input."""
    n = Net()
    x = n.input(8, 64)
    if is_first:
        x = n("Mul", n("Cast", n("NonZero", x), to=TensorProto.FLOAT), n.constant(np.array(0.01), np.float32))
        x = n("MatMul", n("Transpose", x, perm=[1, 0]), n.weights(2, 128))
    else:
        rows = n("NonZero", n("Relu", n("ReduceMax", x, axes=[1], keepdims=0)))
        x = n("MatMul", n("GatherND", x, n("Transpose", rows, perm=[1, 0])), n.weights(64, 128))
    n.output(n("MatMul", n("Tanh", x), n.weights(128, 32)))
    return n.model()


def _weights(seed: int) -> onnx.TensorProto:
    array = np.random.default_rng(seed).standard_normal((64, 64)).astype(np.float32) / 8
    return numpy_helper.from_array(array, f"w{seed}")


def loop() -> onnx.ModelProto:
    """A product in each iteration, of which there are as many as an input says."""
    value, node = helper.make_tensor_value_info, helper.make_node
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("MatMul", ["s", "w0"], ["m"]), node("Tanh", ["m"], ["t"])], "body",
        [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []), value("s", TensorProto.FLOAT, [4, 64])],
        [value("d", TensorProto.BOOL, []), value("t", TensorProto.FLOAT, [4, 64])],
    )  # fmt: skip
    graph = helper.make_graph(
        [node("MatMul", ["x", "w1"], ["p"]), node("Loop", ["n", "", "p"], ["y"], body=body)], "loop",
        [value("x", TensorProto.FLOAT, [4, 64]), value("n", TensorProto.INT64, [])],
        [value("y", TensorProto.FLOAT, [4, 64])], [_weights(0), _weights(1)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def branches() -> onnx.ModelProto:
    """One of two products, as the sum of a third one says."""
    value, node = helper.make_tensor_value_info, helper.make_node
    sides = [
        helper.make_graph([node("MatMul", ["p", f"w{side}"], [f"m{side}"])], f"side{side}", [],
                          [value(f"m{side}", TensorProto.FLOAT, [4, 64])])
        for side in (0, 1)
    ]  # fmt: skip
    graph = helper.make_graph(
        [
            node("MatMul", ["x", "w2"], ["p"]), node("ReduceSum", ["p"], ["sum"], keepdims=0),
            node("Greater", ["sum", "zero"], ["c"]),
            node("If", ["c"], ["y"], then_branch=sides[0], else_branch=sides[1]),
        ],
        "branches", [value("x", TensorProto.FLOAT, [4, 64])], [value("y", TensorProto.FLOAT, [4, 64])],
        [*map(_weights, range(3)), numpy_helper.from_array(np.float32(0), "zero")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


IMAGES = np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)
ROWS = np.random.default_rng(1).standard_normal((4, 64)).astype(np.float32)
MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], list[list[np.ndarray]], int]] = {
    "found": (found, [[IMAGES[:2]], [IMAGES[1:]]], 1),
    "found in batches": (lambda: found("batch"), [[IMAGES], [IMAGES[:1]], [IMAGES[:2]]], 1),
    "loop": (loop, [[ROWS, np.array(3)], [ROWS, np.array(0)]], 2),
    "branches": (branches, [[ROWS], [-ROWS]], 1),
}


@pytest.mark.parametrize("name", MODELS)
def test_plans_of_parts_are_loaded(name: str, tmp_path: Path, cache: Path) -> None:
    make, inputs, parts = MODELS[name]
    path = tmp_path / "model.onnx"
    onnx.save(make(), path)
    plain = ov.Core().compile_model(path, "CPU", {"COMPILE_MODE": "OPTIMIZED"})
    first, second = (compile_in(cache, path) for _ in range(2))
    assert (is_loaded(first), is_loaded(second)) == (False, True)
    for given in inputs:
        assert results(first, given) == results(second, given) == results(plain, given)
    (text,) = [one for one in second.explain().decisions if "was read again" in one]
    assert int(text.partition("data: ")[2].partition(" ")[0]) >= parts
    for compiled in (plain, first, second):
        with pytest.raises(UnsupportedError, match="depend on data"):
            compiled.export_model()


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operators of all that is planned."""
    found: list[str] = []
    optimise = programs.optimise

    def noted(graph: Graph) -> Graph:
        found.extend(node.op_type for node in graph.nodes)
        return optimise(graph)

    monkeypatch.setattr(programs, "optimise", noted)
    return found


@pytest.mark.parametrize("batch", [2, "batch"])
def test_what_was_stored_is_not_planned_again(batch: int | str, cache: Path, planned: list[str]) -> None:
    model = found(batch).SerializeToString()
    compile_in(cache, model)
    planned.clear()
    assert is_loaded(compile_in(cache, model))
    assert "Conv" not in planned


@pytest.mark.parametrize("is_first", [False, True])
def test_what_the_first_inference_has_planned_is_stored(is_first: bool, cache: Path, planned: list[str]) -> None:
    model = above(is_first).SerializeToString()
    given = [np.concatenate([np.abs(ROWS), side]) for side in (-np.abs(ROWS), ROWS)]  # 4 rows above zero, and 8
    first = compile_in(cache, model)
    expected = [results(first, [x]) for x in given]
    assert planned.count("MatMul") == 2
    growth.store_all()
    for _ in range(2):
        planned.clear()
        loaded = compile_in(cache, model)
        assert is_loaded(loaded)
        assert [results(loaded, [x]) for x in given] == expected
        assert "MatMul" not in planned


def test_processes_add_to_what_others_have_stored(cache: Path, planned: list[str]) -> None:
    model = branches().SerializeToString()
    results(compile_in(cache, model), [ROWS])
    growth.store_all()
    first = sum(path.stat().st_size for path in cache.glob("*.model"))
    results(compile_in(cache, model), [-ROWS])
    growth.store_all()
    last = sum(path.stat().st_size for path in cache.glob("*.model"))
    assert 64 * 64 * 4 <= last - first < 64 * 64 * 4 + 5 * 4096  # weights of the other branch, and no others again
    planned.clear()
    loaded = compile_in(cache, model)
    expected = [results(ov.Core().compile_model(branches(), "CPU", CONFIG), [x]) for x in (ROWS, -ROWS)]
    planned.clear()
    assert [results(loaded, [x]) for x in (ROWS, -ROWS)] == expected
    assert not planned


def test_models_are_dropped_as_if_they_were_not_to_be_stored(cache: Path) -> None:
    compiled = compile_in(cache, above())
    results(compiled, [np.ones((8, 64), np.float32)])
    growth.store_all()
    alive = weakref.ref(compiled)
    del compiled
    assert alive() is None


def test_a_stored_file_in_stages_is_not_imported(tmp_path: Path, cache: Path) -> None:
    compile_in(cache, loop())
    (path,) = cache.glob("*.model")
    with pytest.raises(ModelError, match="with the model beside it"):
        ov.Core().import_model(path, "CPU", CONFIG)


@pytest.mark.parametrize("make", [loop, found])
def test_mutants_are_refused(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(make(), path)
    assert stored_mutants.check_cached(path, 60) == 60
