"""Fills the inputs of a benchmark: from files of -i, or with random values."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np

import cpuruntime as ov
from cpuruntime.cli.benchmark.feed import Feed
from cpuruntime.cli.benchmark.files import Source, read_arrays
from cpuruntime.cli.benchmark.ports import InputInfo, described, parse_data_shapes
from cpuruntime.cli.benchmark.report import Report
from cpuruntime.cli.benchmark.tables import table_rows
from cpuruntime.cli.inputs import SEED, random_array
from cpuruntime.errors import InvalidArgumentError, printable

_ANY_TABLE = 2
"""Values of whole numbers for a model that was compiled before, whose tables are not known."""


def filled(
    report: Report,
    options: argparse.Namespace,
    compiled: ov.CompiledModel,
    model: ov.Model | None,
    sources: Mapping[str, Sequence[Source]],
) -> tuple[list[InputInfo], Feed]:
    """The inputs of a compiled model, and what to set them to.

    `model` is what it was compiled from, where that is known; `sources` are the files of inputs.

    Raises InvalidArgumentError when files cannot be read or do not fit, or the sizes of an input are not known.
    """
    names = [port.any_name for port in compiled.inputs]
    infos = described(compiled.inputs, parse_data_shapes(options.data_shape, names))
    if options.data_shape and all(info.is_static for info in infos):
        report.warning("All inputs have static shapes; -data_shape is ignored.")
    rows = {} if model is None else table_rows(model)
    arrays = []
    for info in infos:
        name = printable(info.name)
        if info.name in sources:
            report.info(f"Fill input '{name}' from {len(sources[info.name])} files")
            arrays.append(read_arrays(info, sources[info.name]))
        elif info.shapes:
            report.info(f"Fill input '{name}' with random values (seed {SEED})")
            arrays.append(random_arrays(info, rows.get(info.name, _ANY_TABLE if model is None else None)))
        else:
            raise InvalidArgumentError(
                f"Input '{name}' has the dynamic shape {info.partial_shape}, and a benchmark needs sizes. Give them "
                f'with -data_shape "{name}[...]", -shape "{name}[...]", files of -i, or -b where only that is open.'
            )
    return infos, Feed(infos, arrays)


def random_arrays(info: InputInfo, rows: int | None = None) -> list[np.ndarray]:
    """An array for each shape of an input, the same ones in each process; whole numbers stay below `rows`."""
    generator = np.random.default_rng(SEED)
    return [random_array(shape, info.dtype, generator, rows) for shape in info.shapes]
