"""The rules of all families, by operator: imported when the first node is evaluated, since many models need none."""

from __future__ import annotations

from cpuruntime.operators.evaluation import (
    casts,
    convolution,
    detection,
    draws,
    elementwise,
    indexing,
    losses,
    movement,
    normalisation,
    pooling,
    products,
    recurrent,
    reductions,
    resize,
    sampling,
    sequences,
    spectra,
    support_vectors,
    tabular,
    trees,
)
from cpuruntime.operators.evaluation.inputs import Rule

_FAMILIES = (
    casts, convolution, detection, draws, elementwise, indexing, losses, movement, normalisation, pooling, products,
    recurrent, reductions, resize, sampling, sequences, spectra,
)  # fmt: skip

RULES: dict[str, Rule] = {name: rule for family in _FAMILIES for name, rule in family.TABLE.items()}
"""Operators of ONNX's own domain done with NumPy. Those that only move elements also work on arrays of objects, in
which None is a number that is not known."""

ML_RULES: dict[str, Rule] = support_vectors.TABLE | tabular.TABLE | trees.TABLE
"""Operators of ai.onnx.ml."""
