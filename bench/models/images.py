"""From images to images: segmentation (DeepLabV3), style transfer, super resolution."""

from __future__ import annotations

import onnx

from models.builder import BRANCH, RELU, Builder
from models.mobilenet import v2_features


def deeplabv3(seed: int = 0, *, size: int = 256) -> onnx.ModelProto:
    """DeepLabV3 on MobileNet v2 at a sixteenth of the size: dilated convolutions, bilinear Resize; 21 classes."""
    b = Builder("deeplabv3", seed)
    x, channels = v2_features(b, b.input("input", 1, 3, size, size), largest_stride=16)
    with b.scope("aspp"):
        parts = [b("Relu", b.conv(x, channels, 256, gain=RELU))]
        parts += [b("Relu", b.conv(x, channels, 256, 3, dilation=rate, gain=RELU)) for rate in (6, 12, 18)]
        pooled = b("Relu", b.conv(b("GlobalAveragePool", x), channels, 256, gain=RELU))
        spatial = b.slice(b("Shape", x), 0, 2, 4)
        sizes = b("Concat", b.slice(b("Shape", pooled), 0, 0, 2), spatial, axis=0)
        parts.append(_bilinear(b, pooled, sizes))
        x = b("Relu", b.conv(b("Concat", *parts, axis=1), 5 * 256, 256, gain=RELU))
    x = b("Relu", b.conv(x, 256, 256, 3, gain=RELU))
    x = _bilinear(b, b.conv(x, 256, 21), b.constant([1, 21, size, size]))
    b.output(x, "output", 1, 21, size, size)
    return b.model()


def _bilinear(b: Builder, x: str, sizes: str) -> str:
    return b(
        "Resize", x, "", "", sizes, coordinate_transformation_mode="half_pixel", cubic_coeff_a=-0.75, mode="linear"
    )


def style_transfer(seed: int = 0, *, size: int = 224) -> onnx.ModelProto:
    """torch's fast_neural_style: reflected borders, instance normalisation, nearest upsampling."""
    b = Builder("style_transfer", seed)
    x, channels = b.input("input", 1, 3, size, size), 3
    for out, kernel, stride in ((32, 9, 1), (64, 3, 2), (128, 3, 2)):
        x, channels = b("Relu", _normalised_conv(b, x, channels, out, kernel, stride)), out
    for _ in range(5):
        y = b("Relu", _normalised_conv(b, x, channels, channels, 3))
        x = b("Add", _normalised_conv(b, y, channels, channels, 3, mean=BRANCH), x)
    for out in (64, 32):
        x = b(
            "Resize",
            x,
            "",
            b.constant([1.0, 1.0, 2.0, 2.0]),
            coordinate_transformation_mode="asymmetric",
            mode="nearest",
            nearest_mode="floor",
        )
        x, channels = b("Relu", _normalised_conv(b, x, channels, out, 3)), out
    b.output(_reflected_conv(b, x, channels, 3, 9), "output", 1, 3, size, size)
    return b.model()


def _reflected_conv(b: Builder, x: str, channels: int, out: int, kernel: int, stride: int = 1) -> str:
    edge = kernel // 2
    x = b("Pad", x, b.constant([0, 0, edge, edge, 0, 0, edge, edge]), mode="reflect")
    return b.conv(x, channels, out, kernel, stride, pads=[0, 0, 0, 0])


def _normalised_conv(
    b: Builder, x: str, channels: int, out: int, kernel: int, stride: int = 1, mean: float = 1.0
) -> str:
    x = _reflected_conv(b, x, channels, out, kernel, stride)
    return b("InstanceNormalization", x, b.around_one("scale", out, mean=mean), b.weight("bias", out), epsilon=1e-5)


def super_resolution(seed: int = 0, *, size: int = 224, factor: int = 3) -> onnx.ModelProto:
    """torch's sub-pixel convolutional network: four convolutions and DepthToSpace."""
    b = Builder("super_resolution", seed)
    x, channels = b.input("input", 1, 1, size, size), 1
    for out, kernel in ((64, 5), (64, 3), (32, 3)):
        x, channels = b("Relu", b.conv(x, channels, out, kernel, gain=RELU)), out
    x = b("DepthToSpace", b.conv(x, channels, factor**2, 3), blocksize=factor, mode="CRD")
    b.output(x, "output", 1, 1, factor * size, factor * size)
    return b.model()
