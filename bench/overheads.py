"""Measures what a request costs beyond its kernels, on a model with next to none: three layers of 64 by 64, batch 1.

    python bench/overheads.py --json FILE

`infer()` on bound tensors, `start_async()` with `wait()`, and inferences in a row through `AsyncInferQueue`, against
OpenVINO and ONNX Runtime, measured in turns as bench/peers.py does; then the time of the native program alone, in which
the interpreter has no part. Exits with 1 when cpuruntime does not meet a limit.

    python bench/overheads.py --trace

What a timeline costs an inference: models with and without one, in turns. Exits with 1 where it is more than 1 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
from cpuruntime.api.core import Core
from cpuruntime.cli.parser import Parser, positive, positive_seconds
from cpuruntime.streams.thread_group import ThreadGroup
from kernel.program import Runnable, optimised
from peer.compare import Plan, compare
from peer.engines import ENGINES
from peer.mode import Mode
from peer.models import prepare
from peer.progress import Progress
from peer.report import Result, facts, machine, remarks
from peers import present

MODEL = "mlp"
TRACED = ("resnet18", "mobilenet_v2")
FEWEST_TRACED = 20
MOST_FOR_TRACE = 0.01
"""The share of an inference of the TRACED models that a timeline may cost."""


@dataclass(frozen=True)
class Measure:
    """One way to ask for an inference. `limit` is cpuruntime's: microseconds at most, or inferences a second at least.

    `engines` have it.
    """

    title: str
    mode: Mode
    limit: float
    engines: Sequence[str] = ENGINES

    @property
    def unit(self) -> str:
        return "us" if self.mode.is_latency else "/s"

    def value(self, result: Result, engine: str) -> float:
        """What was measured, in `unit`."""
        return result.engines[engine].median * (1000 if self.mode.is_latency else 1)

    def holds(self, value: float) -> bool:
        """Whether the limit is met."""
        return value <= self.limit if self.mode.is_latency else value >= self.limit


MEASURES = (
    Measure("infer()", Mode.parse("latency1"), 4),
    Measure("start_async() + wait()", Mode.parse("async1"), 4, ("cpuruntime", "openvino")),
    Measure("AsyncInferQueue", Mode.parse("throughput"), 150_000),
)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(prog="overheads.py", description="Measure what a request costs beyond its kernels.")
    add = options.add_argument
    add("--engine", nargs="+", choices=ENGINES[1:], default=list(ENGINES[1:]), help="the peers (default: all)")
    add("--seconds", type=positive_seconds, default=4.0, help="time of each engine and measure (default: 4)")
    add("--rounds", type=positive, default=8, help="number of slices that time is cut into (default: 8)")
    add("--trace", action="store_true", help="measure what a timeline costs, and nothing else")
    add("--json", type=Path, default=None, metavar="FILE", help="write everything measured to FILE")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when a limit is not met or an engine failed."""
    options = parser().parse_args(arguments)
    if options.trace:
        return max(trace_overhead(name, options.seconds) for name in (MODEL, *TRACED))
    engines = present(["cpuruntime", *options.engine])
    about = machine()
    print(f"{about['processor']}, {len(about['allowed_cores'])} cores allowed; model {MODEL}, batch 1, float32")
    results = _measure_all(engines, options.seconds, options.rounds)
    rows = [result_row(measure, result) for measure, result in zip(MEASURES, results)]
    native = native_microseconds(options.seconds / options.rounds)
    print(*result_table(engines, rows), sep="\n")
    share = native / rows[0]["cpuruntime"] if rows[0]["cpuruntime"] else 0.0
    print(f"The native program alone takes {native:.2f} us, {share:.0%} of infer().")
    for line in (line for result in results for line in (*facts([result]), *remarks(result))):
        print(line)
    if options.json:
        document = {"machine": about, "model": MODEL, "rows": rows, "native_us": native, "share_of_infer": share}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return int(not all(row["holds"] for row in rows) or any(e.failure for r in results for e in r.engines.values()))


def _measure_all(engines: Sequence[str], seconds: float, rounds: int) -> list[Result]:
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="cpuruntime-overheads-") as folder:
        model = prepare(f"bench:{MODEL}", Path(folder))
        results = []
        for measure in MEASURES:
            plan = Plan([name for name in engines if name in measure.engines], seconds, rounds)
            results.append(compare(model, measure.mode, plan, Path(folder), progress))
    progress.clear()
    return results


def result_row(measure: Measure, result: Result) -> dict[str, Any]:
    """What the table and the JSON file say of a measure; 0 for an engine that failed."""
    values = {name: measure.value(result, name) for name in result.engines}
    holds = not result.engines["cpuruntime"].failure and measure.holds(values["cpuruntime"])
    return {"measure": measure.title, "unit": measure.unit, **values, "limit": measure.limit, "holds": holds}


def native_microseconds(seconds: float) -> float:
    """What the model's program takes on this thread, from its first step to its last: the median over `seconds`."""
    runnable = Runnable(optimised(Core().read_model(models.build(MODEL)).graph))
    job = runnable.instance.whole
    assert job is not None, "the model has a step without a kernel"
    group = ThreadGroup(1)
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        group.run(job)
        times.append(job.elapsed)
    return statistics.median(times) / 1000


def trace_overhead(name: str, seconds: float) -> int:
    """Prints what a timeline costs an inference of a model on one thread, and returns 1 where that is too much.

    By the least times beyond the steps' own, so that other work on the machine matters little; the clock that is read
    after each step counts as the step's.
    """
    source, core = models.build(name), Core()
    config = {
        "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False, "TUNING_BUDGET_MS": 0,
        "COMPILE_MODE": "OPTIMIZED",
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="cpuruntime-overheads-") as folder, ExitStack() as stack:
        requests = []
        for context in (nullcontext(), core.trace(Path(folder, "timeline.json"))):
            stack.enter_context(context)
            requests.append(stack.enter_context(core.compile_model(source, "CPU", config)).create_infer_request())
        beyond: list[list[float]] = [[], []]
        executed: list[float] = []
        end = time.perf_counter() + seconds
        while len(executed) < 2 * FEWEST_TRACED or time.perf_counter() < end:
            for request, own in zip(requests, beyond):
                begin = time.perf_counter()
                request.infer(share_outputs=True)
                taken = 1e6 * (time.perf_counter() - begin)
                executed.append(1000 * request.latency_anatomy.executed)
                own.append(taken - executed[-1])
    without, traced = map(min, beyond)
    share = (traced - without) / min(executed)
    print(f"{name}: {min(executed):.1f} us and {without:.1f} us, with a timeline {traced:.1f} us: {share:+.2%}")
    return int(name in TRACED and share > MOST_FOR_TRACE)


def result_table(engines: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[str]:
    """Aligned lines: a row for each measure."""
    cells = [["", *engines, "limit", ""]]
    for row in rows:
        limit = ("at most" if row["unit"] == "us" else "at least", _amount(row["limit"], row["unit"]))
        figures = [_amount(row[name], row["unit"]) if row.get(name) else "-" for name in engines]
        cells.append([row["measure"], *figures, " ".join(limit), "met" if row["holds"] else "NOT MET"])
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in cells]


def _amount(value: float, unit: str) -> str:
    return f"{value:.2f} us" if unit == "us" else f"{value:,.0f}/s"


if __name__ == "__main__":
    sys.exit(main())
