"""Two processes of one thread each against one: on a machine with two idle cores two should do twice as much.

    python bench/two_processes.py -m light:squeezenet

Each process compiles the model for latency with one thread, as two services on one machine would, and infers in a loop.
A round measures the first process alone, the second alone, and both at the same time; what both do together is divided
by the mean of what they do alone. An engine that pins its thread without looking puts both processes on one core while
another idles. Whatever else runs meanwhile takes from the two processes what it takes from an idle core beside one, so
rounds in which other programs used more than 1 % of a core are left out, unless all are like that. The peers come with
the extra `bench`; one that is missing is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from cpuruntime.cli.parser import Parser, positive, positive_seconds
from cpuruntime.errors import Error
from peer.engines import ENGINES, installed
from peer.models import ModelFile, prepare
from peer.process import EngineError, EngineProcess
from peer.report import SETTLE_SECONDS

QUIET = 0.01
"""Up to this part of a core used by other programs a round counts as undisturbed."""


@dataclass(frozen=True)
class Round:
    """Inferences per second of each process alone, and of both together; the part of a core that others used."""

    first: float
    second: float
    both: float
    others: float = 0.0

    @property
    def gain(self) -> float:
        """How many times as much two processes do as one."""
        return self.both / statistics.mean((self.first, self.second))


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(prog="two_processes.py", description="Measure two processes of one thread each against one.")
    add = options.add_argument
    add("-m", "--model", default="light:squeezenet", help="an ONNX file, light:NAME or bench:NAME")
    add("--engine", nargs="+", choices=ENGINES, default=["cpuruntime", "openvino"], help="the engines to run")
    add("--seconds", type=positive_seconds, default=15.0, help="time of each engine (default: 15)")
    add("--rounds", type=positive, default=5, help="number of rounds that time is cut into (default: 5)")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when an engine failed or there are not two cores."""
    options = parser().parse_args(arguments)
    if len(os.sched_getaffinity(0)) < 2:
        print("two_processes.py: this process may use one core, and two are needed", file=sys.stderr)
        return 1
    failed = False
    try:
        with tempfile.TemporaryDirectory(prefix="cpuruntime-processes-") as folder:
            model = prepare(options.model, Path(folder))
            for name in options.engine:
                if not installed(name):
                    print(f'{name} is not installed and left out: pip install -e ".[bench]" installs it.')
                    continue
                try:
                    rounds = measure(name, model, Path(folder), options.seconds / options.rounds / 3, options.rounds)
                    print(report(name, rounds), flush=True)
                except EngineError as error:
                    print(f"{name} failed: {error}", file=sys.stderr)
                    failed = True
    except Error as error:
        print(f"two_processes.py: {error}", file=sys.stderr)
        return 1
    return int(failed)


def measure(engine: str, model: ModelFile, folder: Path, seconds: float, rounds: int) -> list[Round]:
    """`rounds` rounds of three slices of so many seconds."""
    with ExitStack() as stack:
        pair = [stack.enter_context(EngineProcess(engine)) for _ in range(2)]
        for index, process in enumerate(pair):
            process.load(model, mode="latency1", device="CPU", outputs=folder / f"outputs-{index}.npz")
        pool = stack.enter_context(ThreadPoolExecutor(2))

        def rate(process: EngineProcess) -> float:
            return process.slice(seconds)["count"] / seconds

        found = []
        for _ in range(rounds):
            time.sleep(SETTLE_SECONDS)
            start, others = time.perf_counter(), _others_seconds()
            first, second = rate(pair[0]), rate(pair[1])
            both = sum(pool.map(rate, pair))
            share = (_others_seconds() - others) / (time.perf_counter() - start)
            found.append(Round(first, second, both, share))
        return found


def _others_seconds() -> float:
    """The processor time that programs other than this one and its children have used so far."""
    machine = psutil.cpu_times()
    busy = machine.user + machine.nice + machine.system + machine.irq + machine.softirq
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children())]
    return busy - sum(one.user + one.system for one in times)


def report(engine: str, rounds: Sequence[Round]) -> str:
    """A line with the medians of the undisturbed rounds."""
    quiet = [one for one in rounds if one.others <= QUIET] or list(rounds)
    gains = [one.gain for one in quiet]
    alone = statistics.median(statistics.mean((one.first, one.second)) for one in quiet)
    both = statistics.median(one.both for one in quiet)
    return (
        f"{engine}: one process {alone:.1f}, two processes {both:.1f} inferences per second: "
        f"{statistics.median(gains):.2f} times one ({min(gains):.2f} to {max(gains):.2f} in {len(gains)} of "
        f"{len(rounds)} rounds, others used up to {max(one.others for one in quiet):.1%} of a core)"
    )


if __name__ == "__main__":
    sys.exit(main())
