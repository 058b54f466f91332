"""README.md and the pages of the documentation: their code blocks, commands, links and tables."""

from __future__ import annotations

import re
from pathlib import Path

from support.house import ROOT

README = ROOT / "README.md"
DOCS = sorted((ROOT / "cpuruntime" / "docs").glob("*.md"))
PAGES = [README, *DOCS]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(r"(\.venv/bin/)?(cpuruntime|python|pytest|pip) [^<>]+")


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language."""
    return [text for found, text in _FENCE.findall(page.read_text()) if found == language]


def spans(page: Path) -> list[str]:
    """What stands between backticks in running text and tables."""
    return _SPAN.findall(_FENCE.sub("", page.read_text()))


def commands(page: Path) -> list[str]:
    """Every command line, in blocks of shell code and between backticks, without comments."""
    lines = [line.partition(" #")[0].strip() for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line] + [span for span in spans(page) if _COMMAND.fullmatch(span)]


def links(page: Path) -> list[str]:
    """The targets of all links."""
    return re.findall(r"\]\(([^)]+)\)", page.read_text())


def rows(page: Path) -> list[list[str]]:
    """The cells of every line of a table."""
    lines = [line.strip() for line in page.read_text().splitlines()]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
