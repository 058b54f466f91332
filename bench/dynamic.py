"""Measures inferences whose shapes change: a new shape, a seen one, 10, 20 and 100 in turn; and memory over many.

    python bench/dynamic.py --report bench/report
    python bench/dynamic.py -m mlp encoder2x64 --rounds 2 --shapes 0
    python bench/dynamic.py --planning

All of it takes about five minutes on a quiet machine.

Engines are measured in turns, each in a process of its own, on the same model file, the same inputs and all cores.
With --planning it prints what cpuruntime takes to plan and link a new shape, and to bind and begin a seen one whose
inputs need no copy; it fails above 1 ms for the first and 20 us for the second.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cpuruntime.cli.parser import Parser, positive
from peer.engines import ENGINES, installed
from peer.progress import Progress
from peer.report import machine
from varying.measure import Plan, measure
from varying.planning import planning, slow, table
from varying.report import lines, remarks, write
from varying.subjects import SUBJECTS

MILESTONES = (20, 200, 1000, 2000, 5000, 10_000)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(prog="dynamic.py", description="Measure inferences whose shapes change.")
    add = options.add_argument
    add("-m", "--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), help="the models (default: all)")
    add("--engine", nargs="+", choices=ENGINES, default=list(ENGINES), help="the engines to run (default: all)")
    add("--threads", type=positive, default=len(os.sched_getaffinity(0)), help="of each engine (default: the cores)")
    add("--rounds", type=positive, default=3, help="how often each engine's turn comes (default: 3)")
    add("--fresh", type=positive, default=20, help="new shapes a round (default: 20)")
    add("--shapes", type=int, default=MILESTONES[-1], help="shapes to look at memory over; 0 for none (default: 10000)")
    add("--planning", action="store_true", help="only measure how long planning for a shape takes")
    add("--json", type=Path, default=None, metavar="FILE", help="write everything measured to FILE")
    add("--report", type=Path, default=None, metavar="FOLDER", help="write dynamic.md and dynamic.svg to FOLDER")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when an engine failed."""
    options = parser().parse_args(arguments)
    if options.planning:
        found = {subject: planning(subject) for subject in options.models}
        print("\n".join([*table(found), *slow(found)]))
        return int(bool(slow(found)))
    engines = [name for name in ENGINES if name in options.engine and installed(name)]
    if options.report and not installed("matplotlib"):
        print('The report needs matplotlib: pip install -e ".[bench]" installs it.', file=sys.stderr)
        return 1
    milestones = [count for count in MILESTONES if count <= options.shapes]
    plan = Plan(engines, options.threads, options.rounds, options.fresh, milestones)
    about = machine()
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in engines)
    heading = f"{about['processor']}, {options.threads} threads, {about['date'][:10]}; {versions}."
    print(heading)
    results = {}
    progress = Progress()
    for subject in options.models:
        results[subject] = measure(subject, plan, progress)
        progress.clear()
        print("\n".join(["", subject, *lines(results[subject]), *remarks(results[subject])]), flush=True)
        memory = {name: measured.memory for name, measured in results[subject].items() if measured.memory}
        for name, values in memory.items():
            print(f"{name}: MiB by shapes, 0 when closed: {', '.join(f'{n}: {m:.0f}' for n, m in values.items())}")
    if options.json:
        facts = {name: {engine: asdict(found) for engine, found in of.items()} for name, of in results.items()}
        options.json.write_text(json.dumps({"machine": about, "results": facts}, indent=1))
    if options.report:
        write(options.report, results, heading)
    return int(any(measured.failure for engines in results.values() for measured in engines.values()))


if __name__ == "__main__":
    sys.exit(main())
