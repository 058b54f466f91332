"""Random variants of operators on the CPU device, by kernels or by fallback: each computes what ONNX Runtime does."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation.judge_variants import judge
from evaluation.variants import variant
from support.judge import Net

import cpuruntime as ov
from cpuruntime import passes
from cpuruntime.errors import InternalError

OPERATORS = (
    "AveragePool", "CastLike", "ConvTranspose", "GRU", "GlobalLpPool", "LSTM", "LpPool", "MaxPool", "RNN",
    "ReduceLogSum", "STFT", "Shrink",
)  # fmt: skip


@pytest.mark.parametrize("op_type", OPERATORS)
def test_random_variants(op_type: str) -> None:
    variants = [variant(op_type, seed) for seed in range(100, 108)]
    verdicts = [judge(v, "CPU") for v in variants]
    assert [f"{v}: {verdict.wrong}" for v, verdict in zip(variants, verdicts) if verdict.wrong] == []
    assert any(not verdict.refused for verdict in verdicts)


@pytest.mark.parametrize("channels", [1, 19])
def test_maxima_of_nan_are_nan(channels: int) -> None:
    n = Net()
    x = n.input(1, channels, 9, 9)
    n.output(n("MaxPool", x, kernel_shape=[3, 3]), n("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    n.output(n("GlobalMaxPool", x))
    image = np.random.default_rng(1).standard_normal((1, channels, 9, 9), np.float32)
    image[0, 0, 4, 4] = np.nan
    compiled = ov.Core().compile_model(n.model(), "CPU")
    assert list(compiled.explain().fallbacks) == []
    found = compiled([image])
    sliding, strided, whole = (np.isnan(found[index]) for index in range(3))
    assert sliding[0, 0, 2:5, 2:5].all()
    assert sliding.sum() == 9
    assert (strided[0, 0, 2, 2], strided.sum()) == (True, 1)
    assert (whole[0, 0, 0, 0], whole.sum()) == (True, 1)


@pytest.mark.parametrize(("shape", "start"), [([5], -6), ([1], -4), ([3], -(2**40)), ([0], -1)])
def test_a_slice_backwards_starts_at_the_first_element_at_least(shape: list[int], start: int) -> None:
    """Before, the kernel read the memory in front of its input."""
    n = Net()
    x = n.input(*shape)
    n.output(n("Slice", x, n.integers(start), n.integers(-(2**31)), n.integers(0), n.integers(-2)))
    compiled = ov.Core().compile_model(n.model(), "CPU")
    array = np.arange(10, 10 + shape[0], dtype=np.float32)
    assert compiled([array])[0].tolist() == array[:1].tolist()


def test_a_fallback_of_another_shape_than_planned_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, a smaller result was broadcast without a word."""
    n = Net()
    n.output(n("Bernoulli", n.input(2, 3)))
    compiled = ov.Core().compile_model(n.model(), "CPU")
    monkeypatch.setattr(passes, "evaluate", lambda node, arrays: [np.zeros(1, np.float32)])
    with pytest.raises(InternalError, match=r"Bernoulli .* was planned as float32\[2, 3\] and is float32\[1\]"):
        compiled([np.zeros((2, 3), np.float32)])
