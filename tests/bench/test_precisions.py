"""bench/precisions.py: a line for each engine and precision, and for each group of steps."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from support.judge import Net

from cpuruntime.compiler.isa import bf16_products
from precisions import main


def test_lines_of_engines_and_of_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    n = Net(17)
    x = n("Conv", n.input(1, 8, 6, 6), n.weights(32, 8, 1, 1))
    n.output(n("Relu", x))
    onnx.save(n.model(), str(tmp_path / "small.onnx"))
    assert main([str(tmp_path / "small.onnx"), "--rounds", "2"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "small"
    errors = {" ".join(line.split()[:2]): float(line.split()[-1]) for line in lines if line.startswith("cpuruntime")}
    assert errors["cpuruntime f32"] == 0
    assert errors["cpuruntime bf16"] < 0.02
    assert any(line.startswith("1x1 convolutions") for line in lines)
    assert any(line.startswith("products at the peak") for line in lines) == bool(bf16_products())
