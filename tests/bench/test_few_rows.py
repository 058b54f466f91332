"""bench/few_rows.py: a line for each storage of weights."""

from __future__ import annotations

import pytest

from few_rows import STORED, main


def test_a_line_for_each_storage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--inner", "256", "--columns", "256", "--rounds", "2"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [name for name, *_ in lines[1:]] == [*STORED]
    assert all(0 <= float(error) < 0.2 for *_, error in lines[1:])
    assert float(lines[1][-1]) == 0
    assert float(lines[-1][-1]) > 1e-3
