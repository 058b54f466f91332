"""Generated elementwise kernels: every instruction, edge sizes, broadcasting, strides, repeated vectors, bool."""

from __future__ import annotations

import gc
import stat
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.interpreter import instruction
from support.kernels import LANES, VECTOR_BYTES, Guarded, blocked, blocked_holding, edge_sizes, guarded, holding, run

from cpuruntime.compiler import build
from cpuruntime.ops.functions.activations import ACTIVATIONS
from cpuruntime.ops.fused import (
    FLOAT,
    FUNCTIONS,
    FUSED,
    INPUTS,
    SIGNED,
    UNSIGNED,
    Expression,
    fused_kernel,
    input_types,
    number_count,
    result_type,
    text,
)
from cpuruntime.ops.tiles import loops
from cpuruntime.store import Folder

GATE: Expression = (("Mul", ("a", "p0")), ("Sigmoid", ("t0",)), ("Mul", ("t1", "b")), ("Add", ("t2", "t0")))


def expected(expression: Expression, arrays: list[np.ndarray], numbers: Sequence[float]) -> np.ndarray:
    known = dict(zip(INPUTS, arrays)) | {f"p{i}": np.float32(number) for i, number in enumerate(numbers)}
    for index, (op, operands) in enumerate(expression):
        known[f"t{index}"] = instruction(op, [known[name] for name in operands])
    return known[f"t{len(expression) - 1}"]


def execute(
    expression: Expression, target: Guarded, inputs: list[Guarded], numbers: Sequence[float], repeat: bool = False
) -> np.ndarray:
    shape = target.array.shape
    named = dict(zip(("target", *INPUTS), (target, *inputs)))
    walks = {n: loops.broadcast(o.array.shape, o.array.strides, shape) for n, o in named.items()}
    fields = loops.nest(shape, repeat, **walks) | {n: o.address for n, o in named.items()}
    fields |= {f"p{index}": number for index, number in enumerate(numbers)}
    still = "".join(name for name in INPUTS[: len(inputs)] if fields[f"{name}5"] <= 0)
    run(fused_kernel(expression, still), target, **dict.fromkeys(set(FUSED.names) - fields.keys(), 0) | fields)
    return target.array


def check(expression: Expression, arrays: list[np.ndarray], numbers: Sequence[float] = (), offset: int = 0) -> None:
    wanted = expected(expression, arrays, numbers)
    target = guarded(wanted.shape, wanted.dtype, offset=offset * wanted.itemsize)
    inputs = [holding(array, offset=offset * array.itemsize) for array in arrays]
    found = execute(expression, target, inputs, numbers)
    np.testing.assert_allclose(found, wanted, 2e-6, 2e-6)


def random(kind: str, *shape: int, seed: int = 0) -> np.ndarray:
    numbers = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    bytes_ = {UNSIGNED: np.uint8, SIGNED: np.int8}
    if kind in bytes_:
        return (100 * numbers).astype(np.int32).astype(bytes_[kind])
    return numbers if kind == FLOAT else numbers > 0


@pytest.mark.parametrize("op", FUNCTIONS)
def test_every_instruction(op: str) -> None:
    takes = FUNCTIONS[op].takes
    inputs = 1 if op in ACTIVATIONS else len(takes)
    arrays = [random(kind, 3, 2 * LANES + 5, seed=i) for i, kind in enumerate(takes[:inputs])]
    if op in ("Log", "Pow", "Sqrt"):
        arrays[0] = np.abs(arrays[0])
    if op in ("Equal", "GreaterOrEqual", "LessOrEqual"):
        arrays[1] = np.where(arrays[1] > 0, arrays[0], arrays[1])
    if op == "IsNaN":
        arrays[0] = np.where(arrays[0] > 0, np.float32(np.nan), arrays[0])
    numbers = [0.3 + 0.9 * i for i in range(len(takes) - inputs)]
    check(((op, (*INPUTS[:inputs], *(f"p{i}" for i in range(len(numbers))))),), arrays, numbers)


@pytest.mark.every_isa
@pytest.mark.parametrize("size", edge_sizes())
@pytest.mark.parametrize("offset", [0, 1])
def test_sizes(size: int, offset: int) -> None:
    check(GATE, [random(FLOAT, 3, size), random(FLOAT, 3, size, seed=1)], [0.7], offset)


@pytest.mark.every_isa
@pytest.mark.parametrize("size", [1, LANES - 1, LANES, 3 * LANES + 2])
def test_bool_inputs_and_results(size: int) -> None:
    x, y, flags = random(FLOAT, 5, size), random(FLOAT, 5, size, seed=1), random("b", 5, size, seed=2)
    check((("Less", ("a", "b")), ("Xor", ("t0", "c")), ("Not", ("t1",))), [x, y, flags])
    check((("Greater", ("a", "p0")), ("And", ("t0", "b")), ("Where", ("t1", "a", "p1"))), [x, flags], [0.1, -3.0])
    check((("Where", ("a", "b", "p0")), ("Exp", ("t0",))), [flags[:, :1], x], [-2.0])


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 3, 40), (3, 1)],
        [(4, 1, 1, 35), (1, 5, 1, 35)],
        [(1, 1), (7, 33)],
        [(3, 1), (1, 3, 1)],
        [(2, 1, 3, 1, 2, 17), (1, 3, 1, 2, 1, 17)],
        [(), (1,)],
        [(9, 70), ()],
    ],
)
def test_broadcasting(shapes: list[tuple[int, ...]]) -> None:
    first, second = (random(FLOAT, *shape, seed=i) for i, shape in enumerate(shapes))
    check(GATE, [np.asarray(first), np.asarray(second)], [1.3])


def test_long_rows_are_cut_for_threads_without_a_trace() -> None:
    size = 2 * loops.CHUNK + 77
    check(GATE, [random(FLOAT, size), random(FLOAT, size, seed=1)], [0.7])


def test_rows_with_gaps() -> None:
    x = holding(random(FLOAT, 4, 3, 37), strides=(1000, 200, 4))
    y = holding(random(FLOAT, 4, 3, 37, seed=1), strides=(8, 1600, 4))  # dimensions in another order
    target = guarded((4, 3, 37), strides=(720, 240, 4))
    found = execute(GATE, target, [x, y], [0.7])
    np.testing.assert_allclose(found, expected(GATE, [x.array, y.array], [0.7]), 2e-6, 2e-6)


@pytest.mark.every_isa
@pytest.mark.parametrize("halo", [(0, 0, 0, 0), (0, 2, 0, 1)])
def test_a_vector_of_channels_is_repeated_along_pixels(halo: tuple[int, int, int, int]) -> None:
    x = random(FLOAT, 2, 2 * LANES, 3, 5)
    source, target = blocked_holding(x, halo), blocked((2, 2 * LANES, 3, 5), halo)
    factors = holding(random(FLOAT, 1, 2, 1, 1, LANES, seed=1))
    number = holding(random(FLOAT, 1, 1, 1, 1, 1, seed=2))
    expression: Expression = (("Mul", ("a", "b")), ("Add", ("t0", "c")), ("Relu", ("t1",)))
    execute(expression, target, [source, factors, number], (), repeat=True)
    scale = factors.array.reshape(1, 2 * LANES, 1, 1)
    np.testing.assert_allclose(target.plain(), np.maximum(x * scale + number.array.reshape(()), 0), 1e-6, 1e-6)
    assert target.array.strides[-2] == VECTOR_BYTES


def test_what_is_known_of_an_expression() -> None:
    assert text(GATE) == "t0 = Mul(a, p0); Add(Mul(Sigmoid(t0), b), t0)"
    assert (input_types(GATE), result_type(GATE), number_count(GATE)) == ("ff", "f", 1)
    mask: Expression = (("Where", ("b", "a", "p0")), ("IsNaN", ("t0",)))
    assert (input_types(mask), result_type(mask)) == ("fb", "b")
    assert fused_kernel(GATE, "b").name == f"{text(GATE)} [one b for each row]"


def test_the_source_is_left_for_people_and_never_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "cache_folder", lambda: Folder(tmp_path))
    fused_kernel.cache_clear()
    kernel = fused_kernel(GATE, "")
    (source,) = tmp_path.glob("*.py")
    assert source == Path(kernel.function.__code__.co_filename)
    assert "t1 = Sigmoid(t0, zero, zero)" in source.read_text()
    assert stat.S_IMODE(source.stat().st_mode) == 0o600
    source.write_text("raise SystemExit('was executed')")
    fused_kernel.cache_clear()
    assert fused_kernel(GATE, "").name == kernel.name
    check(GATE, [random(FLOAT, 40), random(FLOAT, 40, seed=1)], [0.7])
    fused_kernel.cache_clear()


def test_kernels_work_without_a_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "cache_folder", lambda: Folder(None))
    fused_kernel.cache_clear()
    check(GATE, [random(FLOAT, 40), random(FLOAT, 40, seed=1)], [0.7])
    fused_kernel.cache_clear()


def test_the_source_of_a_kernel_that_nobody_uses_leaves_memory() -> None:
    """At commit 53c12cb text and bytecode of each chain of each model stayed for the life of the process."""
    fused_kernel.cache_clear()
    kernel = fused_kernel((("Tanh", ("a",)), ("Exp", ("t0",)), ("Cos", ("t1",))), "")
    code = weakref.ref(kernel.function.__code__)
    assert kernel.symbol.startswith("cpuruntime_")
    del kernel
    fused_kernel.cache_clear()
    gc.collect()
    assert code() is None
    assert fused_kernel.cache_info().maxsize is not None
