"""What a benchmark knows of a model's inputs: their layouts, the batch, and the shapes to infer in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

import cpuruntime as ov
from cpuruntime.cli.parser import parse_by_input
from cpuruntime.errors import InvalidArgumentError, printable

_MOST_CHANNELS = 4
"""A dimension of an image that is longer is no dimension of channels."""
_IMAGES = ("NCHW", "NHWC", "CHW", "HWC")

Shape = tuple[int, ...]


@dataclass
class InputInfo:
    """One input.

    Attributes:
        shapes: those to infer in, in turns: the static one, or those of -data_shape or of the files.
    """

    name: str
    dtype: np.dtype
    partial_shape: ov.PartialShape
    layout: ov.Layout
    shapes: list[Shape] = field(default_factory=list)

    @property
    def is_static(self) -> bool:
        return self.partial_shape.is_static

    def axis(self, name: str) -> int | None:
        """The dimension of this name; None where the layout names none."""
        if not self.layout.has_name(name):
            return None
        return self.layout.get_index_by_name(name) % max(1, len(self.partial_shape))


def is_image(layout: ov.Layout, shape: ov.PartialShape) -> bool:
    """Whether an input has height, width, and three channels."""
    return any(layout == one for one in _IMAGES) and str(shape[layout.get_index_by_name("C")]) == "3"


def guessed_layout(shape: ov.PartialShape) -> ov.Layout:
    """NCHW, NHWC, CHW or HWC for shapes of images, by where a short dimension is; else the empty layout."""
    if shape.rank.is_dynamic or len(shape) not in (3, 4):
        return ov.Layout()
    first, last = (shape[index] for index in (len(shape) - 3, len(shape) - 1))
    is_short = [dimension.is_static and int(str(dimension)) <= _MOST_CHANNELS for dimension in (first, last)]
    batch = "N" if len(shape) == 4 else ""
    if is_short == [True, False]:
        return ov.Layout(f"{batch}CHW")
    return ov.Layout(f"{batch}HWC") if is_short == [False, True] else ov.Layout()


def set_layouts(model: ov.Model, text: str) -> None:
    """Gives the inputs the layouts of -layout, others that have none a guessed one.

    Raises InvalidArgumentError for a text of another form, an unknown input, or a layout that contradicts the rank.
    """
    names = [port.any_name for port in model.inputs]
    for name, (layout,) in parse_by_input("-layout", text, names, '"input1[NCHW],input2[NC]" or "[NCHW]"', 1):
        inner = layout[1:-1].strip()
        for port in model.inputs if not name else [model.input(name)]:
            port.node.set_layout(layout if "," in inner else inner)
    for port in model.inputs:
        if port.node.layout.empty:
            port.node.set_layout(guessed_layout(port.partial_shape))


def parse_data_shapes(text: str, names: Sequence[str]) -> dict[str, list[Shape]]:
    """`in1[1,3,8,8][1,3,16,16],in2[1,4]` by input; shapes without a name go to the inputs in turns.

    Raises InvalidArgumentError for another form, an unknown input, a shape that is not static, or shapes without names
    that the inputs cannot share evenly.
    """
    example = '"input1[1,3,224,224][1,3,448,448],input2[1,4][1,8]" or "[1,3,224,224]"'
    found: dict[str, list[Shape]] = {}
    for name, values in parse_by_input("-data_shape", text, names, example):
        shapes = [_static(value) for value in values]
        if name:
            found.setdefault(name, []).extend(shapes)
            continue
        if len(shapes) > 1 and len(shapes) % len(names):
            raise InvalidArgumentError(
                f"-data_shape '{text}': {len(shapes)} shapes cannot be shared evenly by {len(names)} inputs; name them."
            )
        for index in range(max(len(shapes), len(names))):
            found.setdefault(names[index % len(names)], []).append(shapes[index % len(shapes)])
    return found


def _static(text: str) -> Shape:
    if not re.fullmatch(r"\[\s*(\d+\s*(,\s*\d+\s*)*)?\]", text):
        raise InvalidArgumentError(f"-data_shape {text} is no shape of sizes; write one as [1,3,224,224].")
    return tuple(int(size) for size in re.findall(r"\d+", text))


def described(ports: Sequence[ov.ConstOutput], data_shapes: dict[str, list[Shape]]) -> list[InputInfo]:
    """The inputs of a compiled model with the shapes that are known.

    Raises InvalidArgumentError when a data shape does not fit its input.
    """
    found = []
    for port in ports:
        shape, name = port.partial_shape, port.any_name
        layout = guessed_layout(shape) if port.node.layout.empty else port.node.layout
        info = InputInfo(name, port.element_type.to_dtype(), shape, layout)
        if info.is_static:
            info.shapes = [tuple(shape.to_shape())]
        else:
            for one in data_shapes.get(name, ()):
                check_fits(info, one, "-data_shape")
                info.shapes.append(one)
        found.append(info)
    return found


def check_fits(info: InputInfo, shape: Shape, source: str) -> None:
    """Raises InvalidArgumentError when an input cannot have this shape, which comes from `source`."""
    if not info.partial_shape.compatible(ov.PartialShape(list(shape))):
        raise InvalidArgumentError(
            f"{source}: shape {list(shape)} does not fit input '{printable(info.name)}', "
            f"whose shape is {info.partial_shape}."
        )


def batches_of(infos: Sequence[InputInfo]) -> list[int]:
    """The batch of each turn of the inputs' shapes.

    It is the dimension that layouts call N; without layouts, the first one that all inputs of two or more dimensions
    share; else 1. Raises InvalidArgumentError when layouts contradict each other.
    """
    found = []
    for turn in range(max([1, *(len(info.shapes) for info in infos)])):
        shapes = [(info, info.shapes[turn % len(info.shapes)]) for info in infos if info.shapes]
        named = {shape[axis] for info, shape in shapes if (axis := info.axis("N")) is not None}
        if len(named) > 1:
            raise InvalidArgumentError(f"The inputs' batches are {sorted(named)}; -layout says where the batch is.")
        firsts = {shape[0] for _, shape in shapes if len(shape) >= 2}
        found.append((named or firsts).pop() if named or len(firsts) == 1 else 1)
    return found
