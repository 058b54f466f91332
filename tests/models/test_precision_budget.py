"""PRECISION_BUDGET: weights take fewer bits where that is faster, as long as the outputs stay within the budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.judge import Net, onnx_runtime

import cpuruntime as ov
from cpuruntime.compiler import isa
from cpuruntime.devices.cpu import precision_search
from cpuruntime.devices.cpu.precision_search import run_trial
from cpuruntime.errors import InvalidArgumentError

WIDTH = 256


def model() -> Any:
    n = Net(17)
    x = n.input(1, WIDTH, name="x")
    for _ in range(4):
        x = n("Tanh", n("MatMul", x, n.weights(WIDTH, WIDTH)))
    n.output(x)
    return n.model()


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((1, WIDTH)).astype(np.float32))
    return path


def config(path: Path, budget: float) -> dict[str, Any]:
    return {"PRECISION_BUDGET": budget, "PRECISION_SAMPLES": str(path)}


def timed(model: Any, sample: Any, products: Any) -> precision_search.Trial:
    """A trial with times that are given: the bits of the weights, but for the first product's, where nothing helps."""
    trial = run_trial(model, sample, products)
    notes = {node: row.notes for row in model.explain().rows for node in row.nodes if "compressed" in row.kernel}
    times = {}
    for weight, nodes in products.items():
        said = " ".join(notes.get(node, "") for node in nodes)
        times[weight] = 32.0 if weight == "c0" or not said else 8.0 if "weights u8" in said else 16.0
    return precision_search.Trial(trial.outputs, times)


def test_as_many_as_the_budget_allows(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, int] = {}
    monkeypatch.setattr(precision_search, "run_trial", timed)
    x = np.load(sample)["x"]
    (expected,) = onnx_runtime(model(), {"x": x})
    for budget in (1e-6, 3e-3, 0.5):
        with ov.Core().compile_model(model(), "CPU", config(sample, budget)) as compiled:
            found, explanation = compiled({"x": x})[0], compiled.explain()
            lost = np.linalg.norm(found - expected) / np.linalg.norm(expected)
            assert lost <= max(budget, 1e-5)
            seen[str(budget)] = sum("relative error" in row.notes for row in explanation.rows)
            said = f"PRECISION_BUDGET is {budget:g}: {seen[str(budget)]} of 4 products and convolutions take fewer bits"
            assert said in str(explanation)
            assert all("us, 32.0 in f32" in row.notes for row in explanation.rows if "relative error" in row.notes)
    assert list(seen.values()) == sorted(seen.values())
    assert [*seen.values()][::2] == [0, 3]


@pytest.mark.skipif(not isa.bf16_products(), reason="this processor does not multiply bf16")
def test_convolutions_take_bf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(model: Any, sample: Any, products: Any) -> precision_search.Trial:
        rounded = {node for row in model.explain().rows if row.precision == "bf16" for node in row.nodes}
        times = {weight: 10.0 if nodes & rounded else 20.0 for weight, nodes in products.items()}
        return precision_search.Trial(run_trial(model, sample, products).outputs, times)

    monkeypatch.setattr(precision_search, "run_trial", timed)
    n = Net(17)
    x = n("Conv", n.input(1, 16, 9, 9, name="x"), n.weights(32, 16, 1, 1))
    n.output(n("Conv", n("Relu", x), n.weights(32, 32, 1, 1)))
    np.savez(tmp_path / "sample.npz", x=np.random.default_rng(0).standard_normal((1, 16, 9, 9), np.float32))
    for budget, count in ((1e-6, 0), (0.1, 2)):
        with ov.Core().compile_model(n.model(), "CPU", config(tmp_path / "sample.npz", budget)) as compiled:
            explanation = compiled.explain()
            assert sum(row.precision == "bf16" for row in explanation.rows) == count
            assert str(explanation).count("in bf16: 10.0 us, 20.0 in f32") == count


def test_accurate_models_stay(sample: Path) -> None:
    options = config(sample, 0.5) | {"EXECUTION_MODE_HINT": "ACCURACY"}
    with ov.Core().compile_model(model(), "CPU", options) as compiled:
        assert not any("compressed" in row.kernel for row in compiled.explain().rows)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "'x'"),
        ({"x": np.zeros((2, WIDTH), np.float32)}, "another type or shape"),
        ({"x": np.zeros((1, WIDTH), np.float32), "y": np.zeros(1)}, "'y'"),
        ({"x": np.full((1, WIDTH), np.nan, np.float32)}, "infinite or NaN"),
    ],
)
def test_samples_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    np.savez(tmp_path / "sample.npz", **arrays)
    with pytest.raises(InvalidArgumentError, match=words):
        ov.Core().compile_model(model(), "CPU", config(tmp_path / "sample.npz", 0.1))


def test_files_that_are_no_samples(tmp_path: Path) -> None:
    (tmp_path / "sample.npz").write_bytes(b"text")
    for path, words in ((tmp_path / "sample.npz", "is no npz file"), (tmp_path / "none.npz", "is no npz file")):
        with pytest.raises(InvalidArgumentError, match=words):
            ov.Core().compile_model(model(), "CPU", config(path, 0.1))
    with pytest.raises(InvalidArgumentError, match="needs PRECISION_SAMPLES"):
        ov.Core().compile_model(model(), "CPU", {"PRECISION_BUDGET": 0.1})
