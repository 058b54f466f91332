"""The house: which folder imports which, from the code's own imports; `python tests/support/house.py` prints it.

A room is a folder directly under cpuruntime/ (ops/ among them), or a module that lies loose there. Its floor is the
length of the longest way down from it. Imports inside functions and under TYPE_CHECKING count.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
Arrows = dict[str, set[str]]


@cache
def modules() -> dict[str, Path]:
    """Every module of the package, by its import name. ops/ is reached through the link cpuruntime/ops."""
    found = {}
    for folder, package in ((ROOT / "cpuruntime", "cpuruntime"), (ROOT / "ops", "cpuruntime.ops")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if package == "cpuruntime" and parts[0] == "ops":
                continue
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def imports(tree: ast.AST, module: str, is_package: bool, known: Iterable[str]) -> Iterator[tuple[int, str]]:
    """(line, module) for every import, at any depth, `from package import module` resolved to the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".") if is_package else module.split(".")[:-1]
            prefix = ".".join(base[: len(base) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (prefix, node.module)))
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield node.lineno, inner if inner in known else source


@cache
def module_arrows() -> Arrows:
    """Which modules of the package each module imports."""
    known = modules()
    arrows: Arrows = {}
    for module, path in known.items():
        tree = ast.parse(path.read_text())
        found = imports(tree, module, path.name == "__init__.py", known)
        arrows[module] = {name for _, name in found if name in known and name != module}
    return arrows


def room_of(module: str) -> str:
    """The folder or loose module that a module belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def folder_of(module: str) -> str:
    """The folder, at any depth, that a module lies in."""
    path = modules()[module]
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


def grouped(arrows: Mapping[str, set[str]], group: Callable[[str], str]) -> Arrows:
    """The arrows between groups of modules."""
    found: Arrows = {group(module): set() for module in arrows}
    for module, targets in arrows.items():
        found[group(module)] |= {group(target) for target in targets} - {group(module)}
    return found


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups that reach each other, by Tarjan's algorithm."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for target in sorted(arrows.get(node, ())):
            if target not in number:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], number[target])
        if low[node] == number[node]:
            at = stack.index(node)
            members = stack[at:]
            del stack[at:]
            if len(members) > 1:
                found.append(sorted(members))

    for node in sorted(arrows):
        if node not in number:
            visit(node)
    return found


def floors(arrows: Mapping[str, set[str]]) -> dict[str, int]:
    """The length of the longest way down from each room; there must be no circle."""

    @cache
    def floor(room: str) -> int:
        return 1 + max(map(floor, arrows[room]), default=-1)

    return {room: floor(room) for room in arrows}


def lines_now() -> Counter[str]:
    """The lines of each room."""
    found: Counter[str] = Counter()
    for module, path in modules().items():
        found[room_of(module)] += path.read_text().count("\n")
    return found


def lines_before(commit: str) -> Counter[str]:
    """The lines of each room at a commit, a file counted where it was moved to since, even if it is no more."""
    places: dict[str, str] = {}
    log = _git("log", "--reverse", "-M40%", "-l9999", "--diff-filter=R", "--name-status", "--format=", f"{commit}..")
    for line in log.decode().splitlines():
        _, old, new = line.split("\t")
        first = next((first for first, last in places.items() if last == old), old)
        places[first] = new
    found: Counter[str] = Counter()
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, "cpuruntime", "ops"))) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() and member.name.endswith(".py") else None
            if file is not None:
                path = places.get(member.name, member.name).removeprefix("cpuruntime/").removesuffix(".py")
                module = f"cpuruntime/{path}".removesuffix("/__init__").replace("/", ".")
                found[room_of(module)] += file.read().count(b"\n")
    return found


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout


def main() -> None:
    """Prints the rooms by floor with their arrows, circles, and lines; with --since also those of a commit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--since", metavar="COMMIT", help="also print how many lines each room had at that commit")
    since = parser.parse_args().since
    arrows = module_arrows()
    rooms = grouped(arrows, room_of)
    for name, found in (("modules", circles(arrows)), ("rooms", circles(rooms))):
        print(f"circles of {name}: {found or 'none'}")
    if circles(rooms):
        sys.exit(1)
    levels, now, before = floors(rooms), lines_now(), lines_before(since) if since else Counter()
    print(f"floor  room          {'before ' * bool(since)} lines  imports")
    for room in sorted(rooms, key=lambda room: (levels[room], room)):
        earlier = f"{before[room]:>7}" * bool(since)
        print(f"{levels[room]:>5}  {room:<12}{earlier} {now[room]:>7}  {' '.join(sorted(rooms[room]))}".rstrip())
    loose = {path.stem for path in (ROOT / "cpuruntime").glob("*.py")}
    print(
        f"{len(rooms)} rooms, {len(loose)} of them loose modules, on {1 + max(levels.values())} floors; "
        f"{sum(map(len, rooms.values()))} arrows, all downwards; {now.total()} lines in {len(arrows)} files"
    )
    if since:
        print(f"{before.total()} lines at {since}")


if __name__ == "__main__":
    main()
