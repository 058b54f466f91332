"""Chains of elementwise operators from ONNX to results: each computes what ONNX Runtime does, in few steps."""

from __future__ import annotations

import numpy as np
import pytest
from support.judge import Net, compare

import cpuruntime as ov
from cpuruntime.passes.fuse import elementwise_chains


def steps(compiled: ov.CompiledModel, op_type: str = "Elementwise") -> list[str]:
    """The kernels of operators of one type, without conversions and halos."""
    rows = [row for row in compiled.explain().rows if row.op_type == op_type and row.layout in ("blocked", "plain")]
    return [row.kernel for row in rows]


@pytest.mark.parametrize("channels", [32, 19])
def test_a_chain_between_convolutions_stays_in_blocks(channels: int) -> None:
    n = Net()
    y = n.conv(n.input(2, 5, 9, 7), 5, channels, pads=[1] * 4)
    gate = n("Sigmoid", n.conv(n("GlobalAveragePool", y), channels, channels, 1))
    z = n("Add", n("Mul", n("Mul", n("Tanh", y), n("Abs", y)), gate), n.weights(channels, 1, 1))
    n.output(n.conv(n("Sub", z, y), channels, 8, pads=[1] * 4))
    compiled = compare(n.model(), config={"INFERENCE_NUM_THREADS": 2})
    (kernel,) = steps(compiled)
    assert kernel.startswith("Sub(Add(Mul(Mul(Tanh(a), Abs(a)), b), c), a)")
    assert [r.layout for r in compiled.explain().rows if r.kernel == kernel] == ["blocked"]


def test_operators_that_make_no_numbers_of_unused_lanes_leave_the_blocks() -> None:
    n = Net()
    y = n.conv(n.input(1, 4, 10, 12), 4, 19)
    z = n("Log", n("Add", n("Exp", y), n("Reciprocal", n("Add", n("Abs", y), n.constant(0.5)))))
    n.output(n.conv(z, 19, 33))
    compare(n.model())


@pytest.mark.parametrize("size", [6, 20])
@pytest.mark.parametrize("op_type", ["Sqrt", "Exp"])
def test_lanes_without_a_channel_may_hold_what_a_function_has_no_number_for(op_type: str, size: int) -> None:
    """About 50 and e in each channel, sqrt(-50) and exp(100) in the lanes, which no weight may meet."""
    n = Net()
    y = n("Abs", n("Add", n.conv(n.input(1, 3, size, size), 3, 5), n.constant(np.full((5, 1, 1), 100))))
    z = n("Sub", y, n.constant(50)) if op_type == "Sqrt" else n("Sub", n.constant(100), y)
    n.output(n.conv(n(op_type, z), 5, 8))
    compare(n.model(), tolerance=1e-4)  # the difference of numbers near 100 cancels digits


def test_channels_last_joins_a_residual_in_blocks() -> None:
    n = Net()
    y = n.conv(n.input(2, 4, 8, 6), 4, 32)
    z = n("MatMul", n("Transpose", y, perm=[0, 2, 3, 1]), n.weights(32, 32))
    z = n("Add", n("Mul", n("Transpose", z, perm=[0, 3, 1, 2]), n.positive(32, 1, 1)), y)
    n.output(n.conv(z, 32, 16))
    compiled = compare(n.model())
    assert steps(compiled) == ["Add(Mul(a, b), c)"]


def test_scattered_operands_are_copied() -> None:
    """Channels last wherever nothing is in blocks."""
    n = Net()
    x, y = n.input(2, 6, 7, 32), n.input(2, 32, 6, 7)
    n.output(n("Tanh", n("Add", n("Transpose", x, perm=[0, 3, 1, 2]), y)))
    compiled = compare(n.model())
    assert steps(compiled) == ["copy_transposed", "Tanh(Add(a, b))"]


def test_masks_of_bool_and_results_of_bool() -> None:
    n = Net()
    x, mask = n.input(2, 4, 33, 50), n.input(2, 1, 1, 50, dtype=np.bool_)
    near = n("Or", n("Not", mask), n("Greater", n("Abs", x), n.constant(1.5)))
    n.output(n("Softmax", n("Where", near, n.constant(-1e4), n("Mul", x, n.constant(0.3))), axis=-1), near)
    compare(n.model())


def test_rows_and_columns_of_numbers_and_slices() -> None:
    n = Net()
    x, row, column, number = n.input(5, 90), n.input(80), n.input(5, 1), n.input(1)
    piece = n("Slice", x, n.integers(7), n.integers(87), n.integers(1))
    y = n("Mul", n("Add", piece, row), n("Sub", column, number))
    n.output(n("Max", y, n("Neg", piece)), n("Min", n("Mul", y, y), row))
    compare(n.model())


def test_recurrence_spelled_out() -> None:
    """A GRU cell as exporters unroll it."""
    n = Net()
    x, h = n.input(6, 32), n.input(6, 96)
    for _ in range(3):
        both = n("Add", n("MatMul", x, n.weights(32, 288)), n("MatMul", h, n.weights(96, 288)))
        reset, update, new = n.many(3, "Split", both, n.integers(96, 96, 96), axis=1)
        update = n("Sigmoid", update)
        new = n("Tanh", n("Mul", n("Sigmoid", reset), new))
        h = n("Add", n("Mul", n("Sub", n.constant(1.0), update), new), n("Mul", update, h))
    n.output(h)
    compiled = compare(n.model())
    assert len(steps(compiled)) == 3
    assert len(set(steps(compiled))) == 1


def test_special_numbers_pass_through() -> None:
    n = Net()
    x, y = n.input(4, 300), n.input(4, 300)
    z = n("Relu", n("Mul", n("Sub", x, y), n.constant(0.5)))
    n.output(n("Add", z, n("Max", x, y)), n("Sqrt", n("Exp", n("Min", x, y))))
    model = n.model()
    random = np.random.default_rng(0)
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-42, 3e38], np.float32)
    compare(model, {name: random.choice(special, (4, 300)) for name in ("x0", "x1")})


def test_every_step_says_where_its_source_is() -> None:
    n = Net()
    n.output(n("Exp", n("Tanh", n.input(30, 70))))
    (row,) = compare(n.model()).explain().rows
    assert (row.kernel, row.op_type) == ("Exp(Tanh(a))", "Elementwise")
    assert row.notes.startswith("source fused_")
    assert row.nodes == ("n0_Tanh", "n1_Exp")


def test_a_kernel_of_eight_inputs() -> None:
    """At commit 53c12cb the seventh input had the name of the argument block: a TypingError of Numba."""
    n = Net()
    z = n.input(4, 300)
    for _ in range(7):
        z = n("Add", n("Tanh", z), n.weights(4, 300))
    n.output(z)
    (kernel,) = steps(compare(n.model()))
    assert ", h)" in kernel


def test_more_kernels_than_a_model_may_have_are_explained(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At commit 53c12cb a model of 4 kB compiled for 18.9 seconds, one of 1 MB for hours."""
    monkeypatch.setattr(elementwise_chains, "BUDGET", 8)
    n = Net()
    x = n.input(30, 70)
    n.output(n("Exp", n("Tanh", x)), n("Tanh", n("Exp", x)), n("Exp", n("Tanh", n.input(30, 70))))
    compiled = compare(n.model())
    assert steps(compiled) == ["Exp(Tanh(a))"] * 2
    assert elementwise_chains.LIMITED in compiled.explain().decisions
    assert sum(elementwise_chains.LIMITED in record.message for record in caplog.records) == 1
