"""The process that builds the kernels of one level: `python -m cpuruntime.cli.kernel_worker LEVEL FILE MODEL ...`."""

from __future__ import annotations

import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import cpuruntime as ov
from cpuruntime.cli.model_options import source_of
from cpuruntime.compiler import target
from cpuruntime.store import write_pack


def main(level: str, file: str, *models: str) -> None:
    """Writes a pack for a level with the kernels of models, and a line for each model."""
    target.level = level  # before anything that asks for it is imported
    from cpuruntime.devices.cpu.kernel_set import compile_kernels

    for model in models:
        before = len(target.found)
        compile_kernels(partial(_read, model))
        print(f"{level}: {model}: {len(target.found) - before} more kernels, {len(target.found)} in all", flush=True)
    packages = {name: version(name) for name in ("numba", "llvmlite")}
    made_by = {"cpuruntime": ov.get_version(), "Python": python_version(), **packages}
    write_pack(Path(file), made_by, {level: target.found})


def _read(model: str) -> Any:
    return ov.Core().read_model(source_of(model)).graph


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ov.Error, OSError) as error:
        sys.exit(f"[ ERROR ] {error}")
