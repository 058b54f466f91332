"""Models of dynamic shapes are planned once for many shapes, and compute what ONNX Runtime does at each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from support.judge import Net, check, onnx_runtime

import cpuruntime as ov
from cpuruntime.program.plan.planner import Planner


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Planner]:
    """The planners that have planned."""
    found: list[Planner] = []
    plan = Planner.plan
    monkeypatch.setattr(Planner, "plan", lambda self: found.append(self) or plan(self))
    return found


def extent(n: Net, x: str, axis: int) -> str:
    """One extent of `x`, in a tensor of one element."""
    return n("Unsqueeze", n("Gather", n("Shape", x), n.constant(axis, np.int64), axis=0), n.integers(0))


def heads(n: Net, x: str) -> str:
    """Attention as exporters write it: shapes are computed from those of `x` [N, S, 32]."""
    batch, length = (extent(n, x, axis) for axis in (0, 1))
    split = n("Concat", batch, length, n.integers(4), n.integers(8), axis=0)
    q, k, v = (n("Reshape", n("MatMul", x, n.weights(32, 32)), split) for _ in range(3))
    scores = n("MatMul", n("Transpose", q, perm=[0, 2, 1, 3]), n("Transpose", k, perm=[0, 2, 3, 1]))
    mixed = n("MatMul", n("Softmax", scores, axis=-1), n("Transpose", v, perm=[0, 2, 1, 3]))
    joined = n("Concat", batch, length, n.integers(-1), axis=0)
    return n("Reshape", n("Transpose", mixed, perm=[0, 2, 1, 3]), joined)


def positions(n: Net, x: str) -> str:
    """A range as long as the sequence picks rows of a table."""
    length = n("Gather", n("Shape", x), n.constant(1, np.int64), axis=0)
    picked = n("Range", n.constant(0, np.int64), length, n.constant(1, np.int64))
    return n("Add", x, n("Gather", n.weights(64, 32), picked, axis=0))


def table_part(n: Net, x: str) -> str:
    return n("Add", x, n("Slice", n.weights(64, 32), n.integers(0), extent(n, x, 1), n.integers(0)))


def filled(n: Net, x: str) -> str:
    one = n.constant(2.0)
    ones = n("ConstantOfShape", n("Concat", extent(n, x, 1), n.integers(32), axis=0))
    return n("Add", n("Mul", x, one), n("Expand", ones, n("Shape", x)))


def padded(n: Net, x: str) -> str:
    pads = n("Concat", n.integers(0), extent(n, x, 0), n.integers(0, 0, 1, 2), axis=0)
    return n("Pad", x, pads, n.constant(0.5))


def tiled(n: Net, x: str) -> str:
    return n("Tile", x, n("Concat", n.integers(1), extent(n, x, 0), n.integers(1), axis=0))


def halves(n: Net, x: str) -> str:
    half = n("Div", extent(n, x, 1), n.integers(2))
    first = n("Slice", x, n.integers(0), half, n.integers(1))
    return n("Concat", n("Slice", x, half, n.integers(2**63 - 1), n.integers(1)), n("Neg", first), axis=1)


def best(n: Net, x: str) -> str:
    values, indices = n.many(2, "TopK", x, extent(n, x, 0), axis=1)
    return n("Add", values, n("Cast", indices, to=1))


def normal(n: Net, x: str) -> str:
    product = n("Gelu", n("MatMul", x, n.weights(32, 64)))
    return n("LayerNormalization", n("Add", x, n("MatMul", product, n.weights(64, 32))), n.positive(32), n.weights(32))


def reduced(n: Net, x: str) -> str:
    count = n("Cast", n("ReduceProd", n("Shape", x), keepdims=0), to=1)
    return n("Div", n("ReduceSum", x, n.integers(1), keepdims=0), count)


SEQUENCES: tuple[Callable[[Net, str], str], ...] = (
    heads, positions, table_part, filled, padded, tiled, halves, best, normal, reduced,
)  # fmt: skip
SHAPES = ((2, 20), (3, 21), (5, 40), (2, 33), (4, 17))


def compare_all(model: Any, feeds: Sequence[dict[str, np.ndarray]]) -> ov.CompiledModel:
    compiled = ov.Core().compile_model(model, "CPU", {"WARMUP_SHAPES": "NONE"})
    for each in feeds:
        found = compiled(dict(each))
        assert not compiled.explain().fallbacks
        check([found[index] for index in range(len(compiled.outputs))], onnx_runtime(model, each), 1e-5)
    return compiled


@pytest.mark.parametrize("make", SEQUENCES, ids=lambda make: make.__name__)
def test_few_plans_serve_sequences(make: Callable[[Net, str], str], planned: list[Planner]) -> None:
    n = Net(opset=20)
    x = n.input("batch", "length", 32)
    n.output(make(n, x))
    random = np.random.default_rng(3)
    compare_all(n.model(), [{x: random.standard_normal((*shape, 32)).astype(np.float32)} for shape in SHAPES])
    assert len(planned) <= 2


def convolved(n: Net, x: str) -> str:
    y = n("Relu", n.conv(x, 3, 16, pads=[1] * 4))
    return n("Relu", n.conv(y, 16, 24, pads=[1] * 4, strides=[2, 2]))


def resized(n: Net, x: str) -> str:
    """To the size of a skip connection, as a U-Net does."""
    y = convolved(n, x)
    sizes = n("Concat", n.integers(), extent(n, y, 0), n.integers(24), extent(n, x, 2), extent(n, x, 3), axis=0)
    up = n("Resize", y, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")
    return n("Concat", up, x, axis=1)


def joined(n: Net, x: str) -> str:
    """Channels that end within a block."""
    y = n("Relu", n.conv(x, 3, 20, pads=[1] * 4))
    return n.conv(n("Concat", y, n.conv(y, 20, 12, pads=[1] * 4), axis=1), 32, 8)


def doubled(n: Net, x: str) -> str:
    return n("Resize", convolved(n, x), "", n.constant([1, 1, 2, 2]), mode="nearest", nearest_mode="floor")


def upsampled(n: Net, x: str) -> str:
    weights = n.weights(24, 8, 2, 2)
    return n("ConvTranspose", convolved(n, x), weights, strides=[2, 2])


def pooled(n: Net, x: str) -> str:
    y = n("MaxPool", convolved(n, x), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    return n("Flatten", n("GlobalAveragePool", n("AveragePool", y, kernel_shape=[2, 2], auto_pad="SAME_UPPER")))


IMAGES = (convolved, resized, joined, doubled, upsampled, pooled)
IMAGE_SHAPES = ((4, 3, 40, 56), (4, 3, 41, 57), (6, 3, 50, 60), (5, 3, 48, 49), (12, 3, 63, 55))


@pytest.mark.parametrize("make", IMAGES, ids=lambda make: make.__name__)
def test_few_plans_serve_images(make: Callable[[Net, str], str], planned: list[Planner]) -> None:
    n = Net(opset=18)
    x = n.input("batch", 3, "height", "width")
    n.output(make(n, x))
    random = np.random.default_rng(4)
    compare_all(n.model(), [{x: random.standard_normal(shape).astype(np.float32)} for shape in IMAGE_SHAPES])
    assert len(planned) <= 2


def test_extents_of_one_and_zero_are_planned_apart(planned: list[Planner]) -> None:
    n = Net(opset=20)
    x = n.input("batch", "length", 32)
    n.output(heads(n, x))
    random = np.random.default_rng(3)
    shapes = [(1, 20), (1, 30), (2, 1), (3, 1), (1, 1), (6, 20), (20, 20), (9, 9)]
    compare_all(n.model(), [{x: random.standard_normal((*shape, 32)).astype(np.float32)} for shape in shapes])
    assert len(planned) <= 6


def encoder() -> tuple[Any, str]:
    n = Net(opset=20)
    x = n.input("batch", "length", 32)
    n.output(heads(n, x))
    return n.model(), x


def infer(compiled: ov.CompiledModel, x: str, *shape: int) -> None:
    compiled({x: np.zeros(shape, np.float32)})


def test_the_first_inference_finds_a_plan(planned: list[Planner]) -> None:
    model, x = encoder()
    compiled = ov.Core().compile_model(model, "CPU")
    before = len(planned)
    assert before == 2
    for shape in ((1, 20), (1, 70), (2, 40), (16, 90)):
        infer(compiled, x, *shape, 32)
    assert len(planned) == before


def test_a_signal_that_windows_shorten_is_planned_when_compiling(planned: list[Planner]) -> None:
    n = Net(opset=20)
    x = n.input("batch", 1, "samples")
    value = n("Conv", x, n.weights(8, 1, 10), strides=[5])
    for _ in range(4):
        value = n("Conv", value, n.weights(8, 8, 3), strides=[2])
    n.output(value)
    model = n.model()
    compiled = ov.Core().compile_model(model, "CPU")
    before = len(planned)
    assert before
    for samples in (400, 1000, 5000):
        signal = np.random.default_rng(samples).standard_normal((1, 1, samples), np.float32)
        np.testing.assert_allclose(compiled({x: signal})[0], onnx_runtime(model, {x: signal})[0], rtol=1e-3, atol=1e-4)
    assert len(planned) == before


@pytest.mark.parametrize("given", [{"x0": (2, 50, 32)}, [{"x0": [2, 50, 32]}], "x0[2,50,32]", " x0 [2, 50, 32] ;"])
def test_shapes_to_warm_up_for(given: Any, planned: list[Planner]) -> None:
    model, x = encoder()
    compiled = ov.Core().compile_model(model, "CPU", {"WARMUP_SHAPES": given})
    assert compiled.get_property("WARMUP_SHAPES") == ((("x0", (2, 50, 32)),),)
    assert len(planned) == 1
    infer(compiled, x, 3, 60, 32)
    assert len(planned) == 1


def test_no_warming_up(planned: list[Planner]) -> None:
    model, x = encoder()
    compiled = ov.Core().compile_model(model, "CPU", {"WARMUP_SHAPES": "NONE"})
    assert not planned
    infer(compiled, x, 3, 60, 32)
    assert planned


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": (1, 2, 32)}, "no input 'x'.*x0"),
        ({"x0": (1, 2, 31)}, r"input 'x0' \[\?,\?,32\] cannot have the shape \[1, 2, 31\]"),
        ({"x0": (1, 2)}, "cannot have the shape"),
        ("x0[1,2", "WARMUP_SHAPES.*is not dicts of shapes"),
        ({"x0": (-1, 2, 32)}, "WARMUP_SHAPES.*is not dicts of shapes"),
    ],
)
def test_wrong_shapes_to_warm_up_for(given: Any, message: str) -> None:
    model, _ = encoder()
    with pytest.raises(ov.InvalidArgumentError, match=message):
        ov.Core().compile_model(model, "CPU", {"WARMUP_SHAPES": given})


def test_reports_show_the_latest_sizes() -> None:
    model, x = encoder()
    compiled = ov.Core().compile_model(model, "CPU")
    arenas = []
    for length in (20, 200):
        infer(compiled, x, 2, length, 32)
        arenas.append(next(text for text in compiled.explain().decisions if text.startswith("arena")))
        assert compiled.explain(measure=True).rows
    assert arenas[0] != arenas[1]


def test_requests_take_turns_at_shapes_new_and_seen() -> None:
    """Two requests share a stream, on memory of their own and on the caller's, which is given back in between."""
    model, x = encoder()
    compiled = ov.Core().compile_model(model, "CPU", {"NUM_STREAMS": 1})
    requests = [compiled.create_infer_request() for _ in range(2)]
    random = np.random.default_rng(7)
    feeds = [random.standard_normal((*shape, 32)).astype(np.float32) for shape in (*SHAPES, (6, 64), (2, 3))]
    wanted = [onnx_runtime(model, {x: array}) for array in feeds]
    for turn in range(60):
        number = int(random.integers(len(feeds)))
        found = requests[random.integers(2)].infer({x: feeds[number].copy()}, share_inputs=turn % 3 == 0)
        check([found[0]], wanted[number], 1e-5)
