"""What programs in one file have in common: their kernels and weights, each once, and the facts about steps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cpuruntime.compiler.build import Kernel
from cpuruntime.host.memory import ALIGNMENT, allocate, round_up
from cpuruntime.store import SectionFile

if TYPE_CHECKING:
    from cpuruntime.program.plan.packing import Recipe
    from cpuruntime.program.report.facts import StepFacts

WEIGHTS, RECIPES = "weights", "recipes"

Sections = dict[str, list[bytes | memoryview]]


class Pool:
    """The kernels and weights of programs that are being stored, by their numbers.

    `recipes` say of weights, by their addresses, how they are packed from the model's file.
    """

    def __init__(self, recipes: Mapping[int, Recipe]) -> None:
        self._kernels: dict[Kernel, int] = {}
        self._weights: dict[int, tuple[int, np.ndarray]] = {}
        self._recipes = recipes

    def kernel(self, kernel: Kernel) -> int:
        """The number of a kernel."""
        return self._kernels.setdefault(kernel, len(self._kernels))

    def weights(self, array: np.ndarray) -> int:
        """The number of weights, which are packed in memory of their own."""
        return self._weights.setdefault(array.ctypes.data, (len(self._weights), array))[0]

    def facts(self) -> dict[str, Any]:
        """What `Parts` are made from, with the sections."""
        return {
            "kernels": [(kernel.symbol, kernel.recipe, kernel.features) for kernel in self._kernels],
            "weights": [array.nbytes for _, array in self._weights.values()],
        }

    def sections(self) -> Sections:
        """The weights, and how to pack them: a recipe each, or None."""
        from cpuruntime.program.repacking import described  # not above: files are read without

        found = [self._recipes.get(address) for address in self._weights]
        rows = [None if recipe is None else described(recipe) for recipe in found]
        weights = joined(array for _, array in self._weights.values())
        return {RECIPES: [json.dumps(rows).encode()], WEIGHTS: weights}


def joined(weights: Iterable[np.ndarray | memoryview]) -> list[bytes | memoryview]:
    """Weights as they lie in their section, each aligned."""
    pieces: list[bytes | memoryview] = []
    for array in weights:
        pieces += [memoryview(array), bytes(round_up(array.nbytes) - array.nbytes)]
    return pieces


def split(section: memoryview, sizes: Sequence[int]) -> list[memoryview]:
    """Weights that were `joined`; ValueError where they have other sizes."""
    found, position = [], 0
    for size in sizes:
        found.append(section[position : position + size])
        position += round_up(size)
    if position != len(section):
        raise ValueError("the sizes of its weights do not fit together")
    return found


class Parts:
    """The kernels and weights of stored programs, given by their numbers.

    Weights stay in the file's memory. Of a file with a `source` those that have recipes are packed again, in threads
    that the file's `finish` awaits.

    Raises ValueError where they do not fit together.
    """

    def __init__(self, facts: Mapping[str, Any], file: SectionFile, threads: int = 1) -> None:
        self._symbols = [symbol for symbol, *_ in facts["kernels"]]
        sizes: list[int] = facts["weights"]
        packed = self._packed_again(sizes, file, threads) if file.source is not None else {}
        memory = np.frombuffer(file[WEIGHTS], np.uint8)
        if memory.ctypes.data % ALIGNMENT:
            memory = copied(file[WEIGHTS])
        left = iter(split(memory.data, [size for number, size in enumerate(sizes) if number not in packed]))
        self._weights = [
            packed[number] if number in packed else np.frombuffer(next(left), np.uint8) for number in range(len(sizes))
        ]

    def _packed_again(self, sizes: Sequence[int], file: SectionFile, threads: int) -> dict[int, np.ndarray]:
        """The weights with recipes, by their numbers; they are being filled."""
        from cpuruntime.program.repacking import fill_all, filling  # not above: files that are whole do without

        recipes = json.loads(bytes(file[RECIPES]))
        numbers = [number for number, recipe in enumerate(recipes) if recipe is not None]
        memory = allocate(sum(round_up(sizes[number]) for number in numbers))
        pieces = split(memory.data, [sizes[number] for number in numbers])
        packed = {number: np.frombuffer(piece, np.uint8) for number, piece in zip(numbers, pieces)}
        longest = sorted(packed.items(), key=lambda item: -item[1].nbytes)
        jobs = [partial(filling(recipes[number], file.source.deferred), memory) for number, memory in longest]
        file.finish = fill_all(jobs, threads)
        return packed

    def kernel(self, number: int) -> str:
        """The symbol of a kernel."""
        return self._symbols[_checked(number, self._symbols)]

    def weights(self, number: int) -> np.ndarray:
        """Packed weights."""
        return self._weights[_checked(number, self._weights)]

    def section(self) -> list[bytes | memoryview]:
        """All weights as they lie in their section."""
        return joined(self._weights)


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
