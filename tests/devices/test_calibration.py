"""Measured streams: candidates are tried on the model, the best is taken, and what was measured is cached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.onnx_models import one_input, two_inputs

import cpuruntime as ov
from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.streams import calibration
from cpuruntime.properties import Settings, of_device
from cpuruntime.store import Folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of measurements, empty."""
    monkeypatch.setattr(calibration, "cache_folder", lambda: Folder(tmp_path))
    return tmp_path


@pytest.fixture
def rates(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, int], float]:
    """What the measurement finds, by streams and threads; entries are made and changed by tests."""
    found: dict[tuple[int, int], float] = {}

    def measure(compilation: Any, plans: Any, budget: float) -> list[float]:
        return [found.get((len(plan.shares), plan.threads), 1.0) for plan in plans]

    monkeypatch.setattr(calibration, "measure", measure)
    return found


two_cores = pytest.mark.skipif(ov.Topology.read().usable < 2, reason="one core leaves nothing to choose")


def compile_measured(model: Any = None, **config: Any) -> ov.CompiledModel:
    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "STREAMS_CALIBRATION_MS": 20, **config}
    return ov.Core().compile_model(model or two_inputs(), "CPU", settings)


def reason(compiled: ov.CompiledModel) -> str:
    (found,) = (text for text in compiled.explain().decisions if ", measured " in text)
    return found


def streams(compiled: ov.CompiledModel) -> tuple[int, int]:
    return compiled.get_property("NUM_STREAMS"), compiled.get_property("INFERENCE_NUM_THREADS")


@two_cores
@pytest.mark.parametrize("hint", ["LATENCY", "THROUGHPUT"])
def test_real_measurements(folder: Path, hint: str) -> None:
    compiled = compile_measured(PERFORMANCE_HINT=hint)
    assert compiled.get_property("STREAMS_CALIBRATION_MS") == 20
    (file,) = folder.glob("*.json")
    figures = json.loads(Folder(folder).read(file.name) or b"")
    assert len(figures) >= 2
    assert all(rate > 0 for rate in figures)
    assert "measured in 20 ms" in reason(compiled)
    assert not any("has no effect" in text for text in compiled.explain().decisions)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(compiled([x, x])["sum"], 2 * x)


@two_cores
def test_the_best_is_taken(rates: dict[tuple[int, int], float]) -> None:
    usable = min(2, ov.Topology.read().usable)
    config = {"INFERENCE_NUM_THREADS": usable}
    rates[2, 1] = 5.0
    assert streams(compile_measured(**config)) == (2, 2)
    rates.update({(2, 1): 3.0, (1, 2): 4.0})
    again = compile_measured(**config)
    assert streams(again) == (2, 2), "from the cache"
    assert "measured before" in reason(again)
    other = compile_measured(one_input(), **config)
    assert streams(other) == (1, 2), "another model is measured anew"
    assert reason(other).startswith("1x2 is the best, measured in 20 ms: inferences/s ")
    assert "1x2 4" in reason(other)


@pytest.mark.parametrize(
    ("rates", "best", "why"),
    [
        ([5.0, 4.0], 0, "is the best"),
        ([5.0, 5.05, 5.2], 2, "is the best"),
        ([5.0, 5.05], 0, "nothing is more than 2% better"),
        ([60_000.0, 90_000.0], 0, "over before the next one can be started"),
    ],
)
def test_the_rules_are_overruled_by_clear_figures_only(rates: list[float], best: int, why: str) -> None:
    found, reason = calibration.best_of(rates)
    assert found == best
    assert why in reason


@two_cores
def test_other_settings_and_machines_are_measured_anew(
    rates: dict[tuple[int, int], float], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_measured()
    compile_measured(ENABLE_CPU_PINNING=False)
    assert len(list(folder.glob("*.json"))) == 2
    compile_measured(PERF_COUNT=True, STREAMS_CALIBRATION_MS=10)
    assert len(list(folder.glob("*.json"))) == 2, "the programs are the same"
    monkeypatch.setattr(calibration, "processor_name", lambda: "another one")
    compile_measured()
    assert len(list(folder.glob("*.json"))) == 3


OTHER = {
    "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "TUNING_BUDGET_MS": 0, "PERFORMANCE_HINT": "THROUGHPUT",
    "PERFORMANCE_HINT_NUM_REQUESTS": 1, "INFERENCE_PRECISION_HINT": "bf16", "EXECUTION_MODE_HINT": "ACCURACY",
    "ENABLE_CPU_PINNING": True, "SCHEDULING_CORE_TYPE": "PCORE_ONLY", "ENABLE_HYPER_THREADING": True,
    "MODEL_DISTRIBUTION_POLICY": "TENSOR_PARALLEL", "ENABLE_CPU_RESERVATION": True, "WEIGHTS_PRECISION": "i8",
    "PRECISION_BUDGET": 0.1, "PRECISION_SAMPLES": "samples.npz", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    "LATENCY_TARGET_MS": 5,
}  # fmt: skip
"""A value that differs from what holds where a setting is not set."""


@pytest.mark.parametrize("name", [name for name, one in of_device("CPU").items() if one.keyed])
def test_every_keyed_setting_changes_the_key_unless_it_is_as_if_unset(name: str) -> None:
    graph = ov.Core().read_model(two_inputs()).graph
    known = of_device("CPU")

    def key(**values: object) -> str:
        return calibration.key(Compilation.of(graph, Settings(known, values)))

    assert key(**{name: known[name].values.parse(OTHER[name])}) != key()
    if not known[name].unset:
        assert key(**{name: known[name].default}) == key()


def test_nothing_is_measured_where_nothing_is_to_choose(rates: dict[tuple[int, int], float], folder: Path) -> None:
    for config, reason in (
        ({"INFERENCE_NUM_THREADS": 1}, "no other streams were worth measuring"),
        ({"NUM_STREAMS": 0}, "STREAMS_CALIBRATION_MS is 20 and has no effect: NUM_STREAMS is 0, so"),
        ({"LATENCY_TARGET_MS": 10_000}, "has no effect: models with LATENCY_TARGET_MS are not calibrated"),
        ({"model": one_input(("n", 3))}, "has no effect: the model has dynamic shapes, so"),
    ):
        (found,) = (text for text in compile_measured(**config).explain().decisions if reason in text)
        assert ("has no effect" in found) == ("STREAMS_CALIBRATION_MS is 20" in found)
    assert not list(folder.iterdir())


def test_without_the_property_nothing_is_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(calibration, "measure")
    for config in ({}, {"NUM_STREAMS": 0}):
        compiled = compile_measured(STREAMS_CALIBRATION_MS=0, **config)
        assert not any("measured" in text or "CALIBRATION" in text for text in compiled.explain().decisions)
    assert not list(folder.iterdir())


@two_cores
def test_an_error_of_the_model_is_the_compilation_s(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(request: Any) -> Any:
        return ov.Error("no luck"), 0

    monkeypatch.setattr(calibration.CpuRequest, "result", broken)
    with pytest.raises(ov.Error, match="no luck"):
        compile_measured()
    assert not list(folder.iterdir())


@two_cores
@pytest.mark.parametrize("content", [b"", b"[1.0, 2.0]"])
def test_a_damaged_file_is_measured_anew(rates: dict[tuple[int, int], float], folder: Path, content: bytes) -> None:
    compile_measured()
    (file,) = folder.glob("*.json")
    file.write_bytes(content)
    assert "measured in 20 ms" in reason(compile_measured())
    assert "measured before" in reason(compile_measured())


@two_cores
def test_without_a_folder_it_is_measured_every_time(
    rates: dict[tuple[int, int], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "cache_folder", lambda: Folder(None))
    for _ in range(2):
        assert "measured in 20 ms" in reason(compile_measured())
