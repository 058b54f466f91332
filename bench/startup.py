"""Measures what a fresh process pays: time to compile a model and peak memory, for cpuruntime and OpenVINO.

    python bench/startup.py -m light:resnet50

Every figure comes from a process of its own that compiles with two streams and runs one inference on each. The first
cpuruntime process begins with an empty kernel cache, in a temporary folder; the others find it filled.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from peer.models import prepare

PROGRAM = """
import json, sys, time
engine, path = sys.argv[1:]
begin = time.perf_counter()
if engine == "cpuruntime":
    import cpuruntime as ov
else:
    import openvino as ov
import numpy as np
core = ov.Core()
imported = time.perf_counter()
compiled = core.compile_model(path, "CPU", {"NUM_STREAMS": 2, "INFERENCE_PRECISION_HINT": "f32"})
done = time.perf_counter()
requests = [compiled.create_infer_request() for _ in range(2)]
for request in requests:
    request.start_async()
for request in requests:
    request.wait()
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
peak = int(status["VmHWM"].split()[0]) / 1024
print(json.dumps({"import_s": imported - begin, "compile_s": done - imported, "peak_mb": peak}))
"""


def measure(engine: str, path: Path, cache: Path) -> dict[str, float]:
    """The figures of one fresh process; RuntimeError with the last line of its error output when it fails."""
    environment = {**os.environ, "CPURUNTIME_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", PROGRAM, engine, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode:
        raise RuntimeError(f"{engine} failed: {result.stderr.strip().splitlines()[-1]}")
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(description="Compile time and peak memory of fresh processes.")
    options.add_argument("-m", "--model", default="light:resnet50", help="an ONNX file, light:NAME or bench:NAME")
    options.add_argument("--runs", type=int, default=5, help="processes of each engine, alternating (default: 5)")
    return options


def main() -> None:
    """Prints a line for each engine and state of the cache."""
    arguments = parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = prepare(arguments.model, Path(folder)).path
        cache = Path(folder) / "cache"
        rows = {"cpuruntime, empty kernel cache": [measure("cpuruntime", path, cache)]}
        for _ in range(arguments.runs):
            rows.setdefault("cpuruntime", []).append(measure("cpuruntime", path, cache))
            rows.setdefault("openvino", []).append(measure("openvino", path, cache))
    print(f"{'':32}{'import':>10}{'compile':>10}{'peak memory':>14}")
    for name, figures in rows.items():
        imported, compiled, peak = (median(f[key] for f in figures) for key in ("import_s", "compile_s", "peak_mb"))
        print(f"{name:32}{imported:>8.2f} s{compiled:>8.2f} s{peak:>11.0f} MB")


if __name__ == "__main__":
    main()
