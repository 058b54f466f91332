"""`cpuruntime history`: a folder of stored comparisons as series over time, with the runs at which a level changed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cpuruntime.cli.parser import Parser
from cpuruntime.compare import trend
from cpuruntime.compare.gate import check_files


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(
        prog="cpuruntime history",
        description="Show a folder of files of 'cpuruntime compare --json' over time, and where levels changed.",
        epilog="'cpuruntime docs ci' describes the method.",
    )
    add = options.add_argument
    add("folder", type=Path, metavar="FOLDER", help="the folder of the runs; the head of each counts")
    add("--metric", choices=trend.METRICS, action="append", help="only this metric; may be repeated")
    add("--html", type=Path, metavar="FILE", help="write a page with plots to FILE")
    return options


def run(options: argparse.Namespace) -> None:
    """Prints the series and writes the page. Raises cpuruntime.Error or OSError."""
    if options.html:
        check_files({"html": options.html})
    runs, others = trend.read_folder(options.folder)
    found = [each for each in trend.series(runs) if each.metric in (options.metric or trend.METRICS)]
    if options.html:
        options.html.write_text(trend.page(found))
    for line in others:
        print(f"Left out: {line}", file=sys.stderr)
    for each in found:
        for line in each.lines():
            print(line)
