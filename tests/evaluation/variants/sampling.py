"""Resize, grids, regions, Fourier transforms and windows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from evaluation.variants.variant import Draw, Variant


def _resize(d: Draw) -> Variant:
    opset, mode = d.opset("Resize"), d.choose("nearest", "linear", "cubic")
    mode = "nearest" if opset < 11 and mode == "cubic" else mode
    shape = [d.number(1, 2), d.number(1, 2), d.number(1, 6), d.number(1, 6)]
    axes = [2, 3] if opset >= 18 and d.chance() else None
    scales = [d.choose(0.5, 0.6, 0.8, 1.0, 1.3, 1.5, 2.0, 3.0) for _ in range(2)]
    whole = scales if axes else [1.0, 1.0, *scales]
    x = d.array(shape)
    if opset < 11:
        return Variant("Resize", opset, [x, np.array(whole, np.float32)], {"mode": mode})
    modes = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"]
    modes += ["half_pixel_symmetric"] if opset >= 19 else []
    coordinates = d.choose(*modes)
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, **({"axes": axes} if axes else {})}
    if mode == "nearest":
        attributes |= d.some(nearest_mode=d.choose("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"))
    if mode == "cubic":
        attributes |= d.some(cubic_coeff_a=-0.5, exclude_outside=d.number(0, 1))
    if opset >= 18 and mode != "nearest" and coordinates != "tf_crop_and_resize":
        attributes |= d.some(antialias=d.number(0, 1))
    roi, none = None, np.zeros(0, np.float32)
    if coordinates == "tf_crop_and_resize":
        ends = [d.random.uniform(0.6, 1.1) for _ in range(2)]
        starts = [d.random.uniform(-0.1, 0.3) for _ in range(2)]
        roi = np.array([*starts, *ends] if axes else [0, 0, *starts, 1, 1, *ends], np.float32)
        attributes |= d.some(extrapolation_value=2.5)
    roi = none if roi is None and opset == 11 else roi
    if d.chance():
        sizes = [max(1, int(n * scale)) for n, scale in zip(shape[2:], scales)]
        if opset >= 18:
            attributes |= d.some(keep_aspect_ratio_policy=d.choose("stretch", "not_larger", "not_smaller"))
        given = np.array(sizes if axes else [*shape[:2], *sizes], np.int64)
        if not axes and attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            del attributes["keep_aspect_ratio_policy"]
        return Variant("Resize", opset, [x, roi, None if opset > 11 else none, given], attributes)
    return Variant("Resize", opset, [x, roi, np.array(whole, np.float32)], attributes)


def _upsample(d: Draw) -> Variant:
    opset = d.choose(7, 9)
    scales, mode = [1.0, 1.0, d.choose(1.0, 1.5, 2.0, 3.0), d.choose(1.0, 1.5, 2.0)], d.choose("nearest", "linear")
    x = d.array([d.number(1, 2), d.number(1, 2), d.number(1, 5), d.number(1, 5)])
    if opset == 7:
        return Variant("Upsample", 7, [x], {"mode": mode, "scales": scales})
    return Variant("Upsample", 9, [x, np.array(scales, np.float32)], {"mode": mode})


def _grid_sample(d: Draw) -> Variant:
    opset = d.opset("GridSample")
    rank = d.choose(2, 3) if opset >= 20 else 2
    names = ("nearest", "linear", "cubic") if opset >= 20 else ("nearest", "bilinear", "bicubic")
    mode = d.choose(*names[: 3 if rank == 2 else 2])
    batch, extents = d.number(1, 2), [d.number(1, 5) for _ in range(rank)]
    grid = d.array([batch, *(d.number(1, 4) for _ in range(rank)), rank], np.float32, 0.8)
    attributes = {"mode": mode, **d.some(padding_mode=d.choose("zeros", "border", "reflection"),
                                         align_corners=d.number(0, 1))}  # fmt: skip
    return Variant("GridSample", opset, [d.array([batch, d.number(1, 3), *extents]), grid], attributes)


def _affine_grid(d: Draw) -> Variant:
    rank = d.choose(2, 3)
    batch = d.number(1, 3)
    size = [batch, d.number(1, 3), *(d.number(1, 4) for _ in range(rank))]
    return Variant("AffineGrid", 20, [d.array([batch, rank, rank + 1]), np.array(size, np.int64)],
                   d.some(align_corners=d.number(0, 1)))  # fmt: skip


def _rois(d: Draw, count: int, extent: float) -> np.ndarray:
    starts = d.random.uniform(-1, extent * 0.7, (count, 2))
    return np.concatenate([starts, starts + d.random.uniform(0.2, extent, (count, 2))], 1).astype(np.float32)


def _roi_align(d: Draw) -> Variant:
    opset, batch, count = d.opset("RoiAlign"), d.number(1, 2), d.number(1, 3)
    x = d.array([batch, d.number(1, 3), d.number(2, 7), d.number(2, 7)])
    attributes = {"mode": d.choose("avg", "avg", "max"), "output_height": d.number(1, 3)}
    attributes |= {"output_width": d.number(1, 3), **d.some(sampling_ratio=d.number(0, 3))}
    attributes |= d.some(spatial_scale=d.choose(0.5, 1.0, 2.0))
    if opset >= 16:
        attributes |= d.some(coordinate_transformation_mode=d.choose("half_pixel", "output_half_pixel"))
    return Variant("RoiAlign", opset, [x, _rois(d, count, 6), d.random.integers(0, batch, count)], attributes)


def _max_roi_pool(d: Draw) -> Variant:
    batch, count = d.number(1, 2), d.number(1, 3)
    x = d.array([batch, d.number(1, 3), d.number(2, 7), d.number(2, 7)])
    rois = np.abs(_rois(d, count, 6))
    rois = np.concatenate([d.random.integers(0, batch, (count, 1)).astype(np.float32), rois], 1)
    return Variant("MaxRoiPool", d.choose(7), [x, rois],
                   {"pooled_shape": [d.number(1, 3), d.number(1, 3)], **d.some(spatial_scale=0.5)})  # fmt: skip


def _dft(d: Draw) -> Variant:
    opset, parts, inverse = d.opset("DFT"), d.number(1, 2), d.number(0, 1)
    shape = [d.number(1, 3), d.number(2, 6), d.number(2, 6), parts]
    onesided = 1 if parts == 1 and not inverse and d.chance() else 0
    axis = d.choose(1, 2, -2, -3)
    length = np.array(d.number(2, 8), np.int64) if d.chance() else None
    inputs = [d.array(shape, np.float32), length]
    attributes = {"inverse": inverse, "onesided": onesided}
    if opset < 20:
        return Variant("DFT", opset, inputs, {**attributes, "axis": axis % 4})
    return Variant("DFT", opset, [*inputs, np.array(axis, np.int64)], attributes)


def _stft(d: Draw) -> Variant:
    length = d.number(2, 8)
    signal = d.array([d.number(1, 2), d.number(length, 24), 1])
    window = d.positive([length]) if d.chance() else None
    return Variant("STFT", 17, [signal, np.array(d.number(1, 4), np.int64), window, np.array(length, np.int64)],
                   d.some(onesided=d.number(0, 1)))  # fmt: skip


def _window(op_type: str, d: Draw) -> Variant:
    return Variant(op_type, 17, [np.array(d.number(2, 20), d.choose(np.int64, np.int32))],
                   d.some(periodic=d.number(0, 1), output_datatype=d.choose(1, 11)))  # fmt: skip


def _mel(d: Draw) -> Variant:
    rate = d.choose(8000, 16000)
    numbers = [np.array(number, np.int64) for number in (d.number(2, 10), d.choose(64, 128, 256), rate)]
    edges = [np.array(number, np.float32) for number in (d.choose(0, 100), d.choose(rate / 4, rate / 2))]
    return Variant("MelWeightMatrix", 17, [*numbers, *edges])


GENERATORS: dict[str, Callable[[Draw], Variant]] = {
    **{name: partial(_window, name) for name in ("BlackmanWindow", "HammingWindow", "HannWindow")},
    "AffineGrid": _affine_grid,
    "DFT": _dft,
    "GridSample": _grid_sample,
    "MaxRoiPool": _max_roi_pool,
    "MelWeightMatrix": _mel,
    "Resize": _resize,
    "RoiAlign": _roi_align,
    "STFT": _stft,
    "Upsample": _upsample,
}
