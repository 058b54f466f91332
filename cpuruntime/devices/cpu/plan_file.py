"""A stored model without the weights that can be packed again from the model's own file."""

from __future__ import annotations

import json

from cpuruntime.program.common_sections import RECIPES, WEIGHTS, joined, split
from cpuruntime.store import SectionFile, written
from cpuruntime.streams.native.needed import KERNELS

MOST_WEIGHTS = 4 * 2**20
"""Bytes of weights that may be left, those that are computed otherwise than from the file; arbitrary."""


def without_weights(stored: SectionFile) -> bytes | None:
    """The file of a stored model, as it is read where it has a `source`.

    None for models of dynamic shapes, and where more weights are left than MOST_WEIGHTS.
    """
    own = stored.facts["own"]
    recipes = json.loads(bytes(stored[RECIPES]))
    weights = split(stored[WEIGHTS], own["program"]["weights"])
    left = [one for one, recipe in zip(weights, recipes) if recipe is None]
    if not own["is_static"] or sum(one.nbytes for one in left) > MOST_WEIGHTS:
        return None
    return b"".join(written(stored.facts, {name: [stored[name]] for name in stored} | {WEIGHTS: joined(left)}))


def kernels_of(stored: SectionFile) -> set[str]:
    """The symbols of all kernels of a stored model of static shapes."""
    own = stored.facts["own"]
    return {symbol for symbol, *_ in own["program"]["kernels"]} | {own["streams"][kernel.name] for kernel in KERNELS}
