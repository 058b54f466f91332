"""Compares cpuruntime with OpenVINO and ONNX Runtime on the same models, inputs and precision.

    python bench/peers.py -m light:resnet50 light:squeezenet --modes latency1 latency2 throughput --json FILE
    python bench/peers.py -m light bench --seconds 3 --rounds 6 --report bench/report

Each engine runs in a process of its own. The measured time is cut into slices that alternate between the engines, and
a ratio is taken between slices of the same round, so that a slow spell of the machine hits all alike. While one engine
is measured the others sleep in a read; a remark is printed when one of them does not. Every engine's outputs are
compared with those of the reference engine. The peers come with the extra `bench`; one that is missing is left out, or
with `--require`, for gates, an error.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cpuruntime.cli.parser import Parser, positive, positive_seconds
from cpuruntime.errors import Error
from cpuruntime.program.report.roofs import FmaPeak
from peer import document
from peer.compare import Plan, compare
from peer.engines import ENGINES, installed
from peer.mode import Mode
from peer.models import expand, prepare
from peer.progress import Progress
from peer.report import Result, Table, facts, machine, remarks, write_json


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(prog="peers.py", description="Compare cpuruntime with OpenVINO and ONNX Runtime.")
    add = options.add_argument
    add("-m", "--models", nargs="+", required=True, metavar="MODEL",
        help="ONNX files, light:NAME, bench:NAME or int8:NAME (8 bits); light, bench or int8 for all of these")
    add("--modes", nargs="+", type=mode, default=[mode(name) for name in ("latency1", "latency2", "throughput")],
        metavar="MODE", help="latencyN or asyncN with N threads, throughput (default: latency1 latency2 throughput)")
    add("--engine", nargs="+", choices=ENGINES, default=list(ENGINES), help="the engines to run (default: all)")
    add("--require", action="store_true", help="fail where an engine is not installed (default: it is left out)")
    add("--seconds", type=positive_seconds, default=10.0, help="time of each engine, model and mode (default: 10)")
    add("--rounds", type=positive, default=10, help="number of slices that time is cut into (default: 10)")
    add("-shape", "--shape", default="", metavar="SHAPES", help='input shapes: "input[1,3,224,224]"')
    add("-b", "--batch_size", type=positive, default=None, metavar="N", help="first dimension of the inputs")
    add("--device", default="CPU", help="cpuruntime's device (default: CPU)")
    add("-infer_precision", "--infer_precision", choices=("f32", "bf16", "f16"), default="f32", metavar="TYPE",
        help="INFERENCE_PRECISION_HINT of cpuruntime and OpenVINO (default: f32)")
    add("--json", type=Path, default=None, metavar="FILE", help="write everything measured to FILE")
    add("--report", type=Path, default=None, metavar="FOLDER",
        help="write this class of machines' section of peers.md in FOLDER, and peers-CLASS.svg")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when an engine failed or gave other outputs."""
    options = parser().parse_args(arguments)
    engines = present(options.engine)
    if options.require and len(engines) < len(set(options.engine)):
        print("peers.py: --require needs every engine.", file=sys.stderr)
        return 1
    if not engines:
        print("No engine is left to measure.", file=sys.stderr)
        return 1
    if options.report and not installed("matplotlib"):
        print('The report needs matplotlib: pip install -e ".[bench]" installs it.', file=sys.stderr)
        return 1
    try:
        for folder in filter(None, (options.json and options.json.parent, options.report)):
            folder.mkdir(parents=True, exist_ok=True)
        if options.json:
            options.json.open("a").close()
    except OSError as error:
        print(f"{error.filename}: {error.strerror}.", file=sys.stderr)
        return 1
    about = machine()
    print(f"{about['processor']}, {len(about['allowed_cores'])} cores allowed; ", end="")
    print(", ".join(f"{name} {about['versions'][name]}" for name in engines))
    plan = Plan(engines, options.seconds, options.rounds, options.device, options.infer_precision)
    peak = FmaPeak() if options.report else None
    try:
        results = _compare_all(plan, options, peak)
    except Error as error:
        print(f"peers.py: {error}", file=sys.stderr)
        return 1
    notes = [line for result in results for line in remarks(result)]
    for line in (*facts(results), *notes):
        print(line)
    if options.json:
        settings = {"seconds": options.seconds, "rounds": options.rounds, "engines": engines, "shape": options.shape}
        settings |= {"batch": options.batch_size, "device": options.device, "precision": options.infer_precision}
        write_json(options.json, settings, about, results)
    if peak:
        document.write(options.report, plan, about, max(peak.measured), results)
    return int(any(engine.failure or engine.wrong for result in results for engine in result.engines.values()))


def present(engines: Sequence[str]) -> list[str]:
    """Those of the engines that are installed, in the order of ENGINES; says which are not."""
    for name in engines:
        if not installed(name):
            print(f'{name} is not installed and left out: pip install -e ".[bench]" installs it.')
    return [name for name in ENGINES if name in engines and installed(name)]


def mode(text: str) -> Mode:
    """A mode that this process may use the cores for; argparse.ArgumentTypeError for another."""
    try:
        found = Mode.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    cores = len(os.sched_getaffinity(0))
    if found.threads > cores:
        raise argparse.ArgumentTypeError(f"'{text}' needs {found.threads} cores, and this process may use {cores}")
    return found


def _compare_all(plan: Plan, options: argparse.Namespace, peak: FmaPeak | None) -> list[Result]:
    """Compares model after model; each model's files are there only meanwhile."""
    names = expand(options.models)
    table = Table(names, options.modes, plan.engines)
    print(table.header(), flush=True)
    results = []
    progress = Progress()
    for name in names:
        progress(f"{name} is made")
        if peak:
            peak.measure()
        with tempfile.TemporaryDirectory(prefix="cpuruntime-peers-") as folder:
            model = prepare(name, Path(folder), shape=options.shape, batch=options.batch_size)
            for each in options.modes:
                results.append(compare(model, each, plan, Path(folder), progress))
                progress.clear()
                print(table.row(results[-1]), flush=True)
    for line in table.means(results):
        print(line)
    return results


if __name__ == "__main__":
    sys.exit(main())
