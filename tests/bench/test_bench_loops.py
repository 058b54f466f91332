"""bench/loops.py: the engines' results are compared, and a limit decides."""

from __future__ import annotations

import pytest

from loops import main


@pytest.mark.parametrize(("limit", "code"), [("100000", 0), ("0.0001", 1)])
def test_the_limit_decides(limit: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--iterations", "40", "--rounds", "1", "--limit", limit]) == code
    found = capsys.readouterr().out
    assert "Loop, 40 iterations: cpuruntime" in found
    assert "Scan, 40 iterations: cpuruntime" in found
