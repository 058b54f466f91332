"""`cpuruntime docs`: lists the pages of the documentation, or prints one."""

from __future__ import annotations

import argparse
from importlib.resources import files

from cpuruntime.cli.parser import Parser
from cpuruntime.errors import nearest


def parser() -> argparse.ArgumentParser:
    """The command takes the name of a page."""
    options = Parser(prog="cpuruntime docs", description="List the pages of the documentation, or print one.")
    options.add_argument("page", nargs="?", type=page, metavar="PAGE", help="the page to print")
    return options


def run(options: argparse.Namespace) -> None:
    """Prints the page as Markdown, or the name and the title of every page."""
    if options.page is not None:
        print(options.page, end="")
        return
    found = pages()
    width = max(map(len, found))
    for name, text in found.items():
        print(f"{name.ljust(width)}  {text.partition(chr(10))[0].removeprefix('# ')}")
    print("\n'cpuruntime docs PAGE' prints a page.")


def pages() -> dict[str, str]:
    """The Markdown text of every page, by name."""
    paths = (path for path in (files("cpuruntime") / "docs").iterdir() if path.name.endswith(".md"))
    return {path.name.removesuffix(".md"): path.read_text() for path in sorted(paths, key=lambda path: path.name)}


def page(name: str) -> str:
    """The text of the page called `name`."""
    found = pages()
    if name not in found:
        raise argparse.ArgumentTypeError(
            f"there is no page '{name}'.{nearest(name, found)} The pages are {', '.join(found)}"
        )
    return found[name]
