"""The house: which folder imports which, from the code's own imports; `python tests/support/house.py` prints it.

A room is a folder directly under cpuruntime/ (ops/ among them), or a module that lies loose there. Its floor is the
length of the longest way down from it. Imports inside functions and under TYPE_CHECKING count.
"""

from __future__ import annotations

import ast
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


def lines_of(room: str) -> tuple[int, int]:
    """Files and lines of a room."""
    texts = [path.read_text() for module, path in modules().items() if room_of(module) == room]
    return len(texts), sum(text.count("\n") for text in texts)


def main() -> None:
    """Prints rooms by floor with what they import, circles of modules and of folders, and the sums."""
    arrows = module_arrows()
    # The package's __init__ names public objects of all floors lazily: it stands above, whoever imports it.
    rooms = grouped(arrows, room_of)
    found = circles(rooms)
    print(f"circles of modules: {circles(arrows) or 'none'}")
    print(f"circles of folders: {circles(grouped(arrows, folder_of)) or 'none'}")
    print(f"circles of rooms: {found or 'none'}")
    if found:
        return
    levels = floors(rooms)
    loose = [room for room in rooms if room not in {m.split('.')[1] for m in arrows if m.count('.') > 1}]
    total = 0
    for room in sorted(rooms, key=lambda room: (levels[room], room)):
        files, lines = lines_of(room)
        total += lines
        print(f"{levels[room]:>3}  {room:<12} {files:>4} files {lines:>6} lines  {' '.join(sorted(rooms[room]))}")
    arrow_count = sum(map(len, rooms.values()))
    print(
        f"{len(rooms)} rooms ({len(loose)} loose modules) on {1 + max(levels.values())} floors, {arrow_count} arrows, "
        f"{total} lines in {len(arrows)} files"
    )


if __name__ == "__main__":
    main()
