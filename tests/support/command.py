"""`cpuruntime benchmark` in this process: what it prints, and the one line of its errors."""

from __future__ import annotations

import pytest

from cpuruntime.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `cpuruntime benchmark` prints when it succeeds."""
    code = main(["benchmark", *arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one error line of a `cpuruntime benchmark` that fails."""
    assert main(["benchmark", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("[ ERROR ] ")
    assert error.count("\n") == 1
    return error
