"""The preprocessing that a benchmark puts into the model: element types of inputs and outputs, mean and scale."""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection, Sequence
from typing import Any

import cpuruntime as ov
from cpuruntime.cli.benchmark.ports import is_image
from cpuruntime.cli.parser import parse_by_input
from cpuruntime.errors import InvalidArgumentError, listed, nearest, printable

_SAME = ("f16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
PRECISIONS = {"bool": "boolean", **{name: name for name in _SAME}}


def preprocess(options: argparse.Namespace, model: ov.Model, arrays: Collection[str]) -> None:
    """Gives the model the types of -ip, -op and -iop, and the values of --mean_values and --scale_values.

    Images of real numbers are bytes unless an option says otherwise, or their input, one of `arrays`, gets arrays.
    Raises InvalidArgumentError for an unknown name or type, and for values that do not fit.
    """
    steps = ov.preprocess.PrePostProcessor(model)
    inputs, outputs = ([port.any_name for port in ports] for ports in (model.inputs, model.outputs))
    by_name = _by_name(options.input_output_precision or "", [*inputs, *outputs])
    for index, port in enumerate(model.inputs):
        is_bytes = is_image(port.node.layout, port.partial_shape) and port.element_type.is_real()
        default = "u8" if is_bytes and port.any_name not in arrays else None
        if kind := by_name.get(port.any_name, options.input_precision or default):
            steps.input(index).tensor().set_element_type(PRECISIONS[kind])
    for index, name in enumerate(outputs):
        if kind := by_name.get(name, options.output_precision):
            steps.output(index).tensor().set_element_type(PRECISIONS[kind])
    images = [port.any_name for port in model.inputs if is_image(port.node.layout, port.partial_shape)]
    for option, step in (("--mean_values", "mean"), ("--scale_values", "scale")):
        for name, values in _values(option, getattr(options, f"{step}_values"), inputs, images):
            getattr(steps.input(name).preprocess().convert_element_type(ov.Type.f32), step)(values)
    steps.build()


def _by_name(text: str, names: Sequence[str]) -> dict[str, str]:
    """The types of -iop, `input:f16, output:f16`, by name; names may hold colons."""
    found = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, separator, kind = (one.strip() for one in part.rpartition(":"))
        if not separator or kind not in PRECISIONS:
            raise InvalidArgumentError(f"-iop '{part}': write name:type with one of the types {', '.join(PRECISIONS)}.")
        if name not in names:
            raise InvalidArgumentError(
                f"-iop names '{printable(name)}', and the model's inputs and outputs are {listed(names)}."
                f"{nearest(name, names)}"
            )
        found[name] = kind
    return found


def _values(option: str, text: str, names: Sequence[str], images: Sequence[str]) -> list[tuple[str, Any]]:
    """The numbers of --mean_values or --scale_values by input; those without a name are for all images."""
    found = []
    for name, (inside,) in parse_by_input(option, text, names, '"image[123,116,103]" or "[123,116,103]"', 1):
        try:
            values = [float(one) for one in inside[1:-1].split(",")]
        except ValueError:
            raise InvalidArgumentError(f"{option} {inside}: it must be numbers, one for each channel.") from None
        if not all(map(math.isfinite, values)) or (option == "--scale_values" and 0 in values):
            raise InvalidArgumentError(f"{option} {inside}: the numbers must be finite, and scales not 0.")
        if not name and not images:
            raise InvalidArgumentError(f"{option} {inside}: no input is an image of three channels; name one.")
        found += [(target, values[0] if len(values) == 1 else values) for target in ([name] if name else images)]
    return found
