"""bench/streams.py: what it prints and returns; nothing here depends on speed."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from support.onnx_models import one_input

import streams


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.onnx"
    onnx.save(one_input(), path)
    return str(path)


def test_a_search(capsys: pytest.CaptureFixture[str], model: str) -> None:
    options = ["--hints", "latency", "throughput", "--budget", "5", "--choices", "2", "--seconds", "0.002"]
    assert streams.main(["-m", model, *options, "--rounds", "2", "--limit", "1e9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{model} latency: inferences/s 1x1 ")
    assert lines[3].startswith(f"{model} throughput: inferences/s 1x1 ")
    assert sum(line.startswith("  chosen ") for line in lines) == 4
    assert lines[-1].startswith("largest regret ")


def test_regret(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {(1, 1): [50.0, 51.0, 49.0], (1, 2): [100.0, 90.0, 95.0], (2, 1): [110.0, 99.0, 114.0]}
    assert streams.print_report("m", [((2, 1), 0.1)], rates) == 0
    assert streams.print_report("m", [((2, 1), 0.1), ((1, 2), 0.1)], rates) == pytest.approx(10)
    assert "chosen 1x2 in 0.10 s of compiling, regret 10.0 %" in capsys.readouterr().out


def test_a_missing_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert streams.main(["-m", str(tmp_path / "none.onnx")]) == 1
    assert "There is no model file" in capsys.readouterr().err
