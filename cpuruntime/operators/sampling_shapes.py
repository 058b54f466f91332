"""Shapes of results of windows, pools and resampled images: rules as `shape_rules` takes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpuruntime.graph import Extent, Node
from cpuruntime.operators.rule_inputs import Known, Shape, check, numbers_of, shape_of


def _window(node: Node, shape: Shape, kernel: Sequence[int], channels: Extent) -> list[Shape] | None:
    """Convolutions and pools."""
    attributes, rank = node.attributes, len(kernel)
    strides = attributes.get("strides") or [1] * rank
    dilations = attributes.get("dilations") or [1] * rank
    pads = attributes.get("pads") or [0] * (2 * rank)
    auto, ceil = attributes.get("auto_pad", "NOTSET"), attributes.get("ceil_mode", 0)
    result: list[Extent] = [shape[0], channels]
    for index, extent in enumerate(shape[2:]):
        reach, stride = dilations[index] * (kernel[index] - 1) + 1, strides[index]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            result.append(-(-extent // stride))
            continue
        before, after = (0, 0) if auto == "VALID" else (pads[index], pads[index + rank])
        room = extent + before + after - reach
        check(node, room >= 0, f"a window of {reach} does not fit an axis of {extent}")
        count = (-(-room // stride) if ceil else room // stride) + 1
        if ceil and (count - 1) * stride >= extent + before:
            count = count - 1
        result.append(count)
    return [tuple(result)]


def convolution(node: Node, known: Known) -> list[Shape] | None:
    weights = shape_of(node, 1)
    kernel = node.attributes.get("kernel_shape") or [int(extent) for extent in weights[2:]]
    return _window(node, shape_of(node), kernel, weights[0])


def transposed_convolution(node: Node, known: Known) -> list[Shape] | None:
    shape, weights, attributes = shape_of(node), shape_of(node, 1), node.attributes
    rank = len(shape) - 2
    kernel = attributes.get("kernel_shape") or [int(extent) for extent in weights[2:]]
    strides, dilations = (attributes.get(name) or [1] * rank for name in ("strides", "dilations"))
    extra, pads = attributes.get("output_padding") or [0] * rank, attributes.get("pads") or [0] * (2 * rank)
    auto = attributes.get("auto_pad", "NOTSET")
    if attributes.get("output_shape") or auto.startswith("SAME"):
        return None
    pads = [0] * (2 * rank) if auto == "VALID" else pads
    spatial = [
        strides[i] * (extent - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - pads[i] - pads[i + rank]
        for i, extent in enumerate(shape[2:])
    ]
    return [(shape[0], weights[1] * attributes.get("group", 1), *spatial)]


def pool(node: Node, known: Known) -> list[Shape] | None:
    shape = shape_of(node)
    found = _window(node, shape, node.attributes["kernel_shape"], shape[1])
    return None if found is None else found * len(node.outputs)


def global_pool(node: Node, known: Known) -> list[Shape]:
    shape = shape_of(node)
    return [(*shape[:2], *[1] * (len(shape) - 2))]


def resize(node: Node, known: Known) -> list[Shape] | None:
    shape = shape_of(node)
    sizes = numbers_of(known, 3) if node.input(3) is not None else None
    policy = node.attributes.get("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch" or node.attributes.get("axes") is not None:
        return None
    if sizes:
        if None in sizes or len(sizes) != len(shape):
            return None
        # Channels that stay are those of the input, which may be a plain number.
        return [tuple(shape[1] if axis == 1 and shape[1] == size else size for axis, size in enumerate(sizes))]
    at = 1 if node.op_type == "Upsample" or node.version < 11 else 2
    scales = node.attributes.get("scales") or (numbers_of(known, at) if node.input(at) is not None else None)
    if not scales or node.input(3) is not None:
        return None
    result = []
    for extent, scale in zip(shape, scales, strict=True):
        if float(scale).is_integer():
            result.append(extent * int(scale))
        elif scale > 0 and (1 / scale).is_integer():
            result.append(extent // int(1 / scale))
        else:
            result.append(int(int(extent) * float(np.float32(scale))))
    return [tuple(result)]


def grid_sample(node: Node, known: Known) -> list[Shape]:
    return [(*shape_of(node)[:2], *shape_of(node, 1)[1:-1])]


def roi_align(node: Node, known: Known) -> list[Shape]:
    height, width = (node.attributes.get(f"output_{name}", 1) for name in ("height", "width"))
    return [(shape_of(node, 1)[0], shape_of(node)[1], height, width)]
