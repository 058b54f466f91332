"""The build backend makes two builds of a commit alike, and leaves out modules of an earlier build."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKEND = Path(__file__).resolve().parents[2] / ".ci"


def epoch(folder: Path, **environment: str) -> str:
    """SOURCE_DATE_EPOCH as setuptools finds it in a build in this folder."""
    stub = folder / "stub/setuptools"
    stub.mkdir(parents=True, exist_ok=True)
    (stub / "__init__.py").touch()
    (stub / "build_meta.py").touch()
    paths = os.pathsep.join(map(str, (BACKEND, stub.parent)))
    done = subprocess.run(
        [sys.executable, "-c", "import os, build_backend; print(os.environ['SOURCE_DATE_EPOCH'])"],
        env=os.environ | {"PYTHONPATH": paths, "GIT_CEILING_DIRECTORIES": str(folder.parent)} | environment,
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.skipif(not BACKEND.is_dir(), reason="the tests of a package without its repository")
def test_the_moment_of_a_build_is_that_of_the_commit(tmp_path: Path) -> None:
    gone = tmp_path / "build/lib/cpuruntime/gone.py"
    gone.parent.mkdir(parents=True)
    gone.touch()
    assert epoch(tmp_path) == "315532800"
    assert not gone.exists()
    assert epoch(tmp_path, SOURCE_DATE_EPOCH="7") == "7"
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    when = {"GIT_COMMITTER_DATE": "1700000000 +0000"}
    commit = [*git, "commit", "-q", "--allow-empty", "-m", "first"]
    subprocess.run(commit, cwd=tmp_path, check=True, env=os.environ | when)
    assert epoch(tmp_path) == "1700000000"
