"""Tuned models: whatever is found to be fastest, results are the same for any number of threads, and are explained."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import cpuruntime as ov
from cpuruntime import passes
from cpuruntime.devices.cpu import late_tuning
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.tuning import tuner
from cpuruntime.program.tuning.decisions import Decisions
from cpuruntime.program.tuning.trial import Workbench
from cpuruntime.store import Folder

CHANNELS, SIZE = 64, 40


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """A 3 x 3 convolution, one of stride 2, a 1 x 1 convolution and a product, each large enough to be measured."""
    generator = np.random.default_rng(0)
    shapes = {
        "a": (CHANNELS, CHANNELS, 3, 3), "b": (2 * CHANNELS, CHANNELS, 3, 3), "c": (4 * CHANNELS, 2 * CHANNELS, 1, 1),
        "d": (SIZE // 2, 1024),
    }  # fmt: skip
    weights = {name: generator.standard_normal(shape, np.float32) * np.float32(0.05) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["1"], name="a", pads=[1] * 4),
        helper.make_node("Relu", ["1"], ["2"], name="relu"),
        helper.make_node("Conv", ["2", "b"], ["3"], name="b", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Conv", ["3", "c"], ["4"], name="c"),
        helper.make_node("MatMul", ["4", "d"], ["y"], name="d"),
    ]
    x = helper.make_tensor_value_info("x", 1, [1, CHANNELS, SIZE, SIZE])
    y = helper.make_tensor_value_info("y", 1, [1, 4 * CHANNELS, SIZE // 2, 1024])
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "tuned", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


@pytest.fixture
def by_chance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """Replaces what is measured by random numbers, and forgets what was measured before."""

    def begin(seed: int) -> None:
        generator = random.Random(seed)

        class Chance:
            def __init__(self, far: bool) -> None:
                pass

            def prepare(self, trial: Emitter) -> Callable[[], float]:
                seconds = generator.uniform(1e-3, 2e-3)
                return lambda: seconds

        decisions = Decisions(Folder(tmp_path / str(seed)))
        monkeypatch.setattr(tuner, "Workbench", Chance)
        monkeypatch.setattr(tuner, "decisions", lambda: decisions)

    return begin


def compiled(model: onnx.ModelProto, **config: object) -> ov.CompiledModel:
    settings = {"TUNING_BUDGET_MS": 100_000, **config}
    core = ov.Core()
    return core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)


X = np.random.default_rng(1).standard_normal((1, CHANNELS, SIZE, SIZE), np.float32)


def test_chosen_by_chance_results_do_not_depend_on_threads(
    model: onnx.ModelProto, by_chance: Callable[[int], None]
) -> None:
    exact = compiled(model, EXECUTION_MODE_HINT="ACCURACY", TUNING_BUDGET_MS=0)(X)[0]
    methods = set()
    for seed in range(3):
        by_chance(seed)
        results = []
        for threads, streams in ((1, 1), (2, 1), (2, 2), (3, 1)):
            with compiled(model, INFERENCE_NUM_THREADS=threads, NUM_STREAMS=streams) as one:
                results.append(one(X)[0].copy())
                methods.add(next(row.notes[:3] for row in one.explain().rows if "a" in row.nodes and row.notes))
        assert len({result.tobytes() for result in results}) == 1
        np.testing.assert_allclose(results[0], exact, rtol=1e-3, atol=1e-3)
    assert len(methods) > 1


def test_accuracy_keeps_direct_convolution(model: onnx.ModelProto, by_chance: Callable[[int], None]) -> None:
    by_chance(0)
    rows = compiled(model, EXECUTION_MODE_HINT="ACCURACY").explain().rows
    assert not any("winograd" in row.kernel for row in rows)
    assert any(row.compared.startswith("tile ") and " us" in row.compared for row in rows)


def test_trials_run_the_steps_on_scratch_memory(model: onnx.ModelProto) -> None:
    taken: list[float] = []
    for far in (False, True):

        class Watched(Workbench):
            def prepare(self, trial: Emitter) -> Callable[[], float]:
                run = super().prepare(trial)
                taken.extend(run() for _ in range(2))
                return run

        graph = passes.run(ov.Core().read_model(model.SerializeToString()).graph)
        chooser = tuner.Tuner(100.0, "processor", far, Decisions(Folder(None)), Watched(far).prepare)
        Planner(graph, WeightStore(), 2, tuner=chooser).plan()
        assert len(taken) >= 8
        assert all(seconds > 0 for seconds in taken)
        taken.clear()


def test_measured_steps_have_figures(model: onnx.ModelProto) -> None:
    with compiled(model, TUNING_BUDGET_MS=0) as one:
        before = one(X)[0].copy()
        assert all(row.microseconds is None for row in one.explain().rows)
        explanation = one.explain(measure=True)
        for row in explanation.rows:
            assert row.microseconds is not None
            assert row.microseconds > 0
            assert (row.roof is None) == (row.gigabytes is None) == (row.layout == "halo")
            assert row.roof is None or row.roof > 0
            heavy = row.op_type in ("Conv", "FullyConnected") and "->" not in row.layout and row.layout != "halo"
            assert (row.gflops is not None) == heavy
        assert "of roof" in str(explanation)
        np.testing.assert_array_equal(one(X)[0], before)
    with pytest.raises(ov.Error, match="closed"):
        one.explain(measure=True)


def test_a_fast_start_measures_later_and_requests_change_over(
    model: onnx.ModelProto, by_chance: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_tuning, "HEAD_START", 60.0)
    compiled(model, TUNING_BUDGET_MS=0)  # compiles the kernels that estimates choose
    by_chance(7)
    with compiled(model, COMPILE_MODE="FAST_START") as one:
        request = one.create_infer_request()
        estimated = request.infer([X])[0].copy()
        assert one.get_property("OPTIMIZED") is False
        assert any("estimates chose kernels" in sentence for sentence in one.explain().decisions)
        before = [row.notes for row in one.explain().rows]
        assert one.wait_until_optimized(60)
        assert one.get_property("OPTIMIZED") is True
        wanted = compiled(model)
        assert [row.notes for row in one.explain().rows] == [row.notes for row in wanted.explain().rows] != before
        assert not any("estimates chose kernels" in sentence for sentence in one.explain().decisions)
        measured = request.infer([X])[0]
    np.testing.assert_array_equal(measured, wanted(X)[0])
    np.testing.assert_allclose(measured, estimated, rtol=1e-3, atol=1e-3)
    with compiled(model, COMPILE_MODE="FAST_START") as again:
        assert again.get_property("OPTIMIZED") is True


def test_a_fast_start_that_cannot_measure_says_so_and_stays(
    model: onnx.ModelProto, by_chance: Callable[[int], None], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(late_tuning, "HEAD_START", 60.0)

    def fail(far: bool) -> None:
        raise MemoryError("no room")

    compiled(model, TUNING_BUDGET_MS=0)
    by_chance(8)
    monkeypatch.setattr(tuner, "Workbench", fail)
    with compiled(model, COMPILE_MODE="FAST_START") as one:
        first = one(X)[0].copy()
        assert one.wait_until_optimized(60)
        np.testing.assert_array_equal(one(X)[0], first)
    assert "stays with the kernels that estimates chose: no room" in caplog.text


def test_measuring_ends_with_the_model(
    model: onnx.ModelProto, by_chance: Callable[[int], None], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(late_tuning, "HEAD_START", 60.0)
    has_begun, may_go_on, trials = threading.Event(), threading.Event(), []

    class Held:
        def __init__(self, far: bool) -> None:
            pass

        def prepare(self, trial: Emitter) -> Callable[[], float]:
            trials.append(trial)
            has_begun.set()
            may_go_on.wait(60)
            return lambda: 1.0

    compiled(model, TUNING_BUDGET_MS=0)
    by_chance(9)
    monkeypatch.setattr(tuner, "Workbench", Held)
    before = set(threading.enumerate())
    with compiled(model, COMPILE_MODE="FAST_START") as one:
        [thread] = [each for each in set(threading.enumerate()) - before if each.name == "cpuruntime-tune"]
        one.wait_until_optimized(0)
        assert has_begun.wait(60)
    may_go_on.set()
    thread.join(60)
    assert not thread.is_alive()
    assert len(trials) == 1
    assert "estimates" not in caplog.text
