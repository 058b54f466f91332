"""Measures the kernels of a model on one thread against what the core and its memory can do.

    python bench/kernels.py                         every convolution and product of ResNet-50, then its other steps
    python bench/kernels.py --exact                 the same without Winograd's method
    python bench/kernels.py -m model.onnx --json F  the same for another model: a file, light:NAME or bench:NAME
    python bench/kernels.py --tiles                 every register tile on a 1x1 and on a 3x3 convolution
    python bench/kernels.py --choices               every candidate of every choice: how good the estimates are
    python bench/kernels.py --cases pooling         every case of a family in tests/cases, or of all of them
    python bench/kernels.py --bandwidth             how fast memory can be read, by working set

Each kernel is timed alone, again and again on the same memory ("GFLOP/s", "GB/s": median over the rounds; "best": the
fastest call), and once a round in the order of the program ("in model"), where weights come from further away. The peak
of the core is measured before every sample; "of peak" counts flops as layers are usually counted, "useful" without
products with padding, "executed" all that the register tiles compute; "best of best" is the fastest call against the
best peak. Other work on the machine shows in the peak's spread.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import cpuruntime as ov
from cpuruntime.cli.model_options import batched_shapes
from cpuruntime.cli.parser import Parser, positive
from cpuruntime.compiler import isa
from cpuruntime.errors import Error, InvalidArgumentError, UnsupportedError
from cpuruntime.graph import Graph
from cpuruntime.ops.tiles.tile_shapes import tile_shapes
from cpuruntime.program.plan.step import Step
from cpuruntime.program.report.roofs import FmaPeak, ReadRoof
from cpuruntime.program.tuning.tiles import Tiling
from kernel import report
from kernel.choices import Choice, judge
from kernel.measure import measure_program
from kernel.program import Runnable, one_convolution, optimised
from kernel.report import Column, Row, table
from kernel.work import COMPUTE, flops
from peer.models import BUILT
from peer.report import machine

TESTS = Path(__file__).resolve().parents[1] / "tests"
# Layers on which tiles are compared: (input channels, output channels, height and width, kernel).
TILE_LAYERS = ((1024, 256, 14, 1), (256, 256, 14, 3))
EVERYTHING = 1_000_000  # more row tiles than a layer has
WORKING_SETS = (16, 128, 512, 1024, 4096, 16384, 65536, 262144)  # KiB


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(prog="kernels.py", description="Measure kernels against the core's peak and memory's roofs.")
    add = options.add_argument
    add("-m", "--model", default="light:resnet50", help="a file, light:NAME or bench:NAME (default: light:resnet50)")
    add("-b", "--batch_size", type=positive, default=None, metavar="N", help="first dimension of the inputs")
    add("--exact", action="store_true", help="compute every convolution directly, none by Winograd's method")
    add("--tiles", action="store_true", help="measure every register tile instead of a model")
    add("--choices", action="store_true", help="measure every candidate of every choice in a model")
    add("--cases", default=None, metavar="FAMILY", help="measure the cases of tests/cases/FAMILY.py, or 'all'")
    add("--bandwidth", action="store_true", help="measure the memory's roofs instead of a model")
    add("--rounds", type=positive, default=15, help="samples of each figure (default: 15)")
    add("--json", type=Path, default=None, metavar="FILE", help="write everything measured to FILE")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when the model cannot be measured."""
    options = parser().parse_args(arguments)
    about = machine()
    print(f"{about['processor']}, {isa.current().name}, one thread; load average {about['load_average'][0]:.2f}")
    try:
        if options.bandwidth:
            results = measure_bandwidth(options.rounds)
        elif options.tiles:
            results = measure_tiles(options.rounds)
        elif options.cases:
            results = measure_cases(options.cases, options.rounds)
        elif options.choices:
            results = measure_choices(options.model, options.batch_size)
        else:
            results = measure_model(options.model, options.batch_size, options.exact, options.rounds)
    except Error as error:
        print(f"kernels.py: {error}", file=sys.stderr)
        return 1
    if options.json:
        document = {"machine": about, "isa": isa.current().name, "rounds": options.rounds, **results}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def measure_model(name: str, batch: int | None, exact: bool, rounds: int) -> dict[str, Any]:
    """Prints and returns the rows of all steps of a model."""
    peak, roof = FmaPeak(), ReadRoof()
    runnable = Runnable(optimised(read(name, batch)), exact)
    timings = measure_program(runnable, _no_halo, rounds, peak)
    heavy = [t for t in timings if _is_compute(t.step)]
    light = [t for t in timings if not _is_compute(t.step)]
    layers = [report.compute_row(t, peak) for t in heavy]
    total = report.total_row(heavy, "all of these") if heavy else None
    print(table(report.COMPUTE_COLUMNS, [*layers, total] if total else layers))
    print(report.goal_line(layers))
    print(*report.peak_lines(peak), sep="\n", end="\n\n")
    steps = [report.memory_row(t, roof) for t in light]
    print(table(report.MEMORY_COLUMNS, steps))
    print("roof: reading as many bytes, again and again, with one thread")
    return {"model": name, "exact": exact, "peak": peak.measured, "layers": layers, "total": total, "steps": steps}


CHOICE_COLUMNS = (
    Column("node", "node"),
    Column("first", "estimated best"),
    Column("microseconds", "us", ".1f"),
    Column("slots", "slots/ns", ".2f"),
    Column("loss", "slower by", ".0%"),
    Column("fastest", "than"),
)


def measure_choices(name: str, batch: int | None) -> dict[str, Any]:
    """Prints and returns what the estimate prefers and what is fastest; all candidates go into the JSON file."""
    choices = judge(optimised(read(name, batch)), 1)
    rows = [choice_row(choice) for choice in choices]
    print(table(CHOICE_COLUMNS, rows))
    losses = [choice.loss for choice in choices]
    if losses:
        print(f"{len(losses)} choices; the estimates lose {sum(losses) / len(losses):.1%} to the fastest on average")
    return {"model": name, "choices": rows}


def choice_row(choice: Choice) -> Row:
    """A choice as a row, with all its candidates."""
    fastest = min(range(len(choice.seconds)), key=lambda index: choice.seconds[index])
    first = choice.candidates[0]
    every = [(c.name, c.cost, seconds) for c, seconds in zip(choice.candidates, choice.seconds)]
    return {
        "node": choice.node, "first": first.name, "microseconds": choice.seconds[0] * 1e6,
        "slots": first.cost / choice.seconds[0] * 1e-9, "loss": choice.loss,
        "fastest": choice.candidates[fastest].name if fastest else "", "sizes": repr(choice.query), "candidates": every,
    }  # fmt: skip


def _no_halo(step: Step) -> bool:
    return step.layout != "halo"


def _is_compute(step: Step) -> bool:
    """Whether multiply-adds and not memory decide: products of a few rows are read from memory weight by weight."""
    return step.kernel.family in COMPUTE and (step.kernel.family != "matmul" or step.arguments["rows"] >= 8)


def read(name: str, batch: int | None) -> Graph:
    """The graph of a file, light model or bench model with static shapes."""
    kind, _, built = name.partition(":")
    model = ov.Core().read_model(BUILT[kind](built) if kind in BUILT else name)
    if batch:
        model.reshape(batched_shapes(model, batch))
    if any(port.partial_shape.is_dynamic for port in model.inputs):
        raise UnsupportedError(f"'{name}' has open input shapes; give the batch with -b or a model with fixed shapes.")
    return model.graph


CASE_COLUMNS = (Column("case", "case"), *report.MEMORY_COLUMNS[:6], Column("gflops", "GFLOP/s", ".1f"))


def measure_cases(family: str, rounds: int) -> dict[str, Any]:
    """Prints and returns the steps of each test case of a family, or of all families, with the work they do."""
    sys.path.append(str(TESTS))
    cases = import_module("cases")
    if family not in (*cases.FAMILIES, "all"):
        raise InvalidArgumentError(f"there are no cases of '{family}'; choose all, {', '.join(cases.FAMILIES)}.")
    peak, found = FmaPeak(), []
    for name in cases.FAMILIES if family == "all" else (family,):
        for case in cases.rows(name):
            for timing in measure_program(Runnable(case.graph(), feeds=case.feeds()), _no_halo, rounds, peak):
                found.append({"family": name, "case": case.name, **report.case_row(timing)})
    print(table(CASE_COLUMNS, found))
    return {"peak": peak.measured, "cases": found}


def measure_tiles(rounds: int) -> dict[str, Any]:
    """Prints and returns each tile's share of peak; tiles that do not fit their layer compute more than it needs."""
    peak, rows = FmaPeak(), []
    columns = [Column("tile", "tile"), Column("accumulators", "accumulators", "d")]
    for channels, outputs, extent, kernel in TILE_LAYERS:
        name = f"{kernel}x{kernel} {channels}x{extent}x{extent} -> {outputs}"
        columns += [Column(f"{name} gflops", name, ".1f")]
        columns += [Column(f"{name} {kind}", kind, ".1%") for kind in ("nominal", "executed")]
    for tile in tile_shapes():
        row: Row = {"tile": f"{tile[0]}x{tile[1]}", "accumulators": tile[0] * tile[1]}
        for channels, outputs, extent, kernel in TILE_LAYERS:
            runnable = one_convolution(channels, outputs, extent, kernel, Tiling(*tile, EVERYTHING))
            (timing,) = measure_program(runnable, _is_compute, rounds, peak)
            name = f"{kernel}x{kernel} {channels}x{extent}x{extent} -> {outputs}"
            work = flops(timing.step)
            row[f"{name} gflops"] = work.nominal / timing.median / 1e9
            row[f"{name} nominal"] = timing.share(work.nominal)
            row[f"{name} executed"] = timing.share(work.executed)
        rows.append(row)
    print(table(columns, rows))
    print(*report.peak_lines(peak), sep="\n")
    return {"peak": peak.measured, "tiles": rows}


def measure_bandwidth(rounds: int) -> dict[str, Any]:
    """Prints and returns GB/s by working set and number of threads."""
    roof, rows = ReadRoof(), []
    threads = sorted({1, 2, len(os.sched_getaffinity(0))} & set(range(1, len(os.sched_getaffinity(0)) + 1)))
    columns = [Column("kilobytes", "KiB", "d"), *(Column(f"threads {n}", f"{n} threads", ".1f") for n in threads)]
    for size in WORKING_SETS:
        row: Row = {"kilobytes": size}
        for count in threads:
            row[f"threads {count}"] = roof.measure(size * 1024, count, rounds) / 1e9
        rows.append(row)
    print(table(columns, rows))
    print("GB/s; the working set is shared by the threads")
    return {"bandwidth": rows}


if __name__ == "__main__":
    sys.exit(main())
