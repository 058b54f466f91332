"""A detector like YOLOv8n: C2f and SPPF blocks, an upsampling neck, a head with distribution focal loss."""

from __future__ import annotations

import numpy as np
import onnx

from models.blocks import silu
from models.builder import BRANCH, SILU, Builder

CLASSES = 80
BINS = 16  # of the distribution over each side's distance
STRIDES = (8, 16, 32)


def yolov8n(seed: int = 0, *, size: int = 640) -> onnx.ModelProto:
    """Outputs boxes (x, y, width, height in pixels) and class probabilities, [1, 84, anchors]; 8400 anchors for 640."""
    b = Builder("yolov8n", seed)
    features = _neck(b, *_backbone(b, b.input("images", 1, 3, size, size)))
    with b.scope("model.22"):
        maps = [
            b.reshape(_branches(b, x, channels), 1, 4 * BINS + CLASSES, -1)
            for x, channels in zip(features, (64, 128, 256))
        ]
        boxes, classes = b.split(b("Concat", *maps, axis=2), 1, 4 * BINS, CLASSES)
        result = b("Concat", _decoded(b, boxes, size), b("Sigmoid", classes), axis=1)
    b.output(result, "output0", 1, 4 + CLASSES, sum((size // stride) ** 2 for stride in STRIDES))
    return b.model()


def _conv(b: Builder, x: str, channels: int, out: int, kernel: int = 1, stride: int = 1, gain: float = SILU) -> str:
    return silu(b, b.conv(x, channels, out, kernel, stride, gain=gain))


def _backbone(b: Builder, x: str) -> tuple[str, str, str]:
    kept = []
    channels = 16
    with b.scope("model.0"):
        x = _conv(b, x, 3, channels, 3, 2)
    for stage, bottlenecks in enumerate((1, 2, 2, 1)):
        with b.scope(f"model.{2 * stage + 1}"):
            x = _conv(b, x, channels, 2 * channels, 3, 2)
        channels *= 2
        with b.scope(f"model.{2 * stage + 2}"):
            x = _c2f(b, x, channels, channels, bottlenecks, shortcut=True)
        kept.append(x)
    with b.scope("model.9"):
        kept[-1] = _sppf(b, x, channels)
    return kept[1], kept[2], kept[3]


def _neck(b: Builder, fine: str, middle: str, coarse: str) -> tuple[str, str, str]:
    with b.scope("model.12"):
        middle = _c2f(b, b("Concat", _upsampled(b, coarse), middle, axis=1), 256 + 128, 128)
    with b.scope("model.15"):
        fine = _c2f(b, b("Concat", _upsampled(b, middle), fine, axis=1), 128 + 64, 64)
    with b.scope("model.18"):
        middle = _c2f(b, b("Concat", _conv(b, fine, 64, 64, 3, 2), middle, axis=1), 64 + 128, 128)
    with b.scope("model.21"):
        coarse = _c2f(b, b("Concat", _conv(b, middle, 128, 128, 3, 2), coarse, axis=1), 128 + 256, 256)
    return fine, middle, coarse


def _c2f(b: Builder, x: str, channels: int, out: int, bottlenecks: int = 1, shortcut: bool = False) -> str:
    half = out // 2
    parts = b.split(_conv(b, x, channels, out), 1, half, half)
    for index in range(bottlenecks):
        with b.scope(f"m.{index}"):
            y = _conv(b, _conv(b, parts[-1], half, half, 3), half, half, 3, gain=BRANCH if shortcut else SILU)
            parts.append(b("Add", parts[-1], y) if shortcut else y)
    return _conv(b, b("Concat", *parts, axis=1), half * len(parts), out)


def _sppf(b: Builder, x: str, channels: int) -> str:
    pools = [_conv(b, x, channels, channels // 2)]
    for _ in range(3):
        pools.append(b("MaxPool", pools[-1], ceil_mode=0, kernel_shape=[5, 5], pads=[2, 2, 2, 2], strides=[1, 1]))
    return _conv(b, b("Concat", *pools, axis=1), 2 * channels, channels, gain=1.0)


def _upsampled(b: Builder, x: str) -> str:
    return b(
        "Resize",
        x,
        "",
        b.constant([1.0, 1.0, 2.0, 2.0]),
        coordinate_transformation_mode="asymmetric",
        cubic_coeff_a=-0.75,
        mode="nearest",
        nearest_mode="floor",
    )


def _branches(b: Builder, x: str, channels: int) -> str:
    results = []
    for width, out in ((64, 4 * BINS), (CLASSES, CLASSES)):
        y = _conv(b, _conv(b, x, channels, width, 3), width, width, 3)
        results.append(b.conv(y, width, out))
    return b("Concat", *results, axis=1)


def _decoded(b: Builder, boxes: str, size: int) -> str:
    """Distances to the four sides, each the mean of a distribution over bins, to boxes around the anchors."""
    counts = [size // stride for stride in STRIDES]
    grids = [np.stack(np.meshgrid(np.arange(n), np.arange(n))).reshape(1, 2, -1) + np.float32(0.5) for n in counts]
    anchors = b.constant(np.concatenate(grids, axis=2))
    strides = b.constant(np.repeat(np.float32(STRIDES), np.square(counts))[None])
    total = sum(n * n for n in counts)
    with b.scope("dfl"):
        bins = b("Softmax", b.transpose(b.reshape(boxes, 1, 4, BINS, total), 0, 2, 1, 3), axis=1)
        weight = b.initializer("conv.weight", np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1))
        distances = b.reshape(b("Conv", bins, weight, kernel_shape=[1, 1]), 1, 4, total)
    low = b("Sub", anchors, b.slice(distances, 1, 0, 2))
    high = b("Add", anchors, b.slice(distances, 1, 2, 4))
    centre = b("Div", b("Add", low, high), b.constant(2.0))
    return b("Mul", b("Concat", centre, b("Sub", high, low), axis=1), strides)
