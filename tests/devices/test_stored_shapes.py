"""Models of dynamic shapes in files: their plans serve later processes, and what no plan holds for is compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import stored_mutants
from support.judge import Net, check, onnx_runtime
from support.stored_models import CONFIG, compile_in, is_loaded

import cpuruntime as ov
from cpuruntime.cache import growth
from cpuruntime.errors import InvalidArgumentError, ModelError
from cpuruntime.program import template_file
from cpuruntime.store import SectionFile, written


def images() -> onnx.ModelProto:
    """Any number of images."""
    n = Net()
    x = n("Relu", n.conv(n.input("batch", 8, 12, 12), 8, 16, pads=[1] * 4))
    n.output(n("Gemm", n("Flatten", n("GlobalAveragePool", x)), n.weights(16, 10), n.weights(10)))
    return n.model()


def sizes() -> onnx.ModelProto:
    """Images of any size, by which kernels are chosen, and a convolution in groups, which has tables of sizes."""
    n = Net()
    x = n("Relu", n.conv(n.input("batch", 3, "height", "width"), 3, 30, pads=[1] * 4))
    n.output(n.conv(x, 30, 30, group=3, pads=[1] * 4))
    return n.model()


def texts() -> onnx.ModelProto:
    """Attention over any number of words, and a kernel that reports faults."""
    n = Net()
    words = n.input("batch", "words", dtype=np.int64)
    x = n("Gather", n.weights(50, 32), words)
    query, key, value = (n("MatMul", x, n.weights(32, 32)) for _ in range(3))
    weights = n("Softmax", n("MatMul", query, n("Transpose", key, perm=[0, 2, 1])), axis=-1)
    n.output(n("Add", n("MatMul", weights, value), x))
    return n.model()


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def words(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 50, shape)


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], list[np.ndarray]]] = {
    "images": (images, [normal(count, 8, 12, 12) for count in (1, 2, 5, 16)]),
    "sizes": (sizes, [normal(1, 3, 224, 224), normal(1, 3, 64, 80), normal(2, 3, 30, 41)]),
    "texts": (texts, [words(1, 16), words(1, 128), words(4, 7), words(8, 33)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_computes_the_same_bits(name: str, cache: Path) -> None:
    make, inputs = MODELS[name]
    model = make()
    first, loaded = (compile_in(cache, model.SerializeToString()) for _ in range(2))
    assert (is_loaded(first), is_loaded(loaded)) == (False, True)
    for x in inputs:
        assert loaded(x)[0].tobytes() == first(x)[0].tobytes()
        check([loaded(x)[0]], onnx_runtime(model, {model.graph.input[0].name: x}), 1e-4)


def others(model: onnx.ModelProto, **config: Any) -> ov.CompiledModel:
    """The model after a way through a file, without the model that it was compiled from."""
    return ov.Core().import_model(ov.Core().compile_model(model, "CPU", CONFIG).export_model(), "CPU", CONFIG | config)


def test_an_imported_model_serves_what_it_has_plans_for() -> None:
    model = texts()
    imported = others(model)
    assert imported.input(0).partial_shape == ov.PartialShape("[?,?]")
    for x in (words(3, 40), words(20, 3)):
        check([imported(x)[0]], onnx_runtime(model, {"x0": x}), 1e-4)
    again = ov.Core().import_model(imported.export_model(), "CPU", CONFIG)
    assert again(words(3, 40))[0].tobytes() == imported(words(3, 40))[0].tobytes()
    with pytest.raises(InvalidArgumentError, match=r"no plan for inputs of shapes \[3, 1\]; compile it with"):
        imported(words(3, 1))
    with pytest.raises(ov.Error, match="between"):
        imported(np.full((2, 3), 99))


def test_shapes_without_a_plan_are_compiled_from_the_model(tmp_path: Path, cache: Path) -> None:
    path, model, x = tmp_path / "model.onnx", texts(), words(3, 1)
    onnx.save(model, path)
    compile_in(cache, path)
    for source in (path, path.read_bytes(), ov.Core().read_model(path)):
        compile_in(cache, source)
        loaded = compile_in(cache, source)
        assert is_loaded(loaded)
        for one in (x, words(4, 7), x):
            check([loaded(one)[0]], onnx_runtime(model, {"x0": one}), 1e-4)
        assert {step.kernel for step in loaded.explain().rows}
    loaded = compile_in(cache, path)
    onnx.save(images(), path)
    with pytest.raises(ModelError, match="has changed since it was loaded"):
        loaded(x)
    assert loaded(words(4, 7))[0].shape == (4, 7, 32)


def test_shapes_that_an_inference_had_compiled_are_stored(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, given = texts().SerializeToString(), [words(3, 1), words(1, 1), words(4, 7), words(3, 1)]
    caplog.set_level(logging.INFO, "cpuruntime")
    compile_in(cache, model)
    found = []
    for compilations in (1, 0, 0):
        caplog.clear()
        loaded = compile_in(cache, model)
        assert is_loaded(loaded)
        found.append([loaded(x)[0].tobytes() for x in given])
        assert caplog.text.count("is compiled: no plan of it that was stored") == compilations
        growth.store_all()
    assert found[0] == found[1] == found[2]


def test_a_model_that_was_planned_for_no_shapes_is_stored_after_an_inference(cache: Path) -> None:
    for is_stored in (False, True):
        compiled = compile_in(cache, texts(), WARMUP_SHAPES="NONE")
        assert is_loaded(compiled) == is_stored
        check([compiled(words(3, 5))[0]], onnx_runtime(texts(), {"x0": words(3, 5)}), 1e-4)
        growth.store_all()


def test_a_loaded_model_explains_and_times_its_steps() -> None:
    imported = others(sizes(), PERF_COUNT=True)
    request = imported.create_infer_request()
    request.infer(normal(2, 3, 64, 80))
    assert all(row.status.name == "EXECUTED" for row in request.profiling_info)
    explained = imported.explain(measure=True)
    assert any(row.gflops for row in explained.rows)
    assert any("it was stored: what is said of its steps" in line for line in explained.decisions)


def test_shapes_beyond_the_room_for_them_are_evicted() -> None:
    imported = others(texts(), PROGRAM_CACHE_MB=0)
    for count in (2, 3, 4, 3):
        assert imported(words(count, 9))[0].shape == (count, 9, 32)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "a table of its kernels is computed anew for each shape"),
        ({"WARMUP_SHAPES": "NONE"}, "it was planned for no shapes yet"),
    ],
)
def test_what_is_not_stored_says_so(config: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_file, "NAMED", {})
    compiled = ov.Core().compile_model(sizes(), "CPU", CONFIG | config)
    with pytest.raises(ov.Error, match=f"Model 'small' cannot be stored: {message}"):
        compiled.export_model()


@pytest.mark.parametrize(
    "change",
    [
        {"work": 10**9},
        {"rows": [1, 1, 1, 1]},
        {"fixed": [[10**6, 0]]},
        {"fixed": [[0, -1]]},
        {"fixed": [[0, 10**6]]},
        {"word_kernels": [[-1, 0]]},
        {"term_kernels": [[10**6, 0]]},
        {"ports": [[[[10**6], "float32"]], []]},
        {"tables": [["system", [0]]]},
        {"first_table": 1},
    ],
)
def test_numbers_out_of_range_are_refused(change: dict[str, Any]) -> None:
    content = ov.Core().compile_model(texts(), "CPU", CONFIG).export_model().getvalue()
    file = SectionFile(memoryview(content))
    program = file.facts["own"]["program"]
    program["templates"][0][1].update(change)
    count = len(program["templates"])
    names = [f"template {number} {name}" for number in range(count) for name in ("numbers", "steps")]
    sections = {name: [file[name]] for name in ("interface", *names, "weights")}
    with pytest.raises(ModelError, match="cannot be imported"):
        ov.Core().import_model(b"".join(written(file.facts, sections)), "CPU", CONFIG)


def test_no_mutation_of_a_file_is_used() -> None:
    assert stored_mutants.check(texts(), 200) == 200
