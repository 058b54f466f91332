"""bench/cluster_simulation.py: a small cluster, some of whose nodes fail."""

from __future__ import annotations

import sys

import pytest

import cluster_simulation


def test_a_row_without_failures_and_one_with(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--scale", "0.01", "--seconds", "0.5", "--failing", "0", "0.1"]
    monkeypatch.setattr(sys, "argv", ["cluster_simulation.py", *options])
    assert cluster_simulation.main() == 0
    lines = capsys.readouterr().out.splitlines()
    names, _, *rows = ([cell.strip() for cell in line.split("|")] for line in lines)
    well, failing = (dict(zip(names, row)) for row in rows)
    assert well["requests"] == failing["requests"]
    assert well["lost"] == failing["lost"] == well["run again"] == "0"
    assert (well["within 50 ms"], well["nodes failing"], failing["nodes failing"]) == ("100.0000%", "0%", "10%")
    assert int(failing["run again"]) > 0
