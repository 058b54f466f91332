"""README.md, the documentation and the READMEs in folders agree with the sources, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import pages
from support.house import ROOT
from support.markdown import DOCS, PAGES, README, links, rows, spans

from cpuruntime.cli.main import main
from cpuruntime.properties import OTHER_VARIABLES, PROPERTIES

FOLDER_READMES = [folder / "README.md" for folder in pages.folders()]
_FILE = re.compile(r"\.?[\w./-]*(/|\.(py|md|toml|svg|onnx|json|txt))")
_CONSTANT = re.compile(r"[A-Z]+(_[A-Z]+)+")
# Names in capitals that are no properties: values, and what only OpenVINO has.
OTHER_CONSTANTS = {"TYPE_CHECKING", "CACHE_DIR", "CUMULATIVE_THROUGHPUT", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"}
OTHER_CONSTANTS |= {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
# What users make or choose.
EXAMPLES = {"cnn.onnx", "model.onnx", "server.json", "cluster.json", "peers.json", "run.json", "history.html"}
EXAMPLES |= {"tuned_*.json", "~/.cache/cpuruntime", "/tmp/cpuruntime-UID"}


def exists(name: str) -> bool:
    """Whether a file or folder that a page names is there: from the root, from cpuruntime/, or in the cache folder."""
    return name in EXAMPLES or name == "kernels/" or any((ROOT / top / name).exists() for top in ("", "cpuruntime"))


@pytest.mark.parametrize("path", pages.paths(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_made_from_sources_are_up_to_date(path: Path) -> None:
    assert path.exists(), "run `python tests/support/pages.py`"
    assert path.read_text() == pages.written(path), "run `python tests/support/pages.py`"


def test_no_folder_has_a_readme_without_sources() -> None:
    found = {path for top in pages.TOPS for path in (ROOT / top).rglob("README.md")}
    assert found - {path for path in found if path.is_relative_to(ROOT / "cpuruntime" / "ops")} == {*FOLDER_READMES}


def test_a_file_without_a_docstring_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    silent = tmp_path / "silent.py"
    silent.write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"silent\.py does not say"):
        pages.docstring(silent)
    with pytest.raises(ValueError, match=r"new/ is no package with a docstring"):
        pages.title(tmp_path / "new")


def test_the_table_of_rooms_has_what_the_layering_test_allows() -> None:
    table = {re.sub(r"\[`(\w+)`\].*", r"\1", row[1]): row[3] for row in rows(ROOT / "cpuruntime" / "README.md")[2:]}
    assert {room: "" if targets == "-" else targets for room, targets in table.items()} == pages.allowed()


@pytest.mark.parametrize("page", [*PAGES, *FOLDER_READMES], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    missing = [link for link in links(page) if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_properties_that_are_named_exist(page: Path) -> None:
    files = [span for span in spans(page) if _FILE.fullmatch(span)]
    assert [name for name in files if not exists(name)] == []
    constants = {span.partition("=")[0] for span in spans(page) if _CONSTANT.fullmatch(span.partition("=")[0])}
    known = {*PROPERTIES, *OTHER_CONSTANTS, *(f"CPURUNTIME_{name}" for name in (*PROPERTIES, *OTHER_VARIABLES))}
    assert constants - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lines_fit_in_a_terminal(page: Path) -> None:
    text = [line for line in page.read_text().splitlines() if not line.startswith(("|", "Conv "))]
    assert [line for line in text if len(line) > 120] == []


def test_the_environment_variables_are_listed() -> None:
    (page,) = [page for page in DOCS if page.stem == "properties"]
    listed = [found[1] for row in rows(page) if (found := re.fullmatch(r"`CPURUNTIME_([A-Z_]+)`", row[0]))]
    assert sorted(listed) == sorted(OTHER_VARIABLES)


def test_the_readme_is_short_and_lists_every_page() -> None:
    assert len(README.read_text().splitlines()) <= 150
    page = re.compile(r"\[([\w-]+)\]\(cpuruntime/docs/\1\.md\)")
    listed = [found[1] for row in rows(README) if (found := page.fullmatch(row[0]))]
    assert sorted(listed) == [page.stem for page in DOCS]


def test_the_command_lists_and_prints_every_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs"]) == 0
    listed = capsys.readouterr().out.splitlines()
    for line, page in zip(listed, DOCS):
        text = page.read_text()
        assert re.split(r"  +", line) == [page.stem, text.splitlines()[0].removeprefix("# ")]
        assert main(["docs", page.stem]) == 0
        assert capsys.readouterr().out == text
    assert listed[len(DOCS) :] == ["", "'cpuruntime docs PAGE' prints a page."]
