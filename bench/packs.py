"""Builds the pack of a release: kernels of bench models, light models and the operators of the test tables.

    python bench/packs.py -o cpuruntime/kernels/zoo.pack

Models are written to a temporary folder, a few gigabytes, or to --folder, where those of an earlier run are used.
With --check the pack stays as it is, and a Python that has it, as one with the wheel, says how many kernels it compiles
for these models in a fresh home, which should be none: `python bench/packs.py --check venv/bin/python`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import onnx

import cpuruntime as ov
import models
from cpuruntime.cli.inputs import SEED
from cpuruntime.frontend.light_models import LIGHT_MODELS

COUNT = """
import sys
import cpuruntime as ov
from cpuruntime.compiler.build import loaded_kernels
total = 0
for path in sys.argv[1:]:
    ov.Core().compile_model(path, "CPU", {"COMPILE_MODE": "OPTIMIZED", "TUNING_BUDGET_MS": 2000})
    compiled, total = loaded_kernels()[0] - total, loaded_kernels()[0]
    if compiled:
        print(f"{path}: {compiled} kernels compiled")
print(f"{len(sys.argv) - 1} models, {total} kernels compiled, {loaded_kernels()[1]} taken from packs")
sys.exit(total > 0)
"""
TESTS = Path(__file__).resolve().parents[1] / "tests"


def parts(only: list[str]) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Name and model of each part of `only`: bench, light and operators."""
    if "operators" in only:
        sys.path.insert(0, str(TESTS))
        from cases import FAMILIES, rows
        from cases.case import Case

        cases = [case for family in FAMILIES for case in rows(family) if isinstance(case, Case)]
        yield from ((f"operator_{number}", case.model()) for number, case in enumerate(cases))
    if "light" in only:
        yield from ((f"light_{name}", ov.light_model(name, SEED)) for name in LIGHT_MODELS)
    if "bench" in only:
        yield from ((f"bench_{name}", models.build(name, SEED)) for name in models.MODELS)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(description="Builds the pack that a wheel carries.")
    what = options.add_mutually_exclusive_group(required=True)
    what.add_argument("-o", "--output", type=Path, help="the pack to build")
    what.add_argument("--check", metavar="PYTHON", help="the interpreter that counts kernels")
    options.add_argument("--level", default="x86-64-v3,x86-64-v4", help="levels, as of 'cpuruntime kernels build'")
    options.add_argument("--only", nargs="*", default=["operators", "light", "bench"],
                         help="parts (default: all; without one: what --folder has)")  # fmt: skip
    options.add_argument("--folder", type=Path, help="where to write the models (default: a temporary folder)")
    return options


def main() -> None:
    """Writes the models and has the pack built."""
    arguments = parser().parse_args()
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for name, model in parts(arguments.only):
            if not (folder / f"{name}.onnx").exists():
                onnx.save(model, folder / f"{name}.onnx")
        if arguments.check:
            home = stack.enter_context(tempfile.TemporaryDirectory())
            files = sorted(map(str, folder.glob("*.onnx")))
            command = [arguments.check, "-c", COUNT, *files]
            left = ("XDG_CACHE_HOME", "CPURUNTIME_CACHE_DIR")
            variables = {name: value for name, value in os.environ.items() if name not in left}
            sys.exit(subprocess.run(command, env={**variables, "HOME": home}, check=False).returncode)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        command = ["kernels", "build", "--level", arguments.level, "-o", str(arguments.output)]
        done = subprocess.run([sys.executable, "-m", "cpuruntime", *command, "--models", str(folder)], check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
