"""Where the evaluator and ONNX Runtime may differ, with the reason: the specification decides, or leaves it open."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from evaluation.variants.variant import Variant


def _not_finite(v: Variant, kind: Callable[[np.ndarray], np.ndarray]) -> bool:
    x = v.inputs[0]
    return x is not None and x.dtype.kind == "f" and bool(kind(x).any())


def _pools_same(v: Variant) -> bool:
    """SAME with windows that are dilated, or do not reach over their stride."""
    kernel = v.attributes["kernel_shape"]
    ones = [1] * len(kernel)
    narrow = any(k < s for k, s in zip(kernel, v.attributes.get("strides", ones)))
    dilated = max(v.attributes.get("dilations", ones)) > 1
    return v.attributes.get("auto_pad", "").startswith("SAME") and (narrow or dilated)


_SAME = (_pools_same, "SAME pads what windows need; ONNX Runtime ignores dilations, and crops for narrow windows")


def _narrow_window(v: Variant) -> bool:
    """SAME with a window that does not reach over its stride."""
    kernel = v.inputs[1].shape[2:]
    ones = [1] * len(kernel)
    spans = zip(kernel, *(v.attributes.get(name, ones) for name in ("dilations", "strides")))
    extra = v.attributes.get("output_padding", [0] * len(kernel))
    narrow = any((k - 1) * d + 1 + more < s for (k, d, s), more in zip(spans, extra))
    return v.attributes.get("auto_pad", "").startswith("SAME") and "output_shape" not in v.attributes and narrow


def _scaled_to_itself(v: Variant) -> bool:
    """An extent that stays as it is by a scale that is not one, or of a region."""
    cropped = v.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    axes = v.attributes.get("axes", range(4))
    before = [v.inputs[0].shape[axis] for axis in axes]
    scales = v.inputs[2] if len(v.inputs) > 2 and v.inputs[2] is not None and v.inputs[2].size else None
    scales = [size / n for size, n in zip(v.inputs[3], before)] if scales is None and len(v.inputs) > 3 else scales
    scales = [1.0] * len(before) if scales is None else scales
    spatial = [int(n * scale) == n and (cropped or scale != 1) for n, scale in zip(before, scales)]
    return any(spatial[-2:])


# operator: (which variants, why)
DISAGREEMENTS: dict[str, tuple[Callable[[Variant], object], str]] = {
    "AffineGrid": (
        lambda v: bool(v.attributes.get("align_corners")) and 1 in v.inputs[1][2:],
        "the only place of an axis lies in its middle, as in PyTorch; at its end in ONNX Runtime",
    ),
    "AveragePool": _SAME,
    "Clip": (
        lambda v: _not_finite(v, np.isinf),
        "an absent bound leaves infinity alone, as in the function that defines Clip; ONNX Runtime clips it",
    ),
    "Col2Im": (
        lambda v: max(v.attributes["dilations"]) > 1,
        "ONNX Runtime writes elements that no dilated window reaches",
    ),
    "ConvTranspose": (_narrow_window, "SAME gives extent * stride elements; ONNX Runtime gives fewer here"),
    "Dropout": (
        lambda v: v.opset == 10 and len(v.outputs) > 1,
        "the mask of opset 10 is not defined outside training; ONNX Runtime gives false, later opsets true",
    ),
    "LpPool": _SAME,
    "MaxPool": _SAME,
    "ReduceLogSumExp": (
        lambda v: v.inputs[0].dtype.kind in "iu" and len(v.inputs) == 1 and v.attributes.get("noop_with_empty_axes", 0),
        "the logarithm of the exponential of an integer is that integer; ONNX Runtime truncates what is just below",
    ),
    "ReduceMean": (
        lambda v: v.inputs[0] is not None and v.inputs[0].size == 0,
        "the mean of no elements is not defined: NaN here, 0 in ONNX Runtime",
    ),
    "Resize": (_scaled_to_itself, "ONNX Runtime copies an axis whose extent stays; the formula moves the elements"),
    "Sign": (lambda v: _not_finite(v, np.isnan), "the sign of NaN is not defined: NaN here, 0 in ONNX Runtime"),
}


def accepted(v: Variant) -> str:
    """Why ONNX Runtime does not judge this variant; empty when it does."""
    applies, reason = DISAGREEMENTS.get(v.op_type, (lambda v: False, ""))
    return reason if applies(v) else ""
