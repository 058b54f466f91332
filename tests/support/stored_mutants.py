"""Mutants of a stored model: each region of its bytes is changed, cut or moved, and none of them may be imported."""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import onnx
from support.judge import Net

import cpuruntime as ov
from cpuruntime.cache.document import restored
from cpuruntime.devices.host import Devices
from cpuruntime.errors import ModelError
from cpuruntime.frontend.reader import read
from cpuruntime.store import SectionFile

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


def check_cached(path: Path, count: int, seed: int = 0) -> int:
    """How many of so many mutants of what a cache has of a model's file are refused, as a cache finds them."""
    generator, refused = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder:
        config = {**CONFIG, "CACHE_DIR": folder}
        assert not ov.Core().compile_model(path, "CPU", config).get_property("LOADED_FROM_CACHE")
        (file,) = Path(folder).glob("*.model")
        content = file.read_bytes()
    plugin, settings = Devices().resolved("CPU", config)
    for number in range(count):
        changed = mutant(content, number, count, generator)
        try:
            stored = SectionFile(memoryview(changed))
            restored(plugin, stored, settings, lambda: read(path)).close()
        except (ValueError, KeyError, TypeError):
            refused += 1
        else:
            refused += changed == content
    return refused


def main() -> None:
    """Prints how many mutants are refused: of a model of static shapes, of dynamic ones, and of one in stages."""
    options = argparse.ArgumentParser(description="Imports mutants of a stored model; each must be refused.")
    options.add_argument("count", type=int, nargs="?", default=10_000)
    count = options.parse_args().count
    weights = ", ".join(f"{number / 108:.3f}" for number in range(108))
    for images in ("1", "n"):
        ports = f"(float[{images},3,16,16] x) => (float[{images},4,16,16] y)"
        text = f"<ir_version: 8, opset_import: ['' : 17]> agraph {ports}"
        text = text.replace("'", chr(34)) + f" {{ w = Constant <value = float[4,3,3,3] {{{weights}}}> ()"
        text += " c = Conv <pads = [1, 1, 1, 1]> (x, w) y = Relu (c) }"
        model = onnx.parser.parse_model(text)
        print(f"{check(model, count)} of {count} mutants of a model of {images} images are refused")
    large = Net()
    x = large("MatMul", large.input(2, 512), large.weights(512, 600))
    large.output(large("NonZero", large("Relu", x)), x)
    count //= 10
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(large.model(), path)
        print(f"{check_cached(path, count)} of {count} mutants of a model in stages are refused")


if __name__ == "__main__":
    main()
