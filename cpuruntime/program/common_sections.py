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

KEY = 4096
"""Bytes at the beginning and the end of weights by which they are found; arbitrary."""

WEIGHTS, RECIPES = "weights", "recipes"

Sections = dict[str, list[bytes | memoryview]]


class Pool:
    """The kernels and weights of programs that are being stored, by their numbers.

    `recipes` say of weights, by their addresses, how they are packed from the model's file. Those of `stored` programs,
    which go into the same file, have the numbers that they had.
    """

    def __init__(self, recipes: Mapping[int, Recipe], stored: Parts | None = None) -> None:
        self._kernels: dict[str, tuple[int, Sequence[Any]]] = {}
        self._weights: list[np.ndarray] = []
        self._rows: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._recipes = recipes
        if stored is not None:
            self._kernels = {row[0]: (number, row) for number, row in enumerate(stored.kernels)}
            self._weights, self._rows = list(stored.packed), stored.recipes()
        self._stored = {_key(array): number for number, array in enumerate(self._weights)}

    def kernel(self, kernel: Kernel) -> int:
        """The number of a kernel."""
        row = kernel.symbol, kernel.recipe, kernel.features
        return self._kernels.setdefault(kernel.symbol, (len(self._kernels), row))[0]

    def weights(self, array: np.ndarray) -> int:
        """The number of weights, which are packed in memory of their own."""
        found = self._numbers.get(array.ctypes.data)
        if found is None:
            found = self._numbers[array.ctypes.data] = self._added(array)
        return found

    def _added(self, array: np.ndarray) -> int:
        content = array.reshape(-1).view(np.uint8)
        stored = self._stored.get(_key(content))
        if stored is not None and np.array_equal(self._weights[stored], content):
            return stored
        recipe = self._recipes.get(array.ctypes.data)
        self._weights.append(array)
        self._rows.append(None if recipe is None else _described(recipe))
        return len(self._weights) - 1

    def facts(self) -> dict[str, Any]:
        """What `Parts` are made from, with the sections."""
        return {
            "kernels": [row for _, row in self._kernels.values()],
            "weights": [array.nbytes for array in self._weights],
        }

    def sections(self) -> Sections:
        """The weights, and how to pack them: a recipe each, or None."""
        return {RECIPES: [json.dumps(self._rows).encode()], WEIGHTS: joined(self._weights)}


def _key(weights: np.ndarray) -> tuple[int, bytes]:
    """What few weights have in common that are not the same."""
    return weights.nbytes, weights[:KEY].tobytes() + weights[-KEY:].tobytes()


def _described(recipe: Recipe) -> Any:
    from cpuruntime.program.repacking import described  # not above: files are read without

    return described(recipe)


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

    Attributes:
        kernels: what is stored of each, its symbol first.
        packed: weights, by number.

    Raises ValueError where they do not fit together.
    """

    def __init__(self, facts: Mapping[str, Any], file: SectionFile, threads: int = 1) -> None:
        self.kernels: list[Sequence[Any]] = facts["kernels"]
        self._file = file
        sizes: list[int] = facts["weights"]
        packed = self._packed_again(sizes, file, threads) if file.source is not None else {}
        memory = np.frombuffer(file[WEIGHTS], np.uint8)
        if memory.ctypes.data % ALIGNMENT:
            memory = copied(file[WEIGHTS])
        left = iter(split(memory.data, [size for number, size in enumerate(sizes) if number not in packed]))
        self.packed = [
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
        return self.kernels[_checked(number, self.kernels)][0]

    def weights(self, number: int) -> np.ndarray:
        """Packed weights."""
        return self.packed[_checked(number, self.packed)]

    def recipes(self) -> list[Any]:
        """How to pack the weights, by number: what says so, or None."""
        found: list[Any] = json.loads(bytes(self._file[RECIPES]))
        return found

    def section(self) -> list[bytes | memoryview]:
        """All weights as they lie in their section."""
        return joined(self.packed)


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
