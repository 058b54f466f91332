"""`cpuruntime cache`: lists, verifies, prunes and exports the compiled models in the folder of a CACHE_DIR."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cpuruntime.cache.document import described
from cpuruntime.cache.entry import SUFFIX, folder_of
from cpuruntime.cli.parser import Parser, non_negative
from cpuruntime.compiler.sources import package_digest
from cpuruntime.errors import Error, InvalidArgumentError, escaped
from cpuruntime.store import Folder, SectionFile, problem_of


class Stored(NamedTuple):
    """A file of a cache: `problem` says why it is not used, `file` is None where it cannot be read."""

    name: str
    size: int
    used: float
    file: SectionFile | None
    problem: str


def parser() -> argparse.ArgumentParser:
    """The actions and their options."""
    options = Parser(
        prog="cpuruntime cache",
        description="List, verify, prune or export the compiled models in the folder of a CACHE_DIR.",
        epilog="'cpuruntime docs model-cache' describes the cache.",
    )
    add = options.add_argument
    add("action", choices=("list", "verify", "prune", "export"))
    add("folder", type=Path, help="the folder that CACHE_DIR names")
    add("model", nargs="?", help="export: the name of a model's file, or its beginning, as 'list' shows it")
    add("--size", type=non_negative, metavar="MiB",
        help="prune: remove also what was not used for longest, until no more is left than that")  # fmt: skip
    add("-o", "--output", type=Path, metavar="FILE", help="export: the file to write, for import_model")
    return options


def run(options: argparse.Namespace) -> None:
    """Prints a line for each model; Error where one that is verified is damaged."""
    if not options.folder.is_dir():
        raise InvalidArgumentError(f"there is no folder '{options.folder}'.")
    folder = folder_of(str(options.folder))
    if folder.path is None:
        raise Error(f"the folder '{options.folder}' cannot be used.")
    if (options.action == "export") != bool(options.model and options.output):
        raise InvalidArgumentError("'cache export' needs a folder, a model and -o FILE; other actions take a folder.")
    if options.size is not None and options.action != "prune":
        raise InvalidArgumentError("--size is for 'cache prune'.")
    found = list(models(folder, whole=options.action in ("verify", "export")))
    if options.action == "export":
        export(found, options.model, options.output)
    elif options.action == "prune":
        prune(folder, found, options.size)
    else:
        for one in found:
            print(line(one))
        print(f"{len(found)} models, {sum(one.size for one in found) / 2**20:.1f} MiB")
        damaged = [one.name for one in found if one.file is None]
        if options.action == "verify" and damaged:
            raise Error(f"{len(damaged)} of {len(found)} models are damaged: {', '.join(damaged)}.")


def models(folder: Folder, whole: bool) -> Iterator[Stored]:
    """The models of a folder, the one that was not used for longest first; all their bytes are checked if `whole`."""
    assert folder.path is not None
    for used, name, size in folder.files():
        if not name.endswith(SUFFIX):
            continue
        file, problem = None, ""
        try:
            with open(folder.path / name, "rb") as opened:
                file = SectionFile.mapped(opened.fileno())
            if whole:
                file.check()()
            if file.facts["own"]["sources"] != package_digest():
                problem = "made by other sources than this version's"
        except (OSError, ValueError, KeyError, TypeError) as error:
            file, problem = None, problem_of(error)
        yield Stored(name, size, used, file, problem)


def line(one: Stored) -> str:
    """A line about a model."""
    what = escaped(described(one.file)) if one.file is not None else "?"
    problem = f"; not used: {one.problem}" if one.problem else ""
    when = datetime.fromtimestamp(one.used).strftime("%Y-%m-%d %H:%M")
    return f"{one.name}  {one.size / 2**20:8.1f} MiB  last used {when}  {what}{problem}"


def prune(folder: Folder, found: list[Stored], most: int | None) -> None:
    """Removes what is of no use here, and then the oldest until at most `most` MiB are left."""
    left = sum(one.size for one in found)
    for one in sorted(found, key=lambda one: (not one.problem, one.used)):
        if one.problem or (most is not None and left > most * 2**20):
            folder.remove(one.name)
            left -= one.size
            print(f"removed {line(one)}")
    print(f"{left / 2**20:.1f} MiB are left")


def export(found: list[Stored], name: str, output: Path) -> None:
    """Writes the file of one model; it appears whole."""
    chosen = [one for one in found if one.name.startswith(name)]
    if len(chosen) != 1:
        raise InvalidArgumentError(f"{len(chosen)} models have names that begin with '{name}'; see 'cache list'.")
    (one,) = chosen
    if one.file is None:
        raise Error(f"{one.name} is damaged: {one.problem}.")
    temporary = output.with_name(f".{output.name}.{os.urandom(8).hex()}")
    try:
        temporary.write_bytes(one.file.memory)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    print(line(one), file=sys.stderr)


__all__ = ["parser", "run"]
