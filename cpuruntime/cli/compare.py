"""`cpuruntime compare`: is one installation, or one configuration, slower than another? The gate of a CI job."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from cpuruntime.cli.parser import Parser, positive_seconds
from cpuruntime.compare import documents, gate
from cpuruntime.compare.suite import read_suite
from cpuruntime.compare.verdicts import BASE, HEAD, exit_code
from cpuruntime.errors import InvalidArgumentError


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(
        prog="cpuruntime compare",
        description="Compare two installations, or two configurations of one, on the models of a suite.",
        epilog="Exit codes: 0 nothing is slower, 3 something is slower, larger or computes something else,\n"
        "4 inconclusive, 1 a side failed. 'cpuruntime docs ci' describes suites, method and CI jobs.",
    )
    add = options.add_argument
    add("suite", type=Path, metavar="SUITE", help="a TOML file: models, modes, thresholds")
    side = "a Python, a virtual environment, a wheel, a source tree or a git ref (default: this installation)"
    add("--base", metavar="INSTALLATION", help=side)
    add("--head", metavar="INSTALLATION", help="what may be slower: as --base")
    for name in (BASE, HEAD):
        add(f"--{name}-config", type=settings, default={}, metavar="NAME=VALUE,...", help=f"properties of the {name}")
    add("--against", type=Path, metavar="FILE", help="a file of --json instead of a base: weaker, see the page")
    add("--seconds", type=positive_seconds, help="time of each model and mode, in place of the suite's")
    for name, what in (("json", "all measurements"), ("junit", "JUnit XML"), ("markdown", "a table"),
                       ("html", "a page with plots")):  # fmt: skip
        add(f"--{name}", type=Path, metavar="FILE", help=f"write {what} to FILE")
    return options


def run(options: argparse.Namespace) -> int:
    """Compares, prints the rows, writes the files and returns the exit code. Raises cpuruntime.Error or OSError."""
    files = {name: getattr(options, name) for name in gate.WRITERS if getattr(options, name)}
    gate.check_files(files)
    base, head = (options.base, options.base_config), (options.head, options.head_config)
    if options.against and any(base):
        raise InvalidArgumentError("--against takes the place of --base and --base-config; give one of them.")
    if not options.against and not any((*base, *head)):
        raise InvalidArgumentError("base and head are this installation; give --base, --head or their configurations.")
    suite = read_suite(options.suite)
    if options.seconds:
        suite = replace(suite, seconds=options.seconds)
    sides = {HEAD: head} if options.against else {BASE: base, HEAD: head}
    found = gate.compare(suite, sides, options.against, _progress)
    gate.write(found, files)
    print(documents.heading(found))
    for line in documents.table(found):
        print(line)
    return exit_code(found.rows, found.checks, found.failures)


def settings(text: str) -> dict[str, str]:
    """Properties from `NAME=VALUE,NAME=VALUE`."""
    found = {}
    for part in text.split(","):
        name, separator, value = part.partition("=")
        if not separator or not name or not value:
            raise argparse.ArgumentTypeError(f"'{part}' is not of the form NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
