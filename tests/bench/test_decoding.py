"""bench/decoding.py: every engine gives the same text, and the command measures a step."""

from __future__ import annotations

import pytest

from decoding import main

SMALL = ["--layers", "1", "--width", "64", "--vocabulary", "50", "--prompt", "3", "--tokens", "8", "--rounds", "1"]


def test_engines_give_the_same_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--threads", "1", "--limit", "1000"]) == 0
    found = capsys.readouterr().out
    assert "cpuruntime" in found
    assert "onnxruntime" in found
    assert "differ" not in found


def test_a_limit_that_is_not_met() -> None:
    assert main([*SMALL, "--threads", "1", "--limit", "0.5"]) == 1


def test_products_with_weights_of_few_bits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--threads", "1", "--limit", "1000", "--bits", "4"]) == 0
    assert "cpuruntime" in capsys.readouterr().out
