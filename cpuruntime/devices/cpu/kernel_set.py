"""The kernels that models need at an ISA level: all that planning could choose, compiled and never run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf

from cpuruntime.compiler import pool
from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.programs import Programs
from cpuruntime.devices.cpu.streams.dry_run import dry_run
from cpuruntime.devices.cpu.workforce import workforce
from cpuruntime.graph import Graph
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.tuning.decisions import Decision, Decisions
from cpuruntime.program.tuning.trial import kernels_of
from cpuruntime.program.tuning.tuner import DryTuner
from cpuruntime.properties import Settings, of_device
from cpuruntime.store import Folder


class AllCandidates(DryTuner):
    """Gathers the `kernels` of all candidates that measuring could choose, and chooses without measuring.

    Of the methods of a node it takes number `method`, or the last one: what is planned after it depends on it.
    `methods` is the largest number of methods of a node.
    """

    def __init__(self, method: int) -> None:
        super().__init__(inf, "", False, Decisions(Folder(None)))
        self._method = method
        self.methods = 1

    def dry(self) -> AllCandidates:
        return AllCandidates(self._method)

    def _decide(self, key: str, names: Sequence[str], trials: Iterator[Emitter], is_binding: bool) -> Decision:
        for trial in trials:
            self.kernels.update(dict.fromkeys(kernels_of(trial)))
        if is_binding:
            self.methods = max(self.methods, len(names))
        return Decision(min(self._method, len(names) - 1) if is_binding else 0, (None,) * len(names))


def compile_kernels(read: Callable[[], Graph]) -> None:
    """Compile what a model needs by itself, whatever is measured; `read` gives its graph, which planning takes apart.

    Raises Error when the model cannot be compiled.
    """
    method, methods, settings = 0, 1, Settings(of_device("CPU"), {})
    while method < methods:
        compilation, tuner = Compilation.of(read(), settings), AllCandidates(method)
        Programs(compilation, dry_run(compilation, None), tuner)
        pool.compile_all(list(tuner.kernels), workforce(compilation.topology))
        method, methods = method + 1, tuner.methods
