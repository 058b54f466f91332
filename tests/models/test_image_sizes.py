"""Convolutional models of open image sizes: a few plans serve all sizes, share their weights, and are right at each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support.judge import Net, check, onnx_runtime

import cpuruntime as ov
from cpuruntime.devices.cpu.programs import Programs
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.weights import DryWeights
from cpuruntime.program.stages.stage import Stage
from cpuruntime.testing.probes import device_of


def extents(n: Net, x: str) -> list[str]:
    """Batch, height and width of `x`, in tensors of one element."""
    shape = n("Shape", x)
    return [n("Unsqueeze", n("Gather", shape, n.constant(axis, np.int64), axis=0), n.integers(0)) for axis in (0, 2, 3)]


def enlarged(n: Net, x: str, channels: int, like: str, mode: str) -> str:
    """`x` at the height and width of `like`."""
    batch, *spatial = extents(n, like)
    sizes = n("Concat", batch, n.integers(channels), *spatial, axis=0)
    return n("Resize", x, "", "", sizes, mode=mode)


def down(n: Net, x: str, channels: int, out: int) -> str:
    return n("Relu", n.conv(x, channels, out, pads=[1] * 4, strides=[2, 2]))


def same(n: Net, x: str, channels: int, out: int) -> str:
    return n("Relu", n.conv(x, channels, out, pads=[1] * 4))


def residual(n: Net, x: str) -> str:
    """A classifier down to a 32nd of the image, with shortcuts, depthwise and grouped convolutions and gates."""
    y = n("Relu", n.conv(x, 3, 16, 7, pads=[3] * 4, strides=[2, 2]))
    y = n("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 16
    for _ in range(3):
        y, channels = down(n, y, channels, 2 * channels), 2 * channels
        z = n("Clip", n.conv(y, channels, channels, group=channels, pads=[1] * 4), n.constant(0.0), n.constant(6.0))
        gate = n("Sigmoid", n.conv(n("GlobalAveragePool", z), channels, channels, 1))
        z = n.conv(n("Mul", z, gate), channels, channels, group=channels // 16, pads=[1] * 4)
        y = n("Relu", n("Add", same(n, z, channels, channels), y))
    return n("Gemm", n("Flatten", n("GlobalAveragePool", y)), n.weights(channels, 10))


def hourglass(n: Net, x: str) -> str:
    """Down and up again, with skips, as a U-Net."""
    first = same(n, x, 3, 16)
    second = same(n, down(n, first, 16, 32), 32, 32)
    third = same(n, down(n, second, 32, 64), 64, 64)
    y = n("Concat", enlarged(n, third, 64, second, "linear"), second, axis=1)
    y = n("Concat", enlarged(n, same(n, y, 96, 32), 32, first, "linear"), first, axis=1)
    return n("Sigmoid", n.conv(y, 48, 2, 1))


def pyramid(n: Net, x: str) -> str:
    """Features of several scales and a head for each, whose results are put together, as a detector."""
    levels = [down(n, down(n, x, 3, 16), 16, 32)]
    for _ in range(2):
        levels.append(same(n, down(n, levels[-1], 32, 32), 32, 32))
    for index in (1, 0):
        levels[index] = n("Add", levels[index], enlarged(n, levels[index + 1], 32, levels[index], "nearest"))
    heads = [n("Transpose", n.conv(same(n, y, 32, 32), 32, 18, 1), perm=[0, 2, 3, 1]) for y in levels]
    return n("Concat", *(n("Reshape", y, n.integers(0, -1, 6)) for y in heads), axis=1)


def dilated(n: Net, x: str) -> str:
    """Dilated convolutions beside each other and the mean of the image, as DeepLab."""
    y = down(n, down(n, x, 3, 16), 16, 32)
    parts = [n("Relu", n.conv(y, 32, 16, dilations=[d, d], pads=[d] * 4)) for d in (1, 2, 4)]
    mean = n("Relu", n.conv(n("GlobalAveragePool", y), 32, 16, 1))
    y = n("Concat", *parts, enlarged(n, mean, 16, y, "linear"), axis=1)
    return enlarged(n, n.conv(y, 64, 4, 1), 4, x, "linear")


def tokens(n: Net, x: str) -> str:
    """Pixels as the tokens of an encoder, and back, as SegFormer."""
    y = down(n, down(n, x, 3, 16), 16, 32)
    flat = n("Transpose", n("Reshape", y, n.integers(0, 32, -1)), perm=[0, 2, 1])
    z = n("LayerNormalization", flat, n.positive(32), n.weights(32))
    q, k, v = (n("Reshape", n("MatMul", z, n.weights(32, 32)), n.integers(0, -1, 2, 16)) for _ in range(3))
    scores = n("MatMul", n("Transpose", q, perm=[0, 2, 1, 3]), n("Transpose", k, perm=[0, 2, 3, 1]))
    mixed = n("MatMul", n("Softmax", scores, axis=-1), n("Transpose", v, perm=[0, 2, 1, 3]))
    z = n("Add", flat, n("Reshape", n("Transpose", mixed, perm=[0, 2, 1, 3]), n.integers(0, -1, 32)))
    wide = n("Add", n("MatMul", z, n.weights(32, 64)), n.weights(64))
    z = n("Add", z, n("MatMul", n("Mul", wide, n("Sigmoid", wide)), n.weights(64, 32)))
    sizes = n("Concat", n.integers(0), n.integers(32), *extents(n, y)[1:], axis=0)
    return n.conv(n("Reshape", n("Transpose", z, perm=[0, 2, 1]), sizes), 32, 4, 1)


MODELS = (residual, hourglass, pyramid, dilated, tokens)
SMALL = ((1, 32, 32), (2, 33, 47), (1, 39, 90), (1, 130, 150), (3, 96, 200), (1, 33, 201), (2, 34, 60))
MOST_PLANS = 4
"""One image or several, small ones or large ones."""


def sizes(count: int) -> Iterator[tuple[int, int, int]]:
    random = np.random.default_rng(1)
    for _ in range(count):
        height, width = np.exp(random.uniform(np.log(33), np.log(641), 2))
        yield int(random.integers(1, 5)), int(height), int(width)


def compiled_model(make: Callable[[Net, str], str], **settings: Any) -> tuple[Net, ov.CompiledModel]:
    n = Net(opset=18)
    n.output(make(n, n.input("batch", 3, "height", "width")))
    return n, ov.Core().compile_model(n.model(), "CPU", {"WARMUP_SHAPES": "NONE"} | settings)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Planner]:
    """The planners that have planned, without those that only name kernels, which are compiled then."""
    found: list[Planner] = []
    plan = Planner.plan

    def noted(self: Planner) -> list[Any]:
        if not isinstance(self.weights, DryWeights):
            found.append(self)
        return plan(self)

    monkeypatch.setattr(Planner, "plan", noted)
    return found


def plan_for(programs: Programs, batch: int, height: int, width: int) -> Stage:
    return programs.of([np.broadcast_to(np.float32(0), (batch, 3, height, width))])


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_four_plans_serve_all_images(make: Callable[[Net, str], str], planned: list[Planner]) -> None:
    programs = device_of(compiled_model(make)[1]).programs
    weights = []
    for image in sizes(300):
        plan_for(programs, *image)
        weights.append(programs.weights_nbytes())
    assert len(planned) <= MOST_PLANS
    assert max(weights) <= 3 * weights[0]


def test_images_find_plans(planned: list[Planner]) -> None:
    programs = device_of(compiled_model(residual, WARMUP_SHAPES=())[1]).programs
    assert len(planned) == MOST_PLANS
    for image in sizes(100):
        plan_for(programs, *image)
    assert len(planned) == MOST_PLANS


def test_memory_does_not_grow_with_the_images_seen() -> None:
    programs = device_of(compiled_model(hourglass, PROGRAM_CACHE_MB=1)[1]).programs
    held = []
    for number, image in enumerate(sizes(1200)):
        plan_for(programs, *image)
        if number in (599, 1199):
            held.append((sum(stage.nbytes for stage in programs.stages.cached()), programs.weights_nbytes()))
    assert held[0][0] > 2**19
    assert held[1][0] <= 2**20
    assert held[0][1] == held[1][1]


def test_images_that_are_refused_leave_plans_to_others(planned: list[Planner]) -> None:
    n = Net(opset=18)
    x = n.input("batch", 3, "height", "width")
    n.output(n("Concat", n("ConvTranspose", down(n, x, 3, 16), n.weights(16, 8, 2, 2), strides=[2, 2]), x, axis=1))
    compiled = ov.Core().compile_model(n.model(), "CPU", {"WARMUP_SHAPES": "NONE"})
    programs = device_of(compiled).programs
    for width in (41, 43, 45, 47, 49):
        with pytest.raises(ov.InvalidArgumentError):
            plan_for(programs, 2, 40, width)
    refused = len(planned)
    for width in (42, 44, 46, 48, 50):
        plan_for(programs, 2, 40, width)
    assert len(planned) == refused + 1


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_results(make: Callable[[Net, str], str]) -> None:
    n, compiled = compiled_model(make)
    random = np.random.default_rng(2)
    for batch, height, width in SMALL:
        feeds = {"x0": random.standard_normal((batch, 3, height, width)).astype(np.float32)}
        check([compiled(feeds)[0]], onnx_runtime(n.model(), feeds), 1e-4)
