"""bench/gate.py: simulated runs of `cpuruntime compare`, and the copy of the sources whose kernels wait."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.compared import case

import gate
from cpuruntime.compare.record import METHOD_PAIRED, Run, written

TIMED = """
import time
import numpy as np
import cpuruntime as ov
from onnx import helper
from support.onnx_models import make_model
shape = [256, 256]
model = make_model([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": shape, "b": shape}, {"y": shape})
compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "TUNING_BUDGET_MS": 0})
request = compiled.create_infer_request()
request.infer()
times = []
for _ in range(300):
    begin = time.perf_counter()
    request.infer()
    times.append(time.perf_counter() - begin)
print(ov.__file__, min(times))
"""


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Stored runs of equal sides, 80 pairs of processes."""
    for number in range(10):
        run = Run("2026-01-01", METHOD_PAIRED, {}, {}, 99.0, [case(noise=0.003, seed=number)], [], [])
        (tmp_path / f"{number}.json").write_text(written(run))
    return tmp_path


def test_simulated_runs_of_equal_sides_are_not_slower(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate.main(["--simulate", str(stored), "--runs", "30"]) == 0
    assert "falsely slower: 0.00% of 120 rows, in 0 of 30 runs" in capsys.readouterr().out


def test_simulated_slowdowns_are_found_and_too_small_ones_fail(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate.main(["--simulate", str(stored), "--runs", "30", "--percent", "3"]) == 0
    assert "found, of a slowdown by 3 %: net 100.0%" in capsys.readouterr().out
    assert gate.main(["--simulate", str(stored), "--runs", "30", "--percent", "0.2"]) == 1


def test_a_folder_without_runs_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate.main(["--simulate", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("gate.py: ")


def test_the_kernels_of_a_slowed_copy_take_longer(tmp_path: Path) -> None:
    def seconds(folder: str) -> float:
        path = f"import sys; sys.path[:0] = [{folder!r}, {str(gate.ROOT / 'tests')!r}]"
        done = subprocess.run([sys.executable, "-c", path + TIMED], capture_output=True, text=True, check=True)
        file, value = done.stdout.split()
        assert file.startswith(folder)
        return float(value)

    slow = gate.slowed_tree(tmp_path, 200)
    assert seconds(slow) > 1.8 * seconds(str(gate.ROOT))
