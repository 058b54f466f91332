"""Mutants of a stored model: each region of its bytes is changed, cut or moved, and none of them may be imported."""

from __future__ import annotations

import argparse
import random

import onnx

import cpuruntime as ov
from cpuruntime.errors import ModelError

CONFIG = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "COMPILE_MODE": "OPTIMIZED"}
PAGE = 4096


def mutant(content: bytes, number: int, count: int, generator: random.Random) -> bytes:
    """One of `count`: a quarter lies in the prefix and the header, others go through the whole file in order."""
    size = PAGE if number % 4 == 0 else len(content)
    at = min(size - 1, size * number // count + generator.randrange(max(1, size // count)))
    kind = generator.randrange(6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + bytes(generator.randrange(1, 100)) + content[at:]
    if kind == 2:
        end = at + generator.randrange(1, 5000)
        return content[:at] + content[end:]
    changed = bytearray(content)
    changed[at] ^= 1 << generator.randrange(8) if kind < 5 else 255
    return bytes(changed)


def check(model: onnx.ModelProto, count: int, seed: int = 0) -> int:
    """How many of so many mutants of a model that is stored are refused with a ModelError."""
    core, generator, refused = ov.Core(), random.Random(seed), 0
    content = core.compile_model(model, "CPU", CONFIG).export_model().getvalue()
    for number in range(count):
        changed = mutant(content, number, count, generator)
        if changed == content:
            refused += 1
            continue
        try:
            core.import_model(changed, "CPU", CONFIG)
        except ModelError:
            refused += 1
    return refused


def main() -> None:
    """Prints how many mutants are refused, of a model of static shapes and of one of dynamic shapes."""
    options = argparse.ArgumentParser(description="Imports mutants of a stored model; each must be refused.")
    options.add_argument("count", type=int, nargs="?", default=10_000)
    count = options.parse_args().count
    weights = ", ".join(f"{number / 108:.3f}" for number in range(108))
    for images in ("1", "n"):
        ports = f"(float[{images},3,16,16] x) => (float[{images},4,16,16] y)"
        text = f"<ir_version: 8, opset_import: ['' : 17]> agraph {ports}"
        text = text.replace("'", chr(34)) + f" {{ w = Constant <value = float[4,3,3,3] {{{weights}}}> ()"
        text += " c = Conv <pads = [1, 1, 1, 1]> (x, w) y = Relu (c) }"
        refused = check(onnx.parser.parse_model(text), count)
        print(f"{refused} of {count} mutants of a model of {images} images are refused")


if __name__ == "__main__":
    main()
