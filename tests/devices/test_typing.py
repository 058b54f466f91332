"""Strict type checkers see the installed package, find nothing in a program as users write it, and find a typo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import typed_program
from support.onnx_models import one_input

PROGRAM = Path(typed_program.__file__)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the program, and one with a typo."""
    text = PROGRAM.read_text()
    (tmp_path / "program.py").write_text(text)
    (tmp_path / "typo.py").write_text(text.replace("core.read_model", "core.raed_model"))
    return tmp_path


def check(folder: Path, *command: str) -> str:
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True).stdout


def test_the_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    typed_program.main(one_input(("n", 3)).SerializeToString())
    assert "REFERENCE" in capsys.readouterr().out


def test_mypy(programs: Path) -> None:
    pytest.importorskip("mypy")
    options = ("mypy", "--strict", "--config-file", os.devnull, "--cache-dir", str(programs / "cache"))
    assert check(programs, *options, "program.py").startswith("Success")
    assert '"Core" has no attribute "raed_model"' in check(programs, *options, "typo.py")


def test_pyright(programs: Path) -> None:
    pytest.importorskip("pyright")
    settings = {"typeCheckingMode": "strict", "include": ["program.py"]}
    (programs / "pyrightconfig.json").write_text(json.dumps(settings))
    options = ("pyright", "--pythonpath", sys.executable)
    assert check(programs, *options).splitlines()[-1] == "0 errors, 0 warnings, 0 informations"
    (programs / "pyrightconfig.json").write_text(json.dumps({**settings, "include": ["typo.py"]}))
    assert 'attribute "raed_model" for class "Core"' in check(programs, *options)
