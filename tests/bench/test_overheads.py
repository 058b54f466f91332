"""bench/overheads.py: limits, table and JSON. The measuring itself runs, and nothing here depends on how fast."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import overheads
from peer import engines
from peer.report import EngineResult, Result


def result(measure: overheads.Measure, median: float, failure: str = "") -> Result:
    """What cpuruntime alone achieved in a measure's mode."""
    return Result("mlp", "bench", measure.mode, {"cpuruntime": EngineResult(median=median, failure=failure)}, {})


@pytest.mark.parametrize(
    ("measure", "median", "value", "holds"),
    [
        (overheads.MEASURES[0], 0.004, 4.0, True),
        (overheads.MEASURES[0], 0.0041, 4.1, False),
        (overheads.MEASURES[1], 0.0041, 4.1, False),
        (overheads.MEASURES[2], 150_000.0, 150_000.0, True),
        (overheads.MEASURES[2], 149_999.0, 149_999.0, False),
    ],
)
def test_limits(measure: overheads.Measure, median: float, value: float, holds: bool) -> None:
    row = overheads.result_row(measure, result(measure, median))
    assert row["cpuruntime"] == pytest.approx(value)
    assert row["holds"] is holds


def test_a_failed_measure_keeps_no_limit() -> None:
    measure = overheads.MEASURES[0]
    assert not overheads.result_row(measure, result(measure, 0.0, "no kernel"))["holds"]


def test_the_table_is_aligned_and_says_which_limits_are_not_met() -> None:
    rows = [
        {"measure": "infer()", "unit": "us", "cpuruntime": 2.5, "openvino": 8.25, "limit": 6, "holds": True},
        {"measure": "start", "unit": "us", "cpuruntime": 12.0, "limit": 10, "holds": False},
        {"measure": "queue", "unit": "/s", "cpuruntime": 250000.0, "openvino": 1.0, "limit": 50000, "holds": True},
    ]
    lines = overheads.result_table(["cpuruntime", "openvino"], rows)
    assert lines[1].split() == ["infer()", "2.50", "us", "8.25", "us", "at", "most", "6.00", "us", "met"]
    assert lines[2].split() == ["start", "12.00", "us", "-", "at", "most", "10.00", "us", "NOT", "MET"]
    assert lines[3].split() == ["queue", "250,000/s", "1/s", "at", "least", "50,000/s", "met"]
    assert len({len(line) for line in lines[1:]}) == 1


@pytest.mark.parametrize(("limit", "code"), [(1e9, 0), (1e-9, 1)])
def test_the_whole_command(
    limit: float, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    easy = [replace(each, limit=limit if each.mode.is_latency else 1 / limit) for each in overheads.MEASURES]
    monkeypatch.setattr(overheads, "MEASURES", easy)
    path = tmp_path / "overheads.json"
    arguments = ["--engine", "onnxruntime", "--seconds", "0.02", "--rounds", "2", "--json", str(path)]
    assert overheads.main(arguments) == code
    document = json.loads(path.read_text())
    printed = capsys.readouterr().out
    present = [name for name in engines.ENGINES if name != "openvino"]
    assert [[name for name in present if name in row] for row in document["rows"]] == [present, ["cpuruntime"], present]
    assert all(row["cpuruntime"] > 0 for row in document["rows"])
    assert document["share_of_infer"] == document["native_us"] / document["rows"][0]["cpuruntime"] > 0
    assert printed.count(" met") == (0 if code else 3)
    assert f"takes {document['native_us']:.2f} us" in printed
