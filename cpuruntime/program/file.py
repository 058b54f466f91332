"""A program in a file of sections: its image and the facts about its steps, without pickle and without machine code.

Kernels are named by their symbols, digests of their sources, with the recipes by which they are made where they are not
in the cache. Kernels use the sizes and offsets in the file as they are: read a file only from where nobody else can
write, and check its sections before what they hold is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from cpuruntime.compiler import build, recipes
from cpuruntime.compiler.build import Kernel
from cpuruntime.errors import UnsupportedError
from cpuruntime.host.memory import ALIGNMENT, allocate, round_up
from cpuruntime.program.image import RELOCATION, Image
from cpuruntime.program.plan.storage import Place
from cpuruntime.program.program import Program, Segment
from cpuruntime.store import SectionFile

if TYPE_CHECKING:
    from cpuruntime.program.report.facts import StepFacts

SECTIONS = WORDS, RELOCATIONS, STEPS, WEIGHTS = "words", "relocations", "steps", "weights"


def stored(program: Program) -> tuple[dict[str, Any], dict[str, list[bytes | memoryview]]]:
    """The facts about a program and its sections.

    Raises UnsupportedError where the reference evaluator runs a node of it.
    """
    from cpuruntime.program.report.facts import facts_of

    for segment in program.segments:
        if segment.fallback is not None:
            raise UnsupportedError(f"{segment.fallback.node.where} has no kernel; its program cannot be stored.")
    image = program.image
    assert isinstance(image, Image)
    known = {kernel.symbol: kernel for step in program.steps for kernel in step.kernels}
    facts = {
        "kernels": [(symbol, known[symbol].recipe) for symbol in image.kernels],
        "steps": image.steps,
        "arena_size": image.arena_size,
        "faults": image.faults,
        "inputs": [(shape, dtype.name) for shape, dtype in image.inputs],
        "outputs": [(shape, dtype.name) for shape, dtype in image.outputs],
        "weights": [weights.nbytes for weights in image.weights],
        "repeats": program.repeats,
        "unshared_size": program.unshared_size,
        "planned": len(program.planned),
    }
    weights: list[bytes | memoryview] = []
    for array in image.weights:
        weights += [array.data, bytes(round_up(array.nbytes) - array.nbytes)]
    sections: dict[str, list[bytes | memoryview]] = {
        WORDS: [image.words.view(np.uint8).data],
        RELOCATIONS: [image.relocations.view(np.uint8).data],
        STEPS: [json.dumps([asdict(facts_of(step)) for step in program.planned]).encode()],
        WEIGHTS: weights,
    }
    return facts, sections


def load(facts: dict[str, Any], file: SectionFile) -> Program:
    """The program in a file, whose weights stay in its memory; the other sections must have been checked.

    Raises ValueError where it does not fit together.
    """
    words = _copied(file[WORDS]).view(np.int64)
    relocations = _copied(file[RELOCATIONS]).view(RELOCATION)
    weights, position, memory = [], 0, np.frombuffer(file[WEIGHTS], np.uint8)
    if memory.ctypes.data % ALIGNMENT:
        memory = _copied(file[WEIGHTS])
    for size in facts["weights"]:
        weights.append(memory[position : position + size])
        position += round_up(size)
    inputs, outputs = (tuple((tuple(s), np.dtype(d)) for s, d in facts[name]) for name in ("inputs", "outputs"))
    image = Image(
        words, relocations, facts["steps"], tuple(symbol for symbol, _ in facts["kernels"]), tuple(weights),
        facts["arena_size"], tuple(facts["faults"]), inputs, outputs,
    )  # fmt: skip
    _check(image, position == len(memory))
    steps = _StoredSteps(file[STEPS], facts["planned"])
    segments = [Segment(0, image.steps)] if image.steps else []
    return Program(steps, segments, image, facts["repeats"], facts["unshared_size"])


def missing_kernels(facts: dict[str, Any]) -> list[Kernel]:
    """The kernels of a stored program that are not compiled. Raises ValueError where one cannot be made."""
    found = []
    for symbol, recipe in facts["kernels"]:
        if build.find(symbol) is None:
            kernel = None if recipe is None else recipes.follow(recipe)
            if not isinstance(kernel, Kernel) or kernel.symbol != symbol:
                raise ValueError(f"kernel {symbol} is not compiled, and is another one by now")
            found.append(kernel)
    return found


class _StoredSteps(Sequence[Any]):
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


def _copied(section: memoryview) -> np.ndarray:
    memory = allocate(len(section))
    memory[:] = np.frombuffer(section, np.uint8)
    return memory


def _check(image: Image, is_whole: bool) -> None:
    """ValueError when a relocation names a word, symbol or byte that there is not."""
    rows = image.relocations
    if not is_whole or 2 * image.steps > len(image.words) or ((rows["kind"] < 0) | (rows["kind"] >= len(Place))).any():
        raise ValueError("the sizes of its sections do not fit together")
    ports = [[prod(shape) * dtype.itemsize for shape, dtype in side] for side in (image.inputs, image.outputs)]
    sizes = {
        Place.ARENA: [image.arena_size], Place.INPUT: ports[0], Place.OUTPUT: ports[1],
        Place.FIXED: [weights.nbytes for weights in image.weights], Place.FAULT: [8 * len(image.faults)],
        Place.KERNEL: [1] * len(image.kernels), Place.IMAGE: [8 * len(image.words)],
    }  # fmt: skip
    for place, known in sizes.items():
        own = rows[rows["kind"] == place]
        wrong = (own["symbol"] < 0) | (own["symbol"] >= len(known)) | (own["offset"] < 0)
        wrong |= (own["where"] < 0) | (own["where"] >= len(image.words))
        if len(own) and not wrong.any():
            wrong = own["offset"] > np.array(known, np.int64)[own["symbol"]]
        if wrong.any():
            raise ValueError(f"a relocation in it is out of range, of kind {place.name}")
