"""The command bench/coverage.py: its options, and what it prints and writes."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cpuruntime.cli.parser import Parser, positive, positive_seconds
from peer.progress import Progress
from peer.report import machine
from suite.cases import families
from suite.engines import ENGINES, PASSED, installed
from suite.pool import Suite
from suite.report import document, general, summary

FAILING = Path(__file__).resolve().parents[2] / "tests" / "data" / "failing_cases.txt"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(prog="coverage.py", description="Run ONNX's backend test suite on cpuruntime and its peers.")
    add = options.add_argument
    add(
        "--only", default="", metavar="PATTERN", help="cases whose names this regular expression matches (default: all)"
    )
    add("--engine", nargs="+", choices=ENGINES, default=list(ENGINES), help="the engines to run (default: all)")
    add("--seconds", type=positive_seconds, default=60.0, help="time limit of a case on an engine (default: 60)")
    add(
        "--processes",
        type=positive,
        default=len(os.sched_getaffinity(0)),
        help="cases at a time (default: a core each)",
    )
    add("--cases", action="store_true", help="print a line for each case that cpuruntime does not pass by kernels")
    add("--json", type=Path, default=None, metavar="FILE", help="write every outcome to FILE")
    add("--report", type=Path, default=None, metavar="FOLDER", help="write coverage.md to FOLDER")
    add("--failing", action="store_true", help=f"write the generated cases that fail to {FAILING.name}, for the tests")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when cpuruntime gives a wrong result, crashes, hangs or raises what it should not."""
    options = parser().parse_args(arguments)
    engines = [name for name in options.engine if installed(name)]
    start = time.perf_counter()
    suite = Suite(families(), engines, options.only, options.seconds)
    progress = Progress()
    suite.run(options.processes, progress)
    progress.clear()
    cases = dict(sorted(suite.cases.items()))
    about = machine()
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("onnx", *engines))
    heading = f"{len(cases)} cases, {about['date'][:10]}; {versions}; {time.perf_counter() - start:.0f} s."
    print("\n".join([heading, "", *summary(cases)]))
    outcomes = {name: found.outcomes.get("cpuruntime", ("kernels", "")) for name, found in cases.items()}
    if options.cases:
        print("\n".join(f"{name}: {kind}: {reason}" for name, (kind, reason) in outcomes.items() if kind != "kernels"))
    if options.json:
        facts = {"machine": about, "cases": {name: asdict(found) for name, found in cases.items()}}
        options.json.write_text(json.dumps(facts, indent=1))
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / "coverage.md").write_text(document(cases, heading))
    if options.failing:
        lines = [
            f"{name}: {kind}, {general(reason)}"
            for name, (kind, reason) in outcomes.items()
            if kind not in PASSED and cases[name].kind.startswith("node")
        ]
        FAILING.write_text("\n".join(lines) + "\n")
    grave = ("wrong", "internal error", "foreign error", "crash", "hang")
    return int(any(kind in grave for kind, _ in outcomes.values()))
