"""Models of 8 bits: bench and light models quantised to u8 activations and s8 weights by channel.

    PYTHONPATH=bench python -m models.quantised FOLDER [NAME ...]

writes them as QDQ models, `FOLDER/NAME.onnx`. Calibrated on seeded random data with structure.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx

import models
from cpuruntime.errors import InvalidArgumentError, nearest
from cpuruntime.frontend.light_models import light_model
from cpuruntime.quantize.tool import quantised as quantise

SAMPLES = 4


def _minilm(seed: int) -> onnx.ModelProto:
    return models.build("bert_base", seed, layers=6, width=384)


def _built(name: str) -> Callable[[int], onnx.ModelProto]:
    return lambda seed: models.build(name, seed)


QUANTISED: dict[str, Callable[[int], onnx.ModelProto]] = {
    "resnet50": lambda seed: light_model("resnet50", seed),
    "mobilenet_v2": _built("mobilenet_v2"),
    "yolov8n": _built("yolov8n"),
    "vit_tiny": _built("vit_tiny"),
    "minilm": _minilm,
    "bert_base": _built("bert_base"),
}
"""The float32 models by name."""


def quantised(name: str) -> Callable[[int], onnx.ModelProto]:
    """Makes the float32 model `name` from a seed. Raises InvalidArgumentError for an unknown name."""
    if name not in QUANTISED:
        raise InvalidArgumentError(
            f"there is no int8 model '{name}'.{nearest(name, QUANTISED)} There are: {', '.join(QUANTISED)}."
        )
    return QUANTISED[name]


def build_quantised(name: str, seed: int = 0) -> onnx.ModelProto:
    """The model `name` of QUANTISED in QDQ form, by `cpuruntime quantize`; the same for the same seed."""
    return quantised_model(quantised(name)(seed), seed)


def quantised_model(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """A float32 model in QDQ form; open sizes of its inputs become 1."""
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if not dimension.dim_value:
                dimension.dim_value = 1
    return quantise(model, list(samples(model, SAMPLES, seed)), lambda stage, done, total: None)


def samples(model: onnx.ModelProto, count: int, seed: int = 0) -> Iterator[dict[str, np.ndarray]]:
    """Inputs with structure: images of waves, edges and noise; whole numbers below the model's limits, padded."""
    random = np.random.default_rng([seed, 1])
    limits = {entry.key: int(entry.value) for entry in model.metadata_props if entry.key.startswith(models.LIMIT)}
    for _ in range(count):
        feeds = {}
        for value in model.graph.input:
            sizes = [dimension.dim_value or 1 for dimension in value.type.tensor_type.shape.dim]
            limit = limits.get(models.LIMIT + value.name)
            feeds[value.name] = _tokens(random, sizes, limit) if limit else _image(random, sizes)
        yield feeds


def _image(random: np.random.Generator, sizes: list[int]) -> np.ndarray:
    """[N, C, H, W] float32 from about -2 to 2: waves of random direction and length, a step, and noise."""
    rows, columns = np.mgrid[: sizes[2], : sizes[3]].astype(np.float32)
    image = np.empty(sizes, np.float32)
    for channel in image.reshape(-1, *sizes[2:]):
        across, down, phase = random.uniform(-0.3, 0.3, 3)
        channel[...] = np.sin(across * columns + down * rows + 20 * phase)
        channel += 0.5 * np.sign(columns * across + (rows - sizes[2] * random.random()) * down)
        channel += 0.2 * random.standard_normal(sizes[2:])
    return image


def _tokens(random: np.random.Generator, sizes: list[int], limit: int) -> np.ndarray:
    """[N, tokens] int64 below `limit`, small numbers more often; with a limit of 2 ones, then zeros."""
    if limit > 2:
        return (limit * random.random(sizes) ** 3).astype(np.int64)
    used = random.integers(sizes[1] // 2, sizes[1] + 1)
    return np.broadcast_to(np.arange(sizes[1]) < used, sizes).astype(np.int64)


def main() -> None:
    options = argparse.ArgumentParser(description="Write quantised models.")
    options.add_argument("folder", type=Path)
    options.add_argument("names", nargs="*", default=list(QUANTISED), metavar="NAME")
    given = options.parse_args()
    for name in given.names:
        onnx.save(build_quantised(name), given.folder / f"{name}.onnx")
        print(name, flush=True)


if __name__ == "__main__":
    main()
