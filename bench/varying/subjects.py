"""What bench/dynamic.py measures: models of dynamic shapes, and random shapes for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx

from models.varying import convolutions, encoder, perceptron

Sizes = tuple[int, ...]
Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Subject:
    """A model, the largest of its sizes, and its inputs for sizes. `flat` ones are for memory over many shapes, too."""

    build: Callable[[], onnx.ModelProto]
    limits: Sizes
    feeds: Callable[[Sizes], Feeds]
    flat: bool = False


def _batch(width: int, sizes: Sizes) -> Feeds:
    return {"input": _floats(*sizes, width)}


def _images(sizes: Sizes) -> Feeds:
    batch, height, width = sizes
    return {"input": _floats(batch, 3, height, width)}


def _tokens(width: int, sizes: Sizes) -> Feeds:
    batch, length = sizes
    return {"states": _floats(batch, length, width), "mask": np.ones((batch, length), np.int64)}


def _floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _encoder(layers: int, width: int, batch: int, length: int, flat: bool = False) -> Subject:
    return Subject(partial(encoder, layers=layers, width=width), (batch, length), partial(_tokens, width), flat)


SUBJECTS = {
    "mlp": Subject(perceptron, (2_000,), partial(_batch, 256), flat=True),
    "convnet": Subject(convolutions, (3, 128, 128), _images, flat=True),
    "encoder2x64": _encoder(2, 64, 8, 128, flat=True),
    "encoder6x256": _encoder(6, 256, 4, 128),
    "encoder12x768": _encoder(12, 768, 2, 128),
}
_SMALLEST = 8  # of a height, width or length; batches begin at 1


def shapes(name: str, seed: int = 0) -> Iterator[Sizes]:
    """Random sizes of the subject without end; small ones are as likely as large."""
    random = np.random.default_rng(seed)
    limits = SUBJECTS[name].limits
    lowest = [_SMALLEST if index or len(limits) == 1 else 1 for index in range(len(limits))]
    while True:
        logarithms = random.uniform(np.log(lowest), np.log(np.add(limits, 1)))
        yield tuple(map(int, np.exp(logarithms)))
