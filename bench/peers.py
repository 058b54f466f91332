"""Compares cpuruntime with OpenVINO and ONNX Runtime on the same models, inputs and precision.

    python bench/peers.py -m light:resnet50 light:squeezenet --modes latency1 latency2 throughput --json FILE

Each engine runs in a process of its own. The measured time is cut into slices that alternate between the engines, and
a ratio is taken between slices of the same round, so that a slow spell of the machine hits all alike. While one engine
is measured the others sleep in a read; a remark is printed when one of them does not. Every engine's outputs are
compared with those of the reference engine. The peers come with the extra `bench`; one that is missing is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cpuruntime.cli.parser import Parser, positive, positive_seconds
from cpuruntime.errors import Error
from peer.engines import ENGINES, installed
from peer.mode import Mode
from peer.models import ModelFile, prepare
from peer.process import EngineError, EngineProcess
from peer.ratios import Ratio, output_error, ratio, rotated
from peer.report import SETTLE_SECONDS, EngineResult, Result, Table, facts, machine, remarks, write_json

# The engine whose outputs the others' are compared with: the first of these that runs.
REFERENCE_ORDER = ("onnxruntime", "openvino", "cpuruntime")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(prog="peers.py", description="Compare cpuruntime with OpenVINO and ONNX Runtime.")
    add = options.add_argument
    add("-m", "--models", nargs="+", required=True, metavar="MODEL", help="ONNX files, light:NAME or bench:NAME")
    add("--modes", nargs="+", type=_mode, default=[_mode(name) for name in ("latency1", "latency2", "throughput")],
        metavar="MODE", help="latencyN with N threads, throughput (default: latency1 latency2 throughput)")
    add("--engine", nargs="+", choices=ENGINES, default=list(ENGINES), help="the engines to run (default: all)")
    add("--seconds", type=positive_seconds, default=20.0, help="time of each engine, model and mode (default: 20)")
    add("--rounds", type=positive, default=10, help="number of slices that time is cut into (default: 10)")
    add("-shape", "--shape", default="", metavar="SHAPES", help='input shapes: "input[1,3,224,224]"')
    add("-b", "--batch_size", type=positive, default=None, metavar="N", help="first dimension of the inputs")
    add("--device", default="CPU", help="cpuruntime's device (default: CPU)")
    add("--json", type=Path, default=None, metavar="FILE", help="write everything measured to FILE")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when an engine failed or gave other outputs."""
    options = parser().parse_args(arguments)
    engines = [name for name in ENGINES if name in options.engine and installed(name)]
    for name in options.engine:
        if name not in engines:
            print(f'{name} is not installed and left out: pip install -e ".[bench]" installs it.')
    if not engines:
        print("No engine is left to measure.", file=sys.stderr)
        return 1
    about = machine()
    print(f"{about['processor']}, {len(about['allowed_cores'])} cores allowed; ", end="")
    print(", ".join(f"{name} {about['versions'][name]}" for name in engines))
    try:
        with tempfile.TemporaryDirectory(prefix="cpuruntime-peers-") as folder:
            models = [
                prepare(name, Path(folder), shape=options.shape, batch=options.batch_size) for name in options.models
            ]
            results = _compare_all(models, engines, options, Path(folder))
    except Error as error:
        print(f"peers.py: {error}", file=sys.stderr)
        return 1
    notes = [line for result in results for line in remarks(result)]
    for line in (*facts(results), *notes):
        print(line)
    if options.json:
        settings = {"seconds": options.seconds, "rounds": options.rounds, "engines": engines, "shape": options.shape}
        settings |= {"batch": options.batch_size, "device": options.device}
        write_json(options.json, settings, about, results)
    return int(any(engine.failure or engine.wrong for result in results for engine in result.engines.values()))


def _mode(text: str) -> Mode:
    try:
        mode = Mode.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    cores = len(os.sched_getaffinity(0))
    if mode.threads > cores:
        raise argparse.ArgumentTypeError(f"'{text}' needs {mode.threads} cores, and this process may use {cores}")
    return mode


def _compare_all(
    models: Sequence[ModelFile], engines: Sequence[str], options: argparse.Namespace, folder: Path
) -> list[Result]:
    table = Table([model.name for model in models], options.modes, engines)
    print(table.header(), flush=True)
    results = []
    for model in models:
        for mode in options.modes:
            results.append(_compare(model, mode, engines, options, folder))
            print(table.row(results[-1]), flush=True)
    for line in table.means(results):
        print(line)
    return results


def _compare(
    model: ModelFile, mode: Mode, engines: Sequence[str], options: argparse.Namespace, folder: Path
) -> Result:
    """Loads all engines, checks their outputs and measures them in turns."""
    found = {name: EngineResult() for name in engines}
    outputs = {name: folder / f"{name}-outputs.npz" for name in engines}
    with ExitStack() as stack:
        processes: dict[str, EngineProcess] = {}
        for name in engines:
            process = stack.enter_context(EngineProcess(name))
            try:
                answer = process.load(model, mode=mode.name, device=options.device, outputs=outputs[name])
            except EngineError as error:
                found[name].failure = str(error)
                continue
            for key, value in answer.items():
                setattr(found[name], key, value)
            processes[name] = process
        _check_outputs({name: outputs[name] for name in processes}, found)
        for turn in range(options.rounds):
            for name in rotated(list(processes), turn):
                if not found[name].failure:
                    _measure(processes[name], found[name], options.seconds / options.rounds, model.batch, mode)
    return Result(model.name, mode, found, _ratios(found, mode))


def _check_outputs(outputs: dict[str, Path], found: dict[str, EngineResult]) -> None:
    reference = next((name for name in REFERENCE_ORDER if name in outputs), "")
    arrays = {}
    for name, path in outputs.items():
        with np.load(path) as archive:
            arrays[name] = [archive[key] for key in archive.files]
    for name in outputs:
        if name != reference:
            found[name].error = output_error(arrays[name], arrays[reference])


def _measure(process: EngineProcess, result: EngineResult, seconds: float, batch: int, mode: Mode) -> None:
    time.sleep(SETTLE_SECONDS)
    try:
        answer = process.slice(seconds)
    except EngineError as error:
        result.failure = str(error)
        return
    result.values.append(answer["value"] * (1 if mode.is_latency else batch))
    result.counts.append(answer["count"])
    result.idle_cpu_seconds = max(result.idle_cpu_seconds, answer["idle_cpu_seconds"])
    result.peak_memory_mb = answer["peak_memory_mb"]
    result.median = statistics.median(result.values)


def _ratios(found: dict[str, EngineResult], mode: Mode) -> dict[str, Ratio]:
    first, *others = found
    return {
        name: ratio(found[first].values, found[name].values, smaller_is_better=mode.is_latency)
        for name in others
        if not found[first].failure and not found[name].failure
    }


if __name__ == "__main__":
    sys.exit(main())
