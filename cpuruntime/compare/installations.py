"""A side of the comparison: a Python, a wheel, a source tree or a git ref, made ready to run in own processes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpuruntime.errors import InvalidArgumentError, printable


@dataclass(frozen=True)
class Installation:
    """`folder` is where `python` finds the package before all others; empty: where that Python finds it.

    `is_versioned` is false for sources, whose version no metadata tells; `bytecode` is where its processes keep
    bytecode, empty: where they do by default.
    """

    label: str
    python: str
    folder: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    is_versioned: bool = True
    bytecode: str = ""


def installation(text: str | None, place: Path, config: Mapping[str, Any]) -> Installation:
    """The installation that an option names; by default the running one.

    Args:
        text: a Python executable, a virtual environment, a wheel, a source tree or a git ref of the repository of the
            current folder. Wheels, trees and refs run with this Python and the packages installed for it.
        place: an empty folder for the files of a wheel or a ref.

    Raises:
        InvalidArgumentError: it is none of these, or cannot be made ready.
    """
    if text is None:
        return Installation("this installation", sys.executable, str(Path(__file__).parents[2]), config)
    path = Path(text)
    for python in (path / "bin" / "python", path):
        if python.is_file() and os.access(python, os.X_OK):
            return Installation(text, str(python.absolute()), "", config)
    if text.endswith(".whl"):
        _install(path, place)
        return Installation(path.name, sys.executable, str(place), config)
    if path.is_dir():
        if not (path / "cpuruntime" / "__init__.py").is_file():
            raise InvalidArgumentError(f"'{text}' is a folder with neither bin/python nor cpuruntime/__init__.py.")
        return Installation(str(path.resolve()), sys.executable, str(path.resolve()), config, is_versioned=False)
    commit = _unpack(text, place)
    return Installation(f"{text} ({commit[:10]})", sys.executable, str(place), config, is_versioned=False)


def _install(wheel: Path, place: Path) -> None:
    """Installs a wheel without its dependencies."""
    if not wheel.is_file():
        raise InvalidArgumentError(f"There is no wheel '{wheel}'.")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    _run([*pip, "--target", str(place), str(wheel)], f"The wheel '{wheel}' cannot be installed")


def _unpack(ref: str, place: Path) -> str:
    """Unpacks the files of a git ref, and returns its commit."""
    problem = f"'{printable(ref)}' is no Python, virtual environment, wheel, source tree or git ref of this folder"
    if ref.startswith("-"):
        raise InvalidArgumentError(f"{problem}.")
    commit = _run(["git", "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"], problem).decode().strip()
    top = _run(["git", "rev-parse", "--show-toplevel"], problem).decode().strip()
    archive = _run(["git", "-C", top, "archive", commit], f"'{ref}' cannot be unpacked")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(place, filter="data")
    return commit


def _run(command: Sequence[str], problem: str) -> bytes:
    """The command's output. Raises InvalidArgumentError with `problem` and the last line of what it said."""
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise InvalidArgumentError(f"{problem}: {error}.") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise InvalidArgumentError(f"{problem}{f': {printable(lines[-1], 300)}' if lines else ''}.")
    return done.stdout
