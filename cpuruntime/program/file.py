"""Programs in a file of sections: their images and the facts about their steps, without pickle and machine code.

Kernels are named by their symbols, digests of their sources, with the recipes by which they are made where they are not
in the cache. Kernels use the sizes and offsets in the file as they are: read a file only from where nobody else can
write, and check its sections before what they hold is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler import build, isa, recipes
from cpuruntime.compiler.build import Kernel
from cpuruntime.errors import UnsupportedError
from cpuruntime.graph import Type
from cpuruntime.program.common_sections import Parts, Pool, Sections, StoredSteps, copied, steps_section
from cpuruntime.program.image import RELOCATION, Image
from cpuruntime.program.plan.storage import Place
from cpuruntime.program.program import Program, Segment
from cpuruntime.store import SectionFile


def add(program: Program, name: str, pool: Pool, sections: Sections) -> dict[str, Any]:
    """The facts about a program, whose own sections are added with names that begin with `name`.

    Raises UnsupportedError where the reference evaluator runs a node of it.
    """
    for segment in program.segments:
        if segment.fallback is not None:
            raise UnsupportedError(f"{segment.fallback.node.where} has no kernel; its program cannot be stored.")
    image = program.image
    assert isinstance(image, Image)
    sections[f"{name} words"] = [image.words.view(np.uint8).data]
    sections[f"{name} relocations"] = [image.relocations.view(np.uint8).data]
    sections[f"{name} steps"] = steps_section(program.planned)
    known = {kernel.symbol: kernel for step in program.steps for kernel in step.kernels}
    return {
        "kernels": [pool.kernel(known[symbol]) for symbol in image.kernels],
        "weights": [*map(pool.weights, image.weights)],
        "steps": image.steps,
        "arena_size": image.arena_size,
        "faults": image.faults,
        "inputs": [(shape, dtype.name) for shape, dtype in image.inputs],
        "outputs": [(shape, dtype.name) for shape, dtype in image.outputs],
        "repeats": program.repeats,
        "unshared_size": program.unshared_size,
        "planned": len(program.planned),
    }


def load(facts: Mapping[str, Any], name: str, parts: Parts, file: SectionFile) -> Program:
    """The program that was added under a name; its sections must have been checked.

    Raises ValueError where it does not fit together.
    """
    words = copied(file[f"{name} words"]).view(np.int64)
    relocations = copied(file[f"{name} relocations"]).view(RELOCATION)
    inputs, outputs = (tuple((tuple(s), Type(d).to_dtype()) for s, d in facts[side]) for side in ("inputs", "outputs"))
    image = Image(
        words, relocations, facts["steps"], tuple(map(parts.kernel, facts["kernels"])),
        tuple(map(parts.weights, facts["weights"])), facts["arena_size"], tuple(facts["faults"]), inputs, outputs,
    )  # fmt: skip
    _check(image)
    steps = StoredSteps(file[f"{name} steps"], facts["planned"])
    segments = [Segment(0, image.steps)] if image.steps else []
    return Program(steps, segments, image, facts["repeats"], facts["unshared_size"])


def missing_kernels(kernels: Iterable[tuple[str, Any, str]]) -> list[Kernel]:
    """Those of stored kernels (symbols, recipes, features) that are not compiled.

    Raises ValueError where one cannot be made, or this processor lacks what it uses.
    """
    found = []
    for symbol, recipe, features in kernels:
        if lacking := isa.lacking(features):
            raise ValueError(f"its kernels need {lacking}, which this process may not use")
        if build.find(symbol) is None:
            kernel = None if recipe is None else recipes.follow(recipe)
            if not isinstance(kernel, Kernel) or kernel.symbol != symbol:
                raise ValueError(f"kernel {symbol} is not compiled, and is another one by now")
            found.append(kernel)
    return found


def _check(image: Image) -> None:
    """ValueError when a relocation names a word, symbol or byte that there is not."""
    rows = image.relocations
    if 2 * image.steps > len(image.words) or ((rows["kind"] < 0) | (rows["kind"] >= len(Place))).any():
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
