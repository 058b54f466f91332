"""README's repository map, made from the first line of each source file's docstring; run this file to write it anew."""

from __future__ import annotations

import ast
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("ops", "cpuruntime", "bench", "tests")
BEGIN = "## Repository map\n\n```\n"
END = "```\n"


def source_files() -> list[Path]:
    """Python files under FOLDERS, by folder; those behind the link cpuruntime/ops are listed as ops/."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    own = [path for path in found if not path.is_relative_to(ROOT / "cpuruntime" / "ops")]
    order = {folder: place for place, folder in enumerate(FOLDERS)}
    return sorted(own, key=lambda path: (order[path.relative_to(ROOT).parts[0]], path.parent, path.name))


def summary(path: Path) -> str:
    """The first line of the file's docstring. Raises ValueError when it has none."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    if not docstring:
        raise ValueError(f"{path.relative_to(ROOT)} does not say in a docstring what it is")
    return docstring.splitlines()[0].rstrip(".")


def repository_map() -> str:
    """The map's lines: a folder, then its files."""
    parts = []
    for folder, files in groupby(source_files(), lambda path: path.parent):
        names = {path.name: summary(path) for path in files}
        width = max(map(len, names))
        lines = [f"  {name:<{width}}  {purpose}\n" for name, purpose in names.items()]
        parts.append(f"{folder.relative_to(ROOT)}/\n{''.join(lines)}")
    return "\n".join(parts)


def in_readme() -> str:
    """The map as README has it."""
    return (ROOT / "README.md").read_text().partition(BEGIN)[2].partition(END)[0]


def write() -> None:
    """Puts the map into README."""
    readme = ROOT / "README.md"
    before, begin, after = readme.read_text().partition(BEGIN)
    readme.write_text(before + begin + repository_map() + END + after.partition(END)[2])


if __name__ == "__main__":
    write()
