"""Compares the streams that calibration chooses with the best of all: every number of streams and threads is measured.

    python bench/streams.py -m light:squeezenet light:resnet50 --hints throughput latency

The choice is measured anew, several times. Every combination that the processors allow is then compiled and measured in
slices that take turns, and the regret is how much faster the best one is than the chosen one, the median over the
turns. Exits with 1 when a regret is above the limit.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import cpuruntime as ov
from cpuruntime.cli.parser import Parser, positive, positive_seconds
from cpuruntime.devices.cpu.streams import calibration
from cpuruntime.errors import Error
from cpuruntime.store import Folder
from peer.models import prepare
from peer.ratios import rotated

Shape = tuple[int, int]
"""Streams, and threads of each."""

SETTLE_SECONDS = 0.05

LEAST = 24
"""Inferences of each request in a slice, at least: at its end streams wait for the last one, and at its beginning they
are in step."""


def parser() -> Parser:
    """The command's options."""
    options = Parser(prog="streams.py", description="Compare calibrated streams with an exhaustive search.")
    add = options.add_argument
    add("-m", "--models", nargs="+", required=True, metavar="MODEL", help="ONNX files, light:NAME or bench:NAME")
    add("--hints", nargs="+", choices=("latency", "throughput"), default=["throughput"], help="(default: throughput)")
    add("--budget", type=positive, default=500, metavar="MS", help="STREAMS_CALIBRATION_MS (default: 500)")
    add("--choices", type=positive, default=3, help="how often calibration chooses (default: 3)")
    add("--seconds", type=positive_seconds, default=0.3, help="least time of a slice of the search (default: 0.3)")
    add("--rounds", type=positive, default=7, help="slices of each combination (default: 7)")
    add("--limit", type=positive_seconds, default=3.0, metavar="PERCENT", help="the most regret (default: 3)")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when calibration chose worse than the limit allows."""
    options = parser().parse_args(arguments)
    worst = 0.0
    try:
        with tempfile.TemporaryDirectory(prefix="cpuruntime-streams-") as folder:
            for name in options.models:
                path = prepare(name, Path(folder)).path
                for hint in options.hints:
                    chosen = [_chosen(path, hint, options.budget) for _ in range(options.choices)]
                    rates = _search(path, hint, options.seconds, options.rounds)
                    worst = max(worst, print_report(f"{name} {hint}", chosen, rates))
    except Error as error:
        print(f"streams.py: {error}", file=sys.stderr)
        return 1
    print(f"largest regret {worst:.1f} %, limit {options.limit:g} %")
    return int(worst > options.limit)


def _chosen(path: Path, hint: str, budget: int) -> tuple[Shape, float]:
    """What calibration chooses, and the seconds that compiling took."""
    config = {"PERFORMANCE_HINT": hint, "STREAMS_CALIBRATION_MS": budget}
    begin = time.perf_counter()
    # A choice from the cache would be no measurement.
    with patch.object(calibration, "cache_folder", return_value=Folder(None)):
        compiled = ov.Core().compile_model(path, "CPU", config)
    with compiled:
        seconds = time.perf_counter() - begin
        streams = compiled.get_property("NUM_STREAMS")
        return (streams, compiled.get_property("INFERENCE_NUM_THREADS") // streams), seconds


def _search(path: Path, hint: str, seconds: float, rounds: int) -> dict[Shape, list[float]]:
    """Inferences per second of every combination, in each round."""
    usable = ov.Topology.read().usable
    most = 1 if hint == "latency" else usable
    shapes = [(s, t) for s in range(1, most + 1) for t in range(1, usable + 1) if s * t <= usable]
    rates: dict[Shape, list[float]] = {shape: [] for shape in shapes}
    with ExitStack() as stack:
        queues = {}
        for streams, threads in shapes:
            config = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams * threads, "PERFORMANCE_HINT": hint}
            compiled = stack.enter_context(ov.Core().compile_model(path, "CPU", config))
            queues[streams, threads] = ov.AsyncInferQueue(compiled)
        for queue in queues.values():
            _rate(queue, hint, 0, least=1)
        for turn in range(rounds):
            for shape in rotated(shapes, turn):
                time.sleep(SETTLE_SECONDS)
                rates[shape].append(_rate(queues[shape], hint, seconds))
    return rates


def _rate(queue: ov.AsyncInferQueue, hint: str, seconds: float, least: int = LEAST) -> float:
    """Inferences per second: one after the other for latency, else with every request in flight until the last ends."""
    count = 0
    begin = now = time.perf_counter()
    while count < least * len(queue) or now < begin + seconds:
        if hint == "latency":
            queue[0].infer()
        else:
            queue.start_async()
        count += 1
        now = time.perf_counter()
    queue.wait_all()
    return count / (time.perf_counter() - begin)


def print_report(title: str, chosen: Sequence[tuple[Shape, float]], rates: dict[Shape, list[float]]) -> float:
    """Prints what was found; returns the largest regret in percent."""
    medians = {shape: statistics.median(values) for shape, values in rates.items()}
    best = max(medians, key=medians.__getitem__)
    print(f"{title}: inferences/s " + ", ".join(f"{s}x{t} {medians[s, t]:.1f}" for s, t in medians))
    regrets = []
    for shape, seconds in chosen:
        ratios = [b / c for b, c in zip(rates[best], rates[shape])]
        regrets.append(100 * max(0.0, statistics.median(ratios) - 1))
        print(f"  chosen {shape[0]}x{shape[1]} in {seconds:.2f} s of compiling, regret {regrets[-1]:.1f} %")
    return max(regrets)


if __name__ == "__main__":
    sys.exit(main())
