"""README against the tree: the repository map lists every source file, and its commands are the tested ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import repo_map
from support.repo_map import ROOT

README = (ROOT / "README.md").read_text()


def test_the_map_lists_every_source_file_and_no_other() -> None:
    expected, found = (set(text.splitlines()) for text in (repo_map.repository_map(), repo_map.in_readme()))
    assert not expected ^ found, "run `python tests/support/repo_map.py`"
    assert repo_map.in_readme() == repo_map.repository_map()


def test_a_file_without_a_docstring_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repo_map, "ROOT", tmp_path)
    silent = tmp_path / "silent.py"
    silent.write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"silent\.py does not say"):
        repo_map.summary(silent)


def test_writing_the_map_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "pool.py").write_text('"""Pooling."""\n')
    (tmp_path / "README.md").write_text(f"above\n{repo_map.BEGIN}old\n{repo_map.END}below\n")
    monkeypatch.setattr(repo_map, "ROOT", tmp_path)
    repo_map.write()
    expected = f"above\n{repo_map.BEGIN}ops/\n  pool.py  Pooling\n{repo_map.END}below\n"
    assert (tmp_path / "README.md").read_text() == expected


@pytest.mark.parametrize("end", ["cpuruntime benchmark -t 10", "python -m pytest -q"])
def test_the_first_screen_has_the_two_commands(end: str) -> None:
    first_screen = README.splitlines()[:30]
    assert [line for line in first_screen if line.startswith("python3 -m venv .venv && ") and line.endswith(end)]


def test_ci_runs_the_readme_s_test_command() -> None:
    command = next(line for line in README.splitlines() if line.endswith("-m pytest -q"))
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()
