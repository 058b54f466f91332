"""Counts how often `cpuruntime compare` is right: on equal sides, with a disturbing process, and on slowed kernels.

    python bench/gate.py --runs 20 --seconds 50 --disturb --store runs       # equal sides: `slower` is false
    python bench/gate.py --runs 20 --seconds 50 --percent 3                  # every kernel takes 3 % longer
    python bench/gate.py --runs 2000 --simulate runs --percent 3             # drawn from the runs that were stored

The seconds are those of measuring; each run takes some ten more to compile kernels and write outputs. The slowed side
is a copy of the sources in which each kernel waits after its work. A simulated run draws pairs of processes from stored
runs of equal sides; its head, which either side may be, takes longer by the percentage. Fails where more than 1 % of
the rows are falsely `slower`, or less than 95 % of the slowed models are found.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from cpuruntime.cli.parser import Parser, positive, positive_seconds
from cpuruntime.compare import gate, record
from cpuruntime.compare.schedule import Case, ProcessPair, SlicePair
from cpuruntime.compare.suite import METRICS, Suite, suite_of
from cpuruntime.compare.trend import read_folder
from cpuruntime.compare.verdicts import BASE, HEAD, SLOWER, Row, paired_rows
from cpuruntime.errors import Error

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("light:squeezenet", "light:shufflenet", "light:inception_v1")
MOST_FALSE, FEWEST_FOUND = 0.01, 0.95

FORMAT = "entry.format("
WAITING_FORMAT = '(_WAITING if entry is _ENTRY and function.__module__.startswith("cpuruntime.ops") else entry).format('
WAITING = """

_WAITING = '''
declare i64 @llvm.readcyclecounter()
declare ptr @"{{body}}"(ptr, i64, i64)
define void @{{symbol}}(i64 %block, i64 %thread, i64 %threads) {{{{
  %record = inttoptr i64 %block to ptr
  %begin = call i64 @llvm.readcyclecounter()
  call ptr @"{{body}}"(ptr %record, i64 %thread, i64 %threads)
  %end = call i64 @llvm.readcyclecounter()
  %taken = sub i64 %end, %begin
  %product = mul i64 %taken, {thousandths}
  %more = udiv i64 %product, 1000
  %until = add i64 %end, %more
  br label %wait
wait:
  %now = call i64 @llvm.readcyclecounter()
  %early = icmp ult i64 %now, %until
  br i1 %early, label %wait, label %done
done:
  ret void
}}}}
'''
"""
"""The entry of an operator's kernel; those that run programs, of which these are a part, do not wait."""

DISTURBER = """
import os, random, time
parent = os.getppid()
while os.getppid() == parent:
    end = time.monotonic() + random.random() * 0.3
    while time.monotonic() < end: pass
    time.sleep(random.random() * 0.3)
"""


def slowed_tree(folder: Path, percent: float) -> str:
    """A copy of the sources in which every kernel takes `percent` longer."""
    for name in ("cpuruntime", "ops"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "cpuruntime" / "compiler" / "machine_code.py"
    text = file.read_text()
    assert text.count(FORMAT) == 1
    file.write_text(text.replace(FORMAT, WAITING_FORMAT) + WAITING.format(thousandths=round(percent * 10)))
    return str(folder)


@contextmanager
def disturbed(count: int) -> Iterator[None]:
    """Processes that use a processor in bursts at random, half of the time each."""
    children = [subprocess.Popen([sys.executable, "-c", DISTURBER]) for _ in range(count)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def real_runs(suite: Suite, options: argparse.Namespace) -> Iterator[Sequence[Row]]:
    """The rows of runs that are carried out."""
    with tempfile.TemporaryDirectory(prefix="cpuruntime-gate-") as name, disturbed(int(options.disturb)):
        head = slowed_tree(Path(name), options.percent) if options.percent else str(ROOT)
        sides = {BASE: (str(ROOT), {}), HEAD: (head, {})}
        for number in range(options.runs):
            run = gate.compare(suite, sides, None, lambda line: None)
            if run.failures:
                raise Error("; ".join(run.failures))
            if options.store:
                (options.store / f"{run.date.replace(':', '')}-{number}.json").write_text(record.written(run))
            yield run.rows


def simulated_runs(suite: Suite, options: argparse.Namespace) -> Iterator[Sequence[Row]]:
    """The rows of runs whose pairs of processes are drawn from those of stored runs of equal sides."""
    pools: dict[tuple[str, str], list[ProcessPair]] = {}
    for run in read_folder(options.simulate)[0]:
        for case in run.cases:
            pools.setdefault((case.model.name, case.mode), []).extend(case.processes)
    random = np.random.default_rng(0)
    for _ in range(options.runs):
        cases = []
        for (name, mode), pool in pools.items():
            model = replace(suite.models[0], name=name, thresholds=METRICS)
            drawn = [pool[place] for place in random.integers(0, len(pool), suite.processes)]
            pairs = [shifted(pair, options.percent, bool(random.random() < 0.5)) for pair in drawn]
            cases.append(Case(model, mode, "", processes=pairs))
        yield paired_rows(suite, cases, {BASE: 1, HEAD: 1})


def shifted(pair: ProcessPair, percent: float, is_swapped: bool) -> ProcessPair:
    """A pair of processes with its sides exchanged or not, and the head's inferences longer by `percent`."""
    first, second = (HEAD, BASE) if is_swapped else (BASE, HEAD)
    factor = 1 + percent / 100

    def seconds(measured: dict[str, float]) -> dict[str, float]:
        return {BASE: measured[first], HEAD: measured[second] * factor} if measured else {}

    slices = [SlicePair(seconds(each.values), seconds(each.processor), each.conditions) for each in pair.slices]
    return ProcessPair({BASE: pair.starts[first], HEAD: pair.starts[second]}, slices)


def counted(runs: Iterable[Sequence[Row]], percent: float) -> int:
    """Prints the verdicts by model and metric, and returns the exit code."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    number = slower_runs = 0
    for number, rows in enumerate(runs, 1):
        slower_runs += any(row.verdict == SLOWER for row in rows)
        for row in rows:
            if row.metric != "wheel":
                counts.setdefault((row.model, row.metric), Counter())[row.verdict] += 1
        print(f"runs: {number}", file=sys.stderr, flush=True)
    for (model, metric), verdicts in counts.items():
        print(f"{model:20} {metric:8} {', '.join(f'{count} {name}' for name, count in sorted(verdicts.items()))}")
    if percent:
        found = {model: share(verdicts) for (model, metric), verdicts in counts.items() if metric == "time"}
        parts = ", ".join(f"{name} {part:.1%}" for name, part in found.items())
        print(f"found, of a slowdown by {percent:g} %: {parts}")
        return int(min(found.values()) < FEWEST_FOUND)
    false = share(sum(counts.values(), Counter()))
    verdicts = sum(map(Counter.total, counts.values()))
    print(f"falsely slower: {false:.2%} of {verdicts} rows, in {slower_runs} of {number} runs")
    return int(false > MOST_FALSE)


def share(verdicts: Counter[str]) -> float:
    """The part of the verdicts that is `slower`."""
    return verdicts[SLOWER] / verdicts.total()


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(prog="gate.py", description="Count how often 'cpuruntime compare' is right.")
    add = options.add_argument
    add("-m", "--models", nargs="+", default=MODELS, metavar="MODEL", help="ONNX files or light:NAME")
    add("--mode", default="latency1", help="of the suite (default: latency1)")
    add("--runs", type=positive, default=20, metavar="N", help="number of runs (default: 20)")
    add("--seconds", type=positive_seconds, default=50.0, help="measuring in a run, all models together (default: 50)")
    add("--percent", type=float, default=0.0, metavar="P", help="longer kernels on one side (default: 0, equal sides)")
    add("--disturb", action="store_true", help="run a process that uses a processor in bursts, half of the time")
    add("--store", type=Path, metavar="FOLDER", help="write each run to a file in FOLDER")
    add("--simulate", type=Path, metavar="FOLDER", help="draw runs from the runs of equal sides in FOLDER")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when verdicts are wrong too often or a side fails."""
    options = parser().parse_args(arguments)
    models = [{"path": path} for path in options.models]
    try:
        if options.store:
            options.store.mkdir(parents=True, exist_ok=True)
        seconds = options.seconds / len(models)
        suite = suite_of({"seconds": seconds, "modes": [options.mode], "model": models}, Path.cwd())
        runs = simulated_runs(suite, options) if options.simulate else real_runs(suite, options)
        return counted(runs, options.percent)
    except (Error, OSError) as error:
        print(f"gate.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
