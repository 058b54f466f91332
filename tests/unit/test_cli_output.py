"""The command line when its output cannot be written, and when Ctrl-C strikes while a command is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

INTERRUPTED = """
import importlib.abc, os, signal, sys, time
from cpuruntime.cli.main import main

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "cpuruntime.cli.docs":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(20)
            except KeyboardInterrupt:
                raise ImportError("as some packages do") from None

sys.meta_path.insert(0, Slow())
sys.exit(main(["docs"]))
"""


def shell(line: str, *arguments: str) -> tuple[int, str]:
    """The exit code of a line that begins with the interpreter, and its standard error."""
    command = ["sh", "-c", f'"{sys.executable}" -W error {line}', "sh", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def test_an_unknown_instruction_set_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPURUNTIME_ISA", "mmx")
    code, error = shell("-m cpuruntime devices")
    assert (code, error.count("\n")) == (1, 1)
    assert error.startswith("[ ERROR ] CPURUNTIME_ISA is 'mmx'; this processor offers ")


@pytest.mark.parametrize("buffered", ["", "-u"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    ("to", "complaint"), [(">&-", "Standard output is closed"), (">/dev/full", "Standard output: No space left")]
)
def test_output_that_cannot_be_written_is_one_line(to: str, complaint: str, buffered: str) -> None:
    code, error = shell(f"{buffered} -m cpuruntime docs operators {to}")
    assert (code, error.count("\n")) == (1, 1)
    assert error.startswith(f"[ ERROR ] {complaint}")


def test_a_reader_that_leaves_is_no_error() -> None:
    assert shell("-m cpuruntime docs operators | true") == (0, "")


def test_without_standard_error_the_command_runs() -> None:
    assert shell("-m cpuruntime docs operators 2>&-") == (0, "")


def test_ctrl_c_during_imports_is_one_line() -> None:
    assert shell('-c "$1"', INTERRUPTED) == (130, "[ ERROR ] Interrupted.\n")
