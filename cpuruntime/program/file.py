"""A program in a file: its image as a JSON header and raw memory, without pickle.

A prefix of 64 bytes (magic, SHA-256 of the rest, size of the header), the header, then words, relocations and weights,
each from a multiple of 64 bytes on. Machine code is not in the file: the cache of compiled kernels has it by symbol.

The checksum finds damage, not malice: kernels use the sizes and offsets in the file as they are, so read a file only
from a folder that nobody else may write to.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from cpuruntime.compiler import build, isa
from cpuruntime.errors import ModelError, UnsupportedError
from cpuruntime.host.memory import allocate, round_up
from cpuruntime.program.image import RELOCATION, Image
from cpuruntime.program.plan.storage import Place
from cpuruntime.program.program import Program

MAGIC = b"cpuruntime prog1"
PREFIX = 64


def save(program: Program, path: Path) -> None:
    """Writes a program with its weights. Raises UnsupportedError when the reference evaluator runs a node of it."""
    for segment in program.segments:
        if segment.fallback is not None:
            raise UnsupportedError(f"{segment.fallback.node.where} has no kernel; its program cannot be saved.")
    image = program.image
    parts = [image.words, image.relocations, *image.weights]
    facts = {
        "environment": _environment(),
        "isa": isa.current().name,
        "sizes": [part.nbytes for part in parts],
        "steps": image.steps,
        "kernels": image.kernels,
        "arena_size": image.arena_size,
        "faults": image.faults,
        "inputs": [(shape, dtype.name) for shape, dtype in image.inputs],
        "outputs": [(shape, dtype.name) for shape, dtype in image.outputs],
    }
    header = json.dumps(facts).encode()
    pieces: list[bytes | memoryview] = []
    for part in (np.frombuffer(header, np.uint8), *parts):
        pieces += [part.view(np.uint8).data, bytes(round_up(part.nbytes) - part.nbytes)]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    prefix = MAGIC + digest.digest() + len(header).to_bytes(8, "little")
    with path.open("wb") as file:
        file.writelines([prefix.ljust(PREFIX, b"\0"), *pieces])


def load(path: Path) -> Image:
    """The program in a file; ModelError if it is none, damaged, of another version or for another processor."""
    with path.open("rb") as file:
        memory = allocate(os.fstat(file.fileno()).st_size)
        size = file.readinto(memory)
    prefix = memory[:PREFIX].tobytes()
    if size < PREFIX or not prefix.startswith(MAGIC):
        raise ModelError(f"'{path}' is no program of this version of cpuruntime.")
    if hashlib.sha256(memory[PREFIX:size]).digest() != prefix[16:48]:
        raise ModelError(f"'{path}' is truncated or damaged: its checksum is wrong. Save the program again.")
    end = PREFIX + int.from_bytes(prefix[48:56], "little")
    header = json.loads(memory[PREFIX:end].tobytes())
    if header["environment"] != _environment():
        raise ModelError(
            f"'{path}' was made for {header['isa']} or by another version of cpuruntime; this process compiles for "
            f"{isa.current().name}. Compile the model again."
        )
    parts = []
    for size in header["sizes"]:
        begin = round_up(end)
        end = begin + size
        parts.append(memory[begin:end])
    words, relocations = parts[0].view(np.int64), parts[1].view(RELOCATION)
    inputs, outputs = (tuple((tuple(s), np.dtype(d)) for s, d in header[name]) for name in ("inputs", "outputs"))
    image = Image(
        words, relocations, header["steps"], tuple(header["kernels"]), tuple(parts[2:]), header["arena_size"],
        tuple(header["faults"]), inputs, outputs,
    )  # fmt: skip
    _check(image)
    return image


def _environment() -> str:
    return hashlib.sha256(build.environment()).hexdigest()


def _check(image: Image) -> None:
    """ModelError when a relocation names a word or symbol that there is not."""
    counts = np.ones(len(Place), np.int64)
    counts[Place.KERNEL], counts[Place.FIXED] = len(image.kernels), len(image.weights)
    counts[Place.INPUT], counts[Place.OUTPUT] = len(image.inputs), len(image.outputs)
    limits = {"where": len(image.words), "kind": len(Place), "symbol": counts[image.relocations["kind"] % len(Place)]}
    for name, limit in limits.items():
        numbers = image.relocations[name]
        if ((numbers < 0) | (numbers >= limit)).any():
            raise ModelError(f"a relocation of the program is wrong: its '{name}' is out of range.")
