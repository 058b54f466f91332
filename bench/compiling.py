"""Measures what compiling a model's kernels costs, by kernel and by phase, in processor seconds.

    python bench/compiling.py                    the kernels of ResNet-50
    python bench/compiling.py -m model.onnx      those of another model: a file, light:NAME or bench:NAME

The kernel cache is an empty temporary folder. `import` is what Numba and llvmlite cost a process once; `bytecode` is
Numba's reading of the functions, `typing` its inference of types, `lowering` the writing of LLVM code, `linking` the
parsing and joining of it, `optimising` LLVM's passes and `emitting` its code generation. A helper that several kernels
call is counted with the first of them. Everything is compiled in this process.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHASES = ("import", "bytecode", "typing", "lowering", "linking", "optimising", "emitting")


class Phases:
    """Processor time by kernel and phase; a phase within a phase counts for itself alone."""

    def __init__(self) -> None:
        self.kernels: dict[str, Counter[str]] = {}
        self._times: Counter[str] = Counter()
        self._nested: list[float] = []

    def begin(self, kernel: str) -> None:
        """The next phases are those of this kernel."""
        self._times = self.kernels.setdefault(kernel, Counter())

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its time counted."""

        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            self._nested.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                took = time.process_time() - start
                self._times[phase] += took - self._nested.pop()
                if self._nested:
                    self._nested[-1] += took

        return run

    def watch(self, owner: Any, name: str, phase: str) -> None:
        """Counts the time of a function of a module or class."""
        setattr(owner, name, self.timed(phase, getattr(owner, name)))


def measure(model: str, folder: Path) -> Phases:
    """The phases of every kernel that the model compiles."""
    import cpuruntime as ov
    from cpuruntime.compiler import build
    from peer.models import prepare

    path, core, phases = prepare(model, folder).path, ov.Core(), Phases()
    phases.begin("(Numba)")
    phases.timed("import", importlib.import_module)("cpuruntime.compiler.frontend")

    import llvmlite.binding as llvm
    from numba.core import interpreter, lowering

    from cpuruntime.compiler import frontend

    phases.watch(interpreter.Interpreter, "interpret", "bytecode")
    phases.watch(frontend, "reconstruct_ssa", "bytecode")
    phases.watch(frontend, "type_inference_stage", "typing")
    phases.watch(lowering.Lower, "lower", "lowering")
    phases.watch(llvm, "parse_assembly", "linking")
    phases.watch(llvm.ModuleRef, "link_in", "linking")
    phases.watch(llvm.ModulePassManager, "run", "optimising")
    phases.watch(llvm.TargetMachine, "emit_object", "emitting")
    code = build.Kernel.code

    def counted(kernel: build.Kernel) -> bytes:
        phases.begin(kernel.name)
        return code(kernel)

    build.Kernel.code = counted
    sys.executable = ""  # so there are no worker processes
    core.compile_model(path, "CPU", {"NUM_STREAMS": 1})
    return phases


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(description="What compiling a model's kernels costs, by kernel and phase.")
    options.add_argument("-m", "--model", default="light:resnet50", help="an ONNX file, light:NAME or bench:NAME")
    return options


def main() -> None:
    """Prints a line a kernel and the totals."""
    model = parser().parse_args().model
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CPURUNTIME_CACHE_DIR"] = f"{folder}/cache"
        phases = measure(model, Path(folder))
    print(f"{'kernel':44}" + "".join(f"{phase:>11}" for phase in (*PHASES, "all")))
    slowest = sorted(phases.kernels.items(), key=lambda item: -item[1].total())
    total = sum((times for _, times in slowest), Counter())
    for name, times in (*slowest, (f"{len(slowest) - 1} kernels", total)):
        figures = (*(times[phase] for phase in PHASES), times.total())
        print(f"{name[:43]:44}" + "".join(f"{figure:11.2f}" for figure in figures))


if __name__ == "__main__":
    main()
