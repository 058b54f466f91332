"""Convolutions: a copy with borders where there are such, and a product of the weights with what lies under windows.

A stride cuts the copy into phases, so that neighbouring positions of a window are neighbours in memory; a transposed
convolution is one of the input with zeros between its elements. The frames of a volume are images of their own, of
which a window reads several.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from cpuruntime.devices.gpu.kernels.direct import Direct
from cpuruntime.devices.gpu.kernels.movement import Pad, PadRows
from cpuruntime.devices.gpu.kernels.product import Tile
from cpuruntime.devices.gpu.lower.convolution_window import Axis, Pair, Window, window_of
from cpuruntime.devices.gpu.lower.emitter import Emitter, Place
from cpuruntime.devices.gpu.lower.product import activation_of, check_activation, emit_product, pack, tile_for
from cpuruntime.devices.gpu.lower.walks import Walk, copy, floats, whole
from cpuruntime.devices.gpu.lower.winograd import is_winograd, lower_winograd
from cpuruntime.graph import Node, Value

FEW = 8
"""Outputs of a group up to which a GPU computes them element by element."""


def check_convolution(node: Node) -> str | None:
    """Why a Conv or ConvTranspose has no kernel."""
    if len(node.require(0).static_shape) not in (3, 4, 5):
        return f"{node.op_type} has kernels for 1 to 3 spatial axes"
    if node.require(1).constant is None:
        return f"{node.op_type} has a kernel for constant weights"
    return check_activation(node)


@dataclass(frozen=True)
class Image:
    """What a product reads as its right side: planes of rows of `pitch` elements, cut into phases; a channel has one
    for each of its frames."""

    place: Place
    frames: int
    pitch: int
    height: int
    phases: Pair = (1, 1)

    @property
    def frame_size(self) -> int:
        """Elements of a frame."""
        return prod(self.phases) * self.height * self.pitch


def lower_convolution(emitter: Emitter, node: Node) -> None:
    """Convolution, bias, residual, activation."""
    window = window_of(node)
    if emitter.tuning.is_local and window.outputs // window.groups <= FEW and window.frames == Axis():
        _direct(emitter, node, window)
        return
    if emitter.choose("convolution", _ways(emitter, window)) == "winograd":
        lower_winograd(emitter, node, window)
        return
    tile = tile_for(
        emitter, "convolution", window.outputs // window.groups, prod(window.target), window.depth
    )  # fmt: skip
    image = _image(emitter, node.require(0), window, tile)
    _product(emitter, node, window, image, tile, np.asarray(node.require(1).data))


def _ways(emitter: Emitter, window: Window) -> tuple[str, ...]:
    return ("winograd", "product") if is_winograd(window) else ("product",)


def _image(emitter: Emitter, value: Value, window: Window, tile: Tile) -> Image:
    """The input as the product reads it: itself, every so many pixels of it, or a copy with a border and phases."""
    place, (height, width), axis = emitter.place(value), window.source, window.frames
    frames, is_outside = axis.source, emitter.is_outside(value)
    if axis.before or axis.after:
        frames = (axis.target - 1) * axis.stride + axis.reach + 1
        place = _frames(emitter, place, window, frames, -axis.before)
        is_outside = False
    if window.is_plain and (tile.depth or not is_outside):
        return Image(place, frames, width, height)
    planes = window.batch * window.inputs * frames
    if window.kernel == (1, 1) and not any((*window.before, *window.after)):
        y, x = window.strides
        shape = (planes, *window.target)
        target = Place(emitter.scratch(prod(shape)).buffer, emitter.precision, shape)
        copy(emitter, Walk(place, place.begin, (height * width, y * width, x)), whole(target), shape)
        return Image(target, frames, window.target[1], window.target[0])
    extents = [
        -(-((t - 1) * s + (k - 1) * d + 1) // s)
        for t, s, k, d in zip(window.target, window.strides, window.kernel, window.dilations)
    ]
    sizes = (*extents, *window.strides, height, width, *(-before for before in window.before), 1, 1)
    return Image(_padded(emitter, place, planes, sizes), frames, extents[1], extents[0], window.strides)


def _frames(emitter: Emitter, place: Place, window: Window, count: int, begin: int, step: int = 1) -> Place:
    """A copy with `count` frames, of which the first is frame `begin` of the input, with zeros between them."""
    size = prod(window.source)
    sizes = (count, size, 1, 1, window.frames.source, size, begin, 0, step, 1)
    return _padded(emitter, place, window.batch * window.inputs, sizes)


def _padded(emitter: Emitter, place: Place, planes: int, sizes: tuple[int, ...]) -> Place:
    """A copy by the kernel `Pad`, whose sizes these are."""
    height, width, y_phases, x_phases = sizes[:4]
    count = planes * y_phases * x_phases * height * width
    target = emitter.scratch(count)
    by_rows = not emitter.tuning.is_local and sizes[-2:] == (1, 1)
    kernel = (PadRows if by_rows else Pad)(place.element_type, target.element_type)
    items = count // width if by_rows else count
    emitter.each(kernel.source, [place.buffer, target.buffer, items, *sizes, 0.0], items)
    return target


def _table(window: Window, image: Image) -> np.ndarray:
    """Where, counted from the first position of a group, what each term of a sum reads lies."""
    (y_phases, x_phases), plane = image.phases, image.height * image.pitch
    channel = np.arange(window.inputs // window.groups)[:, None, None, None]
    frame = channel * image.frames + (np.arange(window.frames.kernel) * window.frames.dilation)[:, None, None]
    y = (np.arange(window.kernel[0]) * window.dilations[0])[:, None]
    x = np.arange(window.kernel[1]) * window.dilations[1]
    phase = (frame * y_phases + y % y_phases) * x_phases + x % x_phases
    return (phase * plane + y // y_phases * image.pitch + x // x_phases).reshape(-1).astype(np.int32)


def _product(emitter: Emitter, node: Node, window: Window, image: Image, tile: Tile, weights: np.ndarray) -> None:
    """The product of weights and windows."""
    outputs, groups, depth = window.outputs // window.groups, window.groups, window.depth
    height, width = window.target
    key = (node.require(1), node.op_type, tile.rows if not tile.depth else 0, emitter.precision)
    a = emitter.packed(key, (), emitter.precision, lambda: pack(weights.reshape(groups, outputs, -1), tile))
    table = None
    if window.kernel != (1, 1) or window.frames.kernel > 1:
        offsets = _table(window, image)
        table = emitter.constant(offsets, ("table", offsets.tobytes()))
    elements, frames = image.frames * image.frame_size, window.frames.target
    group_inputs, positions = window.inputs // groups, (height - 1) * image.pitch + width
    padded = -(-outputs // tile.rows) * tile.rows if not tile.depth else outputs
    sizes = {
        "M": outputs, "N": positions, "K": depth, "a_row": outputs, "b_step": elements, "b_column": 1,
        "c_row": frames * height * width, "inner": groups, "a_inner": padded * depth,
        "b_outer": window.inputs * elements, "b_inner": group_inputs * elements,
        "c_outer": window.outputs * frames * height * width, "c_inner": outputs * frames * height * width,
        "bias_inner": outputs, "pitch": image.pitch, "width": width, "frames": frames,
        "b_frame": window.frames.stride * image.frame_size, "c_frame": height * width,
    }  # fmt: skip
    bias, residual = node.input(2), node.input(3)
    activation, numbers = activation_of(node)
    emit_product(
        emitter, tile, a, image.place, emitter.new(node.outputs[0]), sizes, window.batch * groups * frames,
        bias=bias and floats(emitter, bias), bias_kind="row", residual=residual and emitter.place(residual),
        table=table, activation=activation, numbers=numbers, packed_a=True,
        is_mapped=image.pitch != width,
    )  # fmt: skip


def _direct(emitter: Emitter, node: Node, window: Window) -> None:
    """Element by element."""
    source, target = emitter.place(node.require(0)), emitter.new(node.outputs[0])
    weights = emitter.constant(node.require(1).data, (node.require(1),), emitter.precision)
    bias, residual = node.input(2), node.input(3)
    activation, numbers = activation_of(node)
    extra = [floats(emitter, bias)] if bias else []
    extra += [emitter.place(residual)] if residual else []
    kernel = Direct(
        source.element_type, weights.element_type, target.element_type, bias is not None,
        extra[-1].element_type if residual else "", activation, numbers,
    )  # fmt: skip
    sizes = [
        target.size, window.outputs, window.outputs // window.groups, window.inputs, window.inputs // window.groups,
        *window.target, *window.source, *window.kernel, *window.strides, *window.dilations, *window.before,
    ]  # fmt: skip
    buffers = [place.buffer for place in (source, weights, target, *extra)]
    emitter.each(kernel.source, [*buffers, *sizes], target.size)


def lower_transposed(emitter: Emitter, node: Node) -> None:
    """Convolution of the input with zeros between its elements, by the turned kernel."""
    of = window_of(node)
    axis = replace(of.frames, stride=1, before=0, after=0)
    window = replace(of, strides=(1, 1), before=(0, 0), after=(0, 0), frames=axis)
    tile = tile_for(emitter, "convolution", of.outputs // of.groups, prod(of.target), of.depth)
    reach = [(k - 1) * d for k, d in zip(of.kernel, of.dilations)]
    begin = [before - size for before, size in zip(of.before, reach)]
    extents = [t + size for t, size in zip(of.target, reach)]
    sizes = (*extents, 1, 1, *of.source, *begin, *of.strides)
    place, frames = emitter.place(node.require(0)), axis.target + axis.reach
    if of.frames != Axis():
        place = _frames(emitter, place, of, frames, of.frames.before - axis.reach, of.frames.stride)
    padded = _padded(emitter, place, of.batch * of.inputs * frames, sizes)
    weights = np.asarray(node.require(1).data)
    turned = weights.reshape(*weights.shape[:2], axis.kernel, *of.kernel)[:, :, ::-1, ::-1, ::-1]
    _product(emitter, node, window, Image(padded, frames, extents[1], extents[0]), tile, turned)
