"""bench/dynamic.py: models whose shapes change, and what is measured on them."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import onnx
import pytest
from support.judge import check, onnx_runtime

import cpuruntime as ov
from dynamic import main
from varying.measure import SITUATIONS
from varying.planning import LIMITS, Planning, slow
from varying.subjects import SUBJECTS, shapes


@pytest.mark.parametrize("name", ["mlp", "convnet", "encoder2x64"])
def test_a_model_takes_the_shapes_drawn_for_it(name: str) -> None:
    subject = SUBJECTS[name]
    model = subject.build()
    onnx.checker.check_model(model, full_check=True)
    compiled = ov.Core().compile_model(model, "CPU")
    for sizes in itertools.islice(shapes(name, seed=3), 2):
        assert all(1 <= size <= limit for size, limit in zip(sizes, subject.limits))
        feeds = subject.feeds(sizes)
        found = compiled(feeds)
        check([found[0]], onnx_runtime(model, feeds), 1e-4)
    assert not compiled.explain().fallbacks


def test_the_command_writes_what_it_measured(tmp_path: Path) -> None:
    arguments = ["-m", "encoder2x64", "--engine", "cpuruntime", "onnxruntime", "--threads", "1", "--rounds", "1"]
    assert main([*arguments, "--fresh", "2", "--shapes", "20", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["results"]["encoder2x64"]
    for measured in found.values():
        assert all(len(measured["rounds"][name]) == 1 and measured["rounds"][name][0] > 0 for name in SITUATIONS)
        assert set(measured["memory"]) == {"20", "0"}
        assert math.isfinite(measured["error"])
        assert measured["error"] < 1e-3
        assert not measured["failure"]


def test_the_command_prints_what_planning_takes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--planning", "-m", "mlp"])
    header, _, row, *_ = capsys.readouterr().out.splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == header.count("|") - 1
    assert cells[0] == "mlp"
    assert int(cells[1]) >= 4
    assert all(float(cell) > 0 for cell in cells[2:])


def test_planning_that_takes_too_long_is_named() -> None:
    half, quick = [LIMITS["new"] / 2], [LIMITS["seen"]]
    late = {"a": Planning(1, [2 * LIMITS["new"]], half, [0])}
    assert slow({"a": Planning(1, half, half, quick)}) == []
    assert slow(late) == ["a: a new shape takes 2500 us, more than 1000 us."]
    assert slow({"a": Planning(1, half, half, [25])}) == ["a: a seen shape takes 25 us, more than 20 us."]
