"""ShuffleNet v2 for any batch: channels split, shuffled by shapes computed in the graph, and joined."""

from __future__ import annotations

import onnx

from models.builder import RELU, Builder

STAGES = ((4, 116), (8, 232), (4, 464))  # blocks, channels


def shufflenet_v2(seed: int = 0, *, size: int = 224) -> onnx.ModelProto:
    """torchvision's shufflenet_v2_x1_0 with an open batch size."""
    b = Builder("shufflenet_v2", seed)
    x = b("Relu", b.conv(b.input("input", "N", 3, size, size), 3, 24, 3, 2, gain=RELU))
    x = b("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    channels = 24
    for stage, (blocks, out) in enumerate(STAGES):
        for block in range(blocks):
            with b.scope(f"stage{stage + 2}.{block}"):
                x = _block(b, x, out // 2) if block else _shrinking_block(b, x, channels, out // 2)
                x = _shuffled(b, x, out)
        channels = out
    x = b("Relu", b.conv(x, channels, 1024, gain=RELU))
    b.output(b.gemm(b("ReduceMean", x, axes=[2, 3], keepdims=0), 1024, 1000), "output", "N", 1000)
    return b.model()


def _block(b: Builder, x: str, half: int) -> str:
    kept, y = b.split(x, 1, half, half)
    return b("Concat", kept, _branch(b, y, half, half, 1), axis=1)


def _shrinking_block(b: Builder, x: str, channels: int, half: int) -> str:
    y = b.conv(x, channels, channels, 3, 2, group=channels)
    y = b("Relu", b.conv(y, channels, half, gain=RELU))
    return b("Concat", y, _branch(b, x, channels, half, 2), axis=1)


def _branch(b: Builder, x: str, channels: int, half: int, stride: int) -> str:
    x = b("Relu", b.conv(x, channels, half, gain=RELU))
    x = b.conv(x, half, half, 3, stride, group=half)
    return b("Relu", b.conv(x, half, half, gain=RELU))


def _shuffled(b: Builder, x: str, channels: int) -> str:
    batch, rows, columns = (
        b("Unsqueeze", b("Gather", b("Shape", x), b.constant(axis)), b.constant([0])) for axis in (0, 2, 3)
    )
    apart = b("Concat", batch, b.constant([2]), b.constant([channels // 2]), rows, columns, axis=0)
    together = b("Concat", batch, b.constant([channels]), rows, columns, axis=0)
    return b("Reshape", b.transpose(b("Reshape", x, apart), 0, 2, 1, 3, 4), together)
