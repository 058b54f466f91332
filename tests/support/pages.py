"""Writes the pages that are made from the sources: `python tests/support/pages.py`.

These are the README of each source folder and the tables in cpuruntime/docs/properties.md and operators.md. A folder's
README holds its docstring, its subfolders and files with the first line of each docstring, and what it imports.
cpuruntime/README.md also has the table of rooms, with the imports that tests/unit/test_layering.py allows.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS))

from support.house import ROOT, floors, folder_of, module_arrows, room_of  # noqa: E402

from cpuruntime import properties  # noqa: E402
from cpuruntime.frontend.contrib import BODIES, DOMAIN  # noqa: E402
from cpuruntime.operators.traits import DOMAIN as OF_PASSES  # noqa: E402
from cpuruntime.operators.traits import REFUSED, TRAITS  # noqa: E402
from cpuruntime.program.lowerings.catalogue import MODULES  # noqa: E402
from cpuruntime.program.lowerings.data_dependent import COMPUTED  # noqa: E402
from cpuruntime.program.lowerings.late_parameters import LISTS  # noqa: E402

PROPERTIES_PAGE = ROOT / "cpuruntime" / "docs" / "properties.md"
OPERATORS_PAGE = ROOT / "cpuruntime" / "docs" / "operators.md"
BEGIN, END = "<!-- table -->\n\n", "\n<!-- end of the table -->\n"
TOPS = ("cpuruntime", "ops", "bench", "tests")
NOTE = "<!-- Written by `python tests/support/pages.py` from the docstrings. -->\n"
# Folders that are no packages have no docstring.
TITLES = {
    "bench": "Commands that measure. Each has `-h`; `cpuruntime docs benchmarking` describes them.",
    "tests": "All: `python -m pytest -q`; a minute of them: `python -m pytest -q -m quick`.",
    "tests/bench": "Tests of the commands in bench/. They start the engines that are installed.",
    "tests/data/exports": "Graphs as exporters write them, without weights, and what made them.",
    "tests/cases": "Test cases of operators, as rows that tests and `bench/kernels.py` share.",
    "tests/devices": "Tests through the public interface and through that of devices, and tests of streams.",
    "tests/evaluation": "Tests of what operators compute on arrays, against ONNX Runtime and ONNX's own cases.",
    "tests/kernels": "Tests of single kernels in guarded memory, against NumPy, float64 or ONNX Runtime.",
    "tests/models": "Tests of whole models from ONNX to results.",
    "tests/pages": "Tests of README.md, of cpuruntime/docs/ and of the READMEs in folders.",
    "tests/support": "What tests share: models, oracles, guarded memory, machines; and scripts about the source tree.",
    "tests/support/third_party": "A device as a package of its own, which a test builds as a wheel and installs.",
    "tests/unit": "Tests that compile no kernel and start no engine.",
    "tests/unit/hints": "Tests of stream plans.",
    "tests/unit/passes": "Tests of graph rewrites: the graph before, the graph after.",
    "tests/unit/program": "Tests of planning: layouts, methods, memory, tuning.",
}


@cache
def folders() -> list[Path]:
    """Every folder below TOPS that has Python files, without those behind the link cpuruntime/ops."""
    link = ROOT / "cpuruntime" / "ops"
    found = {path.parent for top in TOPS for path in (ROOT / top).rglob("*.py") if not path.is_relative_to(link)}
    return sorted(found)


@cache
def docstring(path: Path) -> str:
    """The docstring of a file. Raises ValueError when it has none."""
    text = ast.get_docstring(ast.parse(path.read_text()))
    if not text:
        raise ValueError(f"{path.relative_to(ROOT)} does not say in a docstring what it is")
    return text


def title(folder: Path) -> str:
    """What a folder is, in one line. Raises ValueError when nothing says it."""
    name = folder.relative_to(ROOT).as_posix()
    if name in TITLES:
        return TITLES[name]
    package = folder / "__init__.py"
    if not package.exists():
        raise ValueError(f"{name}/ is no package with a docstring and has no line in TITLES of {Path(__file__).name}")
    return docstring(package).splitlines()[0]


def allowed() -> dict[str, str]:
    """The rooms that each room may import, from the table of tests/unit/test_layering.py."""
    for node in ast.parse((TESTS / "unit" / "test_layering.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "ALLOWED" and node.value:
            return ast.literal_eval(node.value)
    raise ValueError("tests/unit/test_layering.py has no table ALLOWED")


def imported(folder: Path) -> list[str]:
    """The other rooms, and the other folders of its own room, that the files of a folder import."""
    name = folder.relative_to(ROOT).as_posix().removeprefix("cpuruntime/")
    room = name.partition("/")[0]
    found = set()
    for module, targets in module_arrows().items():
        if folder_of(module) == "cpuruntime." + name.replace("/", "."):
            for target in targets:
                own = room_of(target) == room
                found.add(folder_of(target).removeprefix("cpuruntime.").replace(".", "/") if own else room_of(target))
    return sorted(found - {name})


def rooms() -> str:
    """The table of rooms by floor."""
    table = allowed()
    floor = floors({room: set(targets.split()) for room, targets in table.items()})
    lines = ["| floor | room | what it is | may import |", "|---|---|---|---|"]
    for room, targets in table.items():
        folder = ROOT / ("ops" if room == "ops" else f"cpuruntime/{room}")
        link = f"../{room}" if room == "ops" else room if folder.is_dir() else f"{room}.py"
        purpose = title(folder) if folder.is_dir() else docstring(folder.with_suffix(".py")).splitlines()[0]
        lines.append(f"| {floor[room]} | [`{room}`]({link}) | {purpose} | {' '.join(targets.split()) or '-'} |")
    return "\n".join(lines) + "\n"


def readme(folder: Path) -> str:
    """The README of a folder."""
    name = folder.relative_to(ROOT).as_posix()
    package = folder / "__init__.py"
    text = docstring(package) if package.exists() else title(folder)
    parts = [NOTE, f"# {name}/\n", f"{text}\n"]
    if name == "cpuruntime":
        parts.append("The documentation is in [docs](docs). A module may import from its own room and from:\n")
        parts.append(rooms())
    else:
        inner = [child for child in folders() if child.parent == folder]
        files = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
        rows = [f"| [`{child.name}/`]({child.name}) | {title(child)} |" for child in inner]
        rows += [f"| [`{path.name}`]({path.name}) | {docstring(path).splitlines()[0]} |" for path in files]
        if rows:
            parts.append("\n".join(["| file | what it is |", "|---|---|", *rows]) + "\n")
        if name.startswith(("cpuruntime", "ops")):
            parts.append(f"Imports: {', '.join(imported(folder)) or 'nothing of the package'}.\n")
    return "\n".join(parts)


def page_with(page: Path, table: str) -> str:
    """A page of the documentation, its table made anew."""
    before, begin, after = page.read_text().partition(BEGIN)
    return before + begin + table + END + after.partition(END)[2]


def operators_table() -> str:
    """Which operators have kernels, which passes rewrite or the device evaluates, and which are refused."""
    native = MODULES.keys() | {("", name) for name in (*COMPUTED, *LISTS)}
    known = {(domain, name) for domain, rows in TRAITS.items() if domain != OF_PASSES for name in rows}
    kinds = {
        "kernels": known & native,
        "rewritten into operators with kernels, or evaluated": known - native,
        f"of {DOMAIN}, written out by operators of ONNX": {("", name) for name in BODIES},
    }
    lines = ["| how | operators |", "|---|---|"]
    for how, found in kinds.items():
        names = sorted(f"{domain}.{name}".removeprefix(".") for domain, name in found)
        lines.append(f"| {how} | {' '.join(names)} |")
    lines += [f"| refused: {reason} | {name} |" for name, reason in sorted(REFUSED.items())]
    return "\n".join(lines) + "\n"


TABLES = {PROPERTIES_PAGE: properties.table, OPERATORS_PAGE: operators_table}


def paths() -> list[Path]:
    """Every page that is made from the sources."""
    return [*TABLES, *(folder / "README.md" for folder in folders())]


def written(path: Path) -> str:
    """The text of a page that is made from the sources."""
    return page_with(path, TABLES[path]()) if path in TABLES else readme(path.parent)


def main() -> None:
    """Writes every page that is out of date."""
    for path in paths():
        text = written(path)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
