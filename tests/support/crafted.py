"""Crafted indices, coordinates, lengths and attributes, by family: what a hostile model or its data may hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from cases.case import Case, Tensor, constant
from onnx import parser
from support.guard_pages import Crafted

FAR = (8, -9, 10**6, -(2**31), 2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**61, 2**62, -(2**63), 2**63 - 1)
"""Indices beyond an axis of 8 elements, among them some that are inside after they are cut to 32 bits or scaled."""
INDICES = (7, -8, *FAR)
COORDINATES = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e8, -1e8, 5e-324, 1.0, -1.0, 1.0000001, 2.5)
X = Tensor((8, 8))
REDUCTIONS = ("none", "add", "mul", "max", "min")


def crafted(
    name: str, operator: str, inputs: tuple[Tensor | None, ...], feeds: Mapping[str, Mapping[str, Any]] | None = None,
    *, outputs: int = 1, opset: int = 18, compare: bool = True, **attributes: Any,
) -> Crafted:  # fmt: skip
    """One operator; `feeds` replace some of the inputs' numbers."""
    case = Case(name, operator, inputs, attributes, outputs, opset)
    usual = case.feeds()
    each = {what: usual | changed for what, changed in (feeds or {"": {}}).items()}
    return Crafted(f"{operator} {name}", case.model(), each, compare, 1e-4)


def fitting(dtype: Any) -> list[int]:
    return [number for number in INDICES if np.iinfo(dtype).min <= number <= np.iinfo(dtype).max]


def spoilt(shape: tuple[int, ...], number: int, dtype: Any) -> np.ndarray:
    """Zeros, and a crafted index in the last place."""
    array = np.zeros(shape, dtype)
    array.flat[-1] = number
    return array


def at_run_time_and_before(
    operator: str, make: Any, shape: tuple[int, ...], name: str = "", **attributes: Any
) -> Iterator[Crafted]:
    """`make(indices)` gives the inputs; the indices are input 1."""
    for dtype in (np.int32, np.int64):
        arrays = {str(number): spoilt(shape, number, dtype) for number in fitting(dtype)}
        kind = np.dtype(dtype).name
        feeds = {number: {"x1": array} for number, array in arrays.items()}
        yield crafted(f"{name} {kind}", operator, make(Tensor(shape, dtype, 0, 1)), feeds, **attributes)
    for number, array in arrays.items():
        yield crafted(f"{name} constant {number}", operator, make(constant(array, array.dtype)), **attributes)


def gather() -> Iterator[Crafted]:
    for axis in (0, 1):
        yield from at_run_time_and_before("Gather", lambda i: (X, i), (3,), f"axis {axis}", axis=axis)
        yield from at_run_time_and_before("GatherElements", lambda i: (X, i), (3, 5), f"axis {axis}", axis=axis)
    for shape, batch in (((3, 2), 0), ((3, 1), 0), ((8, 2, 1), 1)):
        yield from at_run_time_and_before(
            "GatherND", lambda i: (X, i), shape, f"{shape} {batch}", batch_dims=batch, compare=not batch
        )
    for dtype in (np.uint8, np.int16, np.float64):
        x = Tensor((8, 3), dtype, 0, 9)
        yield from at_run_time_and_before("Gather", lambda i, x=x: (x, i), (5,), np.dtype(dtype).name)


def scatter() -> Iterator[Crafted]:
    for reduction in REDUCTIONS:
        yield from at_run_time_and_before(
            "ScatterElements", lambda i: (X, i, Tensor((3, 5))), (3, 5), reduction, axis=1, reduction=reduction
        )
        yield from at_run_time_and_before(
            "ScatterND", lambda i: (X, i, Tensor((3, 8))), (3, 1), reduction, reduction=reduction
        )


def one_hot() -> Iterator[Crafted]:
    values = constant([0, 1])
    for axis in (0, -1):
        make = lambda i: (i, constant(8, np.int64), values)  # noqa: E731
        for dtype in (np.int32, np.int64):
            feeds = {str(number): {"x0": spoilt((3, 5), number, dtype)} for number in fitting(dtype)}
            yield crafted(f"{axis} {np.dtype(dtype)}", "OneHot", make(Tensor((3, 5), dtype, 0, 1)), feeds, axis=axis)
        feeds = {str(number): {"x0": np.full((3, 5), number, np.float32)} for number in COORDINATES[:7]}
        yield crafted(f"{axis} float", "OneHot", make(Tensor((3, 5))), feeds, axis=axis, compare=False)


def grid_sample() -> Iterator[Crafted]:
    for mode, padding, aligned in product(
        ("linear", "nearest", "cubic"), ("zeros", "border", "reflection"), (0, 1)
    ):  # fmt: skip
        feeds = {}
        for number in COORDINATES:
            grid = np.zeros((1, 3, 3, 2), np.float32)
            grid[0, 1, 1], grid[0, 2, 2, 0], grid[0, 0, 0, 1] = number, number, number
            feeds[str(number)] = {"x1": grid}
        inputs = Tensor((1, 2, 5, 7)), Tensor((1, 3, 3, 2))
        # ONNX Runtime reads anything where a coordinate is no number.
        name = f"{mode} {padding} {aligned}"
        attributes: dict[str, Any] = dict(mode=mode, padding_mode=padding, align_corners=aligned)
        yield crafted(name, "GridSample", inputs, feeds, opset=20, compare=False, **attributes)


def regions() -> Iterator[Crafted]:
    inputs = Tensor((2, 3, 6, 5)), Tensor((2, 4), low=0, high=5), Tensor((2,), np.int64, 0, 1)
    for mode, samples, halved in product(("avg", "max"), (0, 2), ("half_pixel", "output_half_pixel")):
        feeds: dict[str, dict[str, np.ndarray]] = {}
        for number in COORDINATES:
            region = np.array([[0, 0, 4, 4], [number, 0, 2, number]], np.float32)
            feeds |= {f"region {number}": {"x1": region}, f"region {number} first": {"x1": region[::-1].copy()}}
        for number in (2, *INDICES):
            feeds[f"image {number}"] = {"x2": np.array([1, number])}
        attributes = dict(mode=mode, sampling_ratio=samples, output_height=3, output_width=2)
        yield crafted(
            f"{mode} {samples} {halved}", "RoiAlign", inputs, feeds, compare=False,
            coordinate_transformation_mode=halved, **attributes,
        )  # fmt: skip


def ordering() -> Iterator[Crafted]:
    """TopK, ArgMax and ArgMin of NaN, infinities and equal numbers, and hostile `k`."""
    for length, largest in product((1, 2, 9, 33), (0, 1)):
        numbers: list[float] = [np.nan, np.inf, -np.inf, 0.0, 3e38]
        feeds = {str(n): {"x0": np.where(np.arange(length) % 2, n, 1).astype(np.float32)} for n in numbers}
        for k in {1, length}:
            yield crafted(f"{k} of {length} {largest}", "TopK", (Tensor((length,)), constant([k], np.int64)), feeds,
                          outputs=2, largest=largest, compare=False)  # fmt: skip
        for operator, keep, last in product(("ArgMax", "ArgMin"), (0, 1), (0, 1)):
            yield crafted(f"{length} {keep} {last}", operator, (Tensor((length,)),), feeds, compare=False,
                          axis=0, keepdims=keep, select_last_index=last)  # fmt: skip
    for k in (-1, 0, 9, *FAR):
        yield crafted(f"k {k}", "TopK", (X, constant([k], np.int64)), outputs=2)
    for axis in (2, -3, 2**31, -(2**63)):
        yield crafted(f"axis {axis}", "TopK", (X, constant([2], np.int64)), outputs=2, axis=axis)


def lengths() -> Iterator[Crafted]:
    """Lengths of sequences, axes and diagonals."""
    for operator, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for number in (0, 1, 5, 6, -1, 2**31 - 1, -(2**31)):
            for held in (True, False):
                lens = constant([5, number], np.int32) if held else Tensor((2,), np.int32, values=[5, number])
                weights, recurrent = (constant(np.ones((1, gates * 4, inner)) / 9) for inner in (3, 4))
                inputs = Tensor((5, 2, 3)), weights, recurrent, None, lens
                yield crafted(f"{number} {held}", operator, inputs, hidden_size=4, compare=False)
    for number, held in product((0, 1, 5, *FAR), (True, False)):
        lens = constant([2, number], np.int64) if held else Tensor((2,), np.int64, values=[2, number])
        yield crafted(f"{number} {held}", "ReverseSequence", (Tensor((5, 2)), lens), batch_axis=1, time_axis=0)
        k = constant(number, np.int64) if held else Tensor((), np.int64, values=number)
        yield crafted(f"{number} {held}", "Trilu", (X, k))
        yield crafted(f"{number} {held}", "CumSum", (X, k))
    for number in FAR:
        places = Tensor((1, 1, 2, 2), np.int64, values=[0, 3, number, 12])
        yield crafted(f"{number}", "MaxUnpool", (Tensor((1, 1, 2, 2)), places), kernel_shape=[2, 2], strides=[2, 2])


def movement() -> Iterator[Crafted]:
    """Slices, pads, repetitions and shapes."""
    for number, held in product(INDICES, (True, False)):

        def vector(*numbers: int, held: bool = held) -> Tensor:
            return constant(numbers, np.int64) if held else Tensor((len(numbers),), np.int64, values=numbers)

        name = f"{number} {held}"
        for start, end, step in ((number, 8, 1), (0, number, 1), (0, 8, number), (7, number, -1)):
            inputs = X, vector(start), vector(end), vector(1), vector(step)
            # Going backwards ONNX Runtime takes the largest numbers as "to the very end", against the specification.
            alike = step > 0 or end not in (2**31 - 1, 2**63 - 1)
            yield crafted(f"{start} {end} {step} {held}", "Slice", inputs, compare=alike)
        if not -100 < number < 100:
            yield crafted(name, "Squeeze", (Tensor((1, 8, 1)), vector(number)))
            yield crafted(name, "Unsqueeze", (X, vector(number)))
            yield crafted(name, "ReduceSum", (X, vector(number)))
            yield crafted(name, "Split", (X, vector(number, 8 - number if abs(number) < 2**62 else 8)), outputs=2)
        for mode in ("constant", "edge", "reflect", "wrap"):
            yield crafted(f"{mode} {name}", "Pad", (X, vector(0, number if number < 99 else -number, 0, 3)),
                          opset=19, mode=mode, compare=False)  # fmt: skip
        if number < 10**6 or number > 2**60:
            for operator in ("Expand", "Tile", "Reshape", "ConstantOfShape"):
                shape = vector(number) if operator == "ConstantOfShape" else vector(number, 8)
                yield crafted(name, operator, (shape,) if operator == "ConstantOfShape" else (X, shape))


def attributes() -> Iterator[Crafted]:
    """Windows, strides, groups, blocks and scales."""
    image, hostile = Tensor((1, 4, 8, 8)), (0, -1, 9, 2**31, 2**62, -(2**63))
    weights = constant(np.ones((4, 4, 3, 3)))
    for number in hostile:
        for key in ("strides", "dilations", "kernel_shape"):
            yield crafted(f"{key} {number}", "Conv", (image, weights), **{key: [number, 1]})
            yield crafted(f"{key} {number}", "ConvTranspose", (image, weights), **{key: [number, 1]})
            for operator in ("MaxPool", "AveragePool", "LpPool"):
                yield crafted(f"{key} {number}", operator, (image,), **({"kernel_shape": [2, 2]} | {key: [number, 1]}))
        for operator in ("Conv", "ConvTranspose"):
            yield crafted(f"pads {number}", operator, (image, weights), pads=[number, 0, 0, 0])
            yield crafted(f"group {number}", operator, (image, weights), group=number)
        for key in ("output_padding", "output_shape"):
            yield crafted(f"{key} {number}", "ConvTranspose", (image, weights), **{key: [number, 1]})
        for operator in ("MaxPool", "AveragePool"):
            yield crafted(f"pads {number}", operator, (image,), kernel_shape=[2, 2], pads=[0, number, 0, 0])
        for operator in ("DepthToSpace", "SpaceToDepth"):
            yield crafted(f"{number}", operator, (image,), blocksize=number)
        yield crafted(f"{number}", "LRN", (image,), size=number)
        yield crafted(f"{number}", "GroupNormalization", (image, constant(np.ones(4)), constant(np.ones(4))),
                      num_groups=number, opset=21)  # fmt: skip
        for operator in ("Softmax", "Concat", "Flatten", "LayerNormalization"):
            inputs = (X, constant(np.ones(8))) if operator == "LayerNormalization" else (X,)
            yield crafted(f"axis {number}", operator, inputs, axis=number)
        yield crafted(f"{number}", "Transpose", (X,), perm=[number, 0])
    for number, mode in product((0, -1, np.nan, np.inf, 1e30, 1e-30, 0.1, 3.7), ("nearest", "linear", "cubic")):
        scales = constant([1, 1, number, 1])
        yield crafted(f"{number} {mode}", "Resize", (image, None, scales), mode=mode, compare=False)
        if np.isfinite(number):
            sizes = constant([1, 4, int(number) if abs(number) < 9 else 2**62, 8], np.int64)
            yield crafted(f"sizes {number} {mode}", "Resize", (image, None, None, sizes), mode=mode, compare=False)


def division() -> Iterator[Crafted]:
    """Integers for which the processor's division is a signal."""
    for dtype, operator in product((np.int8, np.int16, np.int32, np.int64), ("Div", "Mod")):
        least, attributes = np.iinfo(dtype).min, {"fmod": 1} if operator == "Mod" else {}
        x = Tensor((5,), dtype, values=[least, 7, -7, least, 0])
        for y in (Tensor((5,), dtype, values=[-1, 0, 0, 0, -1]), constant(0, dtype), constant(-1, dtype)):
            yield crafted(f"{np.dtype(dtype)} {y.constant} {y.values}", operator, (x, y), compare=False, **attributes)


def windows() -> Iterator[Crafted]:
    """Images of few pixels and of channels that do not fill vectors, under windows of every kind."""
    for height, width, channels in ((1, 1, 1), (1, 7, 3), (5, 3, 17), (3, 33, 5), (9, 9, 16)):
        image = Tensor((1, channels, height, width))
        weights = {group: Tensor((channels, channels // group, 3, 3), constant=True) for group in (1, channels)}
        for stride, pad, dilation in ((1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 4, 1)):
            name = f"{height}x{width}x{channels} {stride} {pad} {dilation}"
            shared: dict[str, Any] = dict(strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2)
            for group in weights:
                yield crafted(f"{name} {group}", "Conv", (image, weights[group]), group=group, **shared)
            yield crafted(name, "ConvTranspose", (image, weights[1]), **shared)
            if pad < 3 and dilation == 1:
                yield crafted(name, "MaxPool", (image,), kernel_shape=[3, 3], **shared)
                yield crafted(name, "AveragePool", (image,), kernel_shape=[3, 3], opset=19, **shared)
        yield crafted(f"{height}x{width}x{channels}", "GlobalAveragePool", (image,))
        yield crafted(f"{height}x{width}x{channels}", "Conv", (image, Tensor((7, channels, 1, 1), constant=True)))


def images() -> Iterator[Crafted]:
    """Images of bytes, interleaved and planar, that are resized, reversed and scaled on their way in."""
    modes: list[dict[str, Any]] = [{"mode": "nearest"}, {"mode": "linear"}, {"mode": "linear", "antialias": 1}]
    modes.append({"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1})
    sizes = ((1, 1, 1, 1, 1), (1, 1, 2, 3, 7), (3, 2, 1, 2, 1), (7, 5, 3, 4, 11), (33, 40, 4, 9, 17))
    sizes += ((40, 7, 3, 80, 5), (9, 99, 3, 4, 7))
    for (height, width, channels, rows, columns), mode, planar in product(sizes, modes, (False, True)):
        shape = (2, channels, height, width) if planar else (2, height, width, channels)
        name = f"image {shape} to {rows} x {columns}, {mode}"
        text = f"""<ir_version: 9, opset_import: ["": 19]>
        g (uint8[{",".join(map(str, shape))}] x) => (float[n,c,h,w] y)
        <int64[4] sizes = {{2, {channels}, {rows}, {columns}}}, int64[1] one = {{1}}, int64[1] last = {{-1}},
         int64[1] least = {{-9223372036854775807}}, float[1] mean = {{100}}, float low = {{0}}, float high = {{255}}> {{
            t = Transpose<perm = {[0, 1, 2, 3] if planar else [0, 3, 1, 2]}>(x)
            f = Cast<to = 1>(t)
            r = Resize<{", ".join(f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in mode.items())}>
                (f, , , sizes)
            whole = Round(r)
            cut = Clip(whole, low, high)
            bytes = Cast<to = 2>(cut)
            reversed = Slice(bytes, last, least, one, last)
            floats = Cast<to = 1>(reversed)
            y = Sub(floats, mean)
        }}"""
        model = parser.parse_model(text)
        x = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
        yield Crafted(name, model, {"": {"x": x}}, mode.get("antialias") is None, 0.01)
