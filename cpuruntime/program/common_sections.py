"""What programs in one file have in common: their kernels and weights, each once, and the facts about steps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from cpuruntime.compiler.build import Kernel
from cpuruntime.host.memory import ALIGNMENT, allocate, round_up
from cpuruntime.store import SectionFile

if TYPE_CHECKING:
    from cpuruntime.program.report.facts import StepFacts

WEIGHTS = "weights"

Sections = dict[str, list[bytes | memoryview]]


class Pool:
    """The kernels and weights of programs that are being stored, by their numbers."""

    def __init__(self) -> None:
        self._kernels: dict[Kernel, int] = {}
        self._weights: dict[int, tuple[int, np.ndarray]] = {}

    def kernel(self, kernel: Kernel) -> int:
        """The number of a kernel."""
        return self._kernels.setdefault(kernel, len(self._kernels))

    def weights(self, array: np.ndarray) -> int:
        """The number of weights, which are packed in memory of their own."""
        return self._weights.setdefault(array.ctypes.data, (len(self._weights), array))[0]

    def facts(self) -> dict[str, Any]:
        """What `Parts` are made from, with the section `WEIGHTS`."""
        return {
            "kernels": [(kernel.symbol, kernel.recipe) for kernel in self._kernels],
            "weights": [array.nbytes for _, array in self._weights.values()],
        }

    def section(self) -> list[bytes | memoryview]:
        """The weights, each aligned."""
        pieces: list[bytes | memoryview] = []
        for _, array in self._weights.values():
            pieces += [array.data, bytes(round_up(array.nbytes) - array.nbytes)]
        return pieces


class Parts:
    """The kernels and weights of stored programs, given by their numbers; the weights stay in the file's memory.

    Raises ValueError where they do not fit together.
    """

    def __init__(self, facts: Mapping[str, Any], file: SectionFile) -> None:
        self._symbols = [symbol for symbol, _ in facts["kernels"]]
        self._weights, position, memory = [], 0, np.frombuffer(file[WEIGHTS], np.uint8)
        if memory.ctypes.data % ALIGNMENT:
            memory = copied(file[WEIGHTS])
        for size in facts["weights"]:
            self._weights.append(memory[position : position + size])
            position += round_up(size)
        if position != len(memory):
            raise ValueError("the sizes of its weights do not fit together")

    def kernel(self, number: int) -> str:
        """The symbol of a kernel."""
        return self._symbols[_checked(number, self._symbols)]

    def weights(self, number: int) -> np.ndarray:
        """Packed weights."""
        return self._weights[_checked(number, self._weights)]


def _checked(number: int, known: Sequence[Any]) -> int:
    if not 0 <= number < len(known):
        raise ValueError("a number in it is out of range")
    return number


def steps_section(steps: Sequence[Any]) -> list[bytes | memoryview]:
    """The facts about steps, at the sizes at hand."""
    from cpuruntime.program.report.facts import facts_of

    return [json.dumps([asdict(facts_of(step)) for step in steps], default=int).encode()]


class StoredSteps(Sequence[Any]):
    """The facts about steps, which are read when somebody asks for them."""

    def __init__(self, text: memoryview, count: int) -> None:
        self._text, self._count = text, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]

    def __iter__(self) -> Iterator[StepFacts]:
        from cpuruntime.program.plan.candidate import Comparison
        from cpuruntime.program.report.facts import StepFacts

        for row in json.loads(bytes(self._text)):
            compared = tuple(Comparison(*(tuple(values) for values in one.values())) for one in row["comparisons"])
            yield StepFacts(**row | {"comparisons": compared, "origins": tuple(row["origins"])})


def copied(section: memoryview) -> np.ndarray:
    """The bytes of a section, in aligned memory of their own."""
    memory = allocate(len(section))
    memory[:] = np.frombuffer(section, np.uint8)
    return memory
