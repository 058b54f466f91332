"""Measures what a fresh process pays before its first answer: import, reading and compiling, the first inference.

    python bench/startup.py
    python bench/startup.py -m light:resnet50 --pack zoo.pack
    python bench/startup.py -m bench:bert_base --extent 2 --no-cold

Every figure is of a process of its own, with a home folder of its own, engines in turns. "processor time" is that of
all threads from the start of the process, which depends less on what else the machine does. Rows of cpuruntime:

- cold: nothing is compiled. "cold, final kernels" waits for all kernels before the first inference.
- warm: the cache has what an earlier process compiled.
- model cache: the model is stored, too, in a folder that CACHE_DIR names; OpenVINO has one of its own.
- pack: nothing is cached, and a pack has the kernels (with --pack, or one that is built here).
- read-only home: the second process in a home that cannot be written, without a pack.
- first command: `cpuruntime benchmark` in a fresh home, to the first line that has a number of milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

from peer.models import ModelFile, prepare

MODELS = ("light:resnet50", "bench:bert_base", "bench:yolov8n")
PROGRAM = """
import json, sys, time
engine, path, inputs, names, *settings = sys.argv[1:]
begin = time.perf_counter()
import numpy as np
if engine == "onnxruntime":
    import onnxruntime
elif engine == "openvino":
    import openvino as ov
else:
    import cpuruntime as ov
arrays = dict(zip(json.loads(names), np.load(inputs).values()))
imported = time.perf_counter()
if engine == "onnxruntime":
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    infer = lambda: session.run(None, arrays)
else:
    compiled = ov.Core().compile_model(path, "CPU", dict(json.loads(text) for text in settings))
    infer = lambda: compiled(arrays)
done = time.perf_counter()
infer()
answered = time.perf_counter()
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
peak = int(status["VmHWM"].split()[0]) / 1024
print(json.dumps([imported - begin, done - imported, answered - done, answered - begin, time.process_time(), peak]))
"""
COLUMNS = ("import", "compile", "first inference", "together", "processor time", "peak memory")
F32 = json.dumps(["INFERENCE_PRECISION_HINT", "f32"])


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a process that has `home` for itself."""
    left = ("CPURUNTIME_", "XDG_", "PYTHONDONTWRITEBYTECODE")  # an installation has the bytecode of its modules
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left)}
    return kept | {"HOME": str(home), "TMPDIR": str(home)} | more


def measure(engine: str, model: ModelFile, variables: dict[str, str], *settings: str) -> list[float]:
    """The figures of one fresh process; RuntimeError with the last line of its error output when it fails."""
    given = [F32, *settings] if engine != "onnxruntime" else []
    files = str(model.path), str(model.inputs), json.dumps(model.names)
    command = [sys.executable, "-c", PROGRAM, engine, *files, *given]
    result = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if result.returncode:
        raise RuntimeError(f"{engine} failed: {result.stderr.strip().splitlines()[-1]}")
    figures: list[float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def subjects(model: ModelFile, folder: Path, pack: Path) -> dict[str, Callable[[int], list[float]]]:
    """Functions that measure one row each, by the number of the round."""
    warm, locked = folder / "warm", folder / "locked"
    for home in (warm, locked):
        home.mkdir()
    optimised = [json.dumps(["COMPILE_MODE", "OPTIMIZED"])]
    measure("cpuruntime", model, environment(warm), *optimised)
    stored, theirs = (json.dumps(["CACHE_DIR", str(folder / name)]) for name in ("stored", "theirs"))
    measure("cpuruntime", model, environment(warm), *optimised, stored)
    measure("openvino", model, environment(warm), theirs)
    unwritable = environment(Path("/proc"), TMPDIR=str(locked))
    measure("cpuruntime", model, unwritable, *optimised)

    def fresh(name: str, number: int) -> Path:
        home = folder / f"{name}{number}"
        home.mkdir()
        return home

    def packed(number: int) -> list[float]:
        return measure("cpuruntime", model, environment(fresh("pack", number), CPURUNTIME_KERNEL_PATH=str(pack)))

    return {
        "cold, first answer": lambda n: measure("cpuruntime", model, environment(fresh("cold", n))),
        "cold, final kernels": lambda n: measure("cpuruntime", model, environment(fresh("final", n)), *optimised),
        "warm": lambda n: measure("cpuruntime", model, environment(warm)),
        "model cache": lambda n: measure("cpuruntime", model, environment(warm), stored),
        "pack": packed,
        "read-only home": lambda n: measure("cpuruntime", model, unwritable),
        "OpenVINO": lambda n: measure("openvino", model, environment(warm)),
        "OpenVINO, cache": lambda n: measure("openvino", model, environment(warm), theirs),
        "ONNX Runtime": lambda n: measure("onnxruntime", model, environment(warm)),
    }


def build_pack(models: Iterable[ModelFile], path: Path) -> None:
    """Builds a pack for this machine's level in a process of its own."""
    from cpuruntime.compiler import isa

    files = [str(model.path) for model in models]
    command = ["kernels", "build", "--level", isa.current().cpu, "--plans", "-o", str(path), "--models", *files]
    subprocess.run([sys.executable, "-m", "cpuruntime", *command], check=True, stdout=subprocess.DEVNULL)


def first_command(home: Path) -> float:
    """Seconds from the start of README's first command to its first number."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "cpuruntime", "benchmark", "-t", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(home)) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if re.search(r"\d+\.\d+ ms", line):
                found = time.perf_counter() - begin
                process.kill()
                return found
    raise RuntimeError("the command printed no number of milliseconds")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(description="What a fresh process pays before its first answer.")
    options.add_argument("-m", "--model", action="append",
                         help=f"an ONNX file, light:NAME or bench:NAME (default: {', '.join(MODELS)})")  # fmt: skip
    options.add_argument("--extent", type=int, default=0, help="keep open shapes; inputs have this extent there")
    options.add_argument("--pack", type=Path, help="a pack of kernels (default: one that is built for the models)")
    options.add_argument("--runs", type=int, default=3, help="processes of each row, in turns (default: 3)")
    options.add_argument("--no-cold", action="store_true", help="leave the rows out that compile all kernels")
    return options


def main() -> None:
    """Prints a table for each model, medians of the runs, and the time of the first command."""
    arguments = parser().parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = [prepare(model, folder, extent=arguments.extent) for model in arguments.model or MODELS]
        pack = arguments.pack or folder / "models.pack"
        if arguments.pack is None:
            build_pack(models, pack)
        for number, model in enumerate(models):
            homes = folder / f"homes{number}"
            homes.mkdir()
            rows = subjects(model, homes, pack)
            if arguments.no_cold:
                rows = {row: run for row, run in rows.items() if not row.startswith("cold")}
            figures: dict[str, list[list[float]]] = {}
            for turn in range(arguments.runs):
                for row, run in rows.items():
                    figures.setdefault(row, []).append(run(turn))
            print(f"\n{model.name:20}" + "".join(f"{column:>17}" for column in COLUMNS))
            for row, found in figures.items():
                *seconds, peak = (median(column) for column in zip(*found))
                print(f"{row:20}" + "".join(f"{value:>15.2f} s" for value in seconds) + f"{peak:>14.0f} MB")
        if not arguments.no_cold:
            (folder / "command").mkdir()
            print(f"\nfirst command, to its first number: {first_command(folder / 'command'):.1f} s")


if __name__ == "__main__":
    main()
