"""Models with weights of few bits, written or asked for: what ONNX Runtime computes, and what `explain()` says."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper
from support.judge import Net, compare, onnx_runtime

import cpuruntime as ov
from cpuruntime.compiler import isa
from cpuruntime.errors import InvalidArgumentError, UnsupportedError

DOMAIN, HOW = "com.microsoft", ("rows", "tiles")


class Microsoft(Net):
    """Writes operators of ONNX Runtime."""

    def product(
        self, x: str, inner: int, columns: int, bits: int, block: int, *, zeros: bool, dtype: Any = np.float32,
        **more: Any,
    ) -> str:  # fmt: skip
        """MatMulNBits of random weights, with a bias."""
        blocks = -(-inner // block)
        numbers = self.random.integers(0, 2**bits, (columns, blocks * block))
        scales = self.random.uniform(0.5, 1.5, columns * blocks) / 2**bits
        inputs = [x, self.constant(packed(numbers, bits).reshape(columns, blocks, -1), np.uint8)]
        inputs.append(self.constant(scales, dtype))
        shifts = self.random.integers(0, 2**bits, (columns, blocks))
        inputs.append(self.constant(packed(shifts, bits).reshape(-1), np.uint8) if zeros else "")
        inputs += [more.pop("g_idx", ""), self.constant(self.random.standard_normal(columns), dtype)]
        sizes = dict(K=inner, N=columns, bits=bits, block_size=block)
        return self.many(1, "MatMulNBits", *inputs, domain=DOMAIN, **sizes | more)[0]

    def model(self) -> onnx.ModelProto:
        model = super().model()
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        model.ir_version = 10
        return model


def packed(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Rows of numbers as bytes, two of 4 bits in one, the first in the lower half."""
    if bits == 8:
        return numbers
    even = np.pad(numbers, ((0, 0), (0, numbers.shape[1] % 2)))
    return even[:, ::2] | even[:, 1::2] << 4


def kernels(compiled: ov.CompiledModel) -> set[str]:
    """The kernels of products, without their sizes."""
    return {row.kernel.rsplit("_", 1)[0] for row in compiled.explain().rows if "compressed" in row.kernel}


@pytest.mark.parametrize(("bits", "block", "zeros"), [(4, 32, False), (4, 16, True), (8, 128, True)])
def test_products_of_onnx_runtime(bits: int, block: int, zeros: bool) -> None:
    n = Microsoft(21)
    x, y = n.input(1, 200), n.input(40, 200)
    n.output(n.product(x, 200, 72, bits, block, zeros=zeros), n.product(y, 200, 72, bits, block, zeros=zeros))
    with compare(n.model(), tolerance=1e-4) as compiled:
        kind = f"u{bits}{'z' if zeros else ''}"
        found = {re.sub(r"\d+x\d+", "", name) for name in kernels(compiled)}
        assert found == {f"compressed_{how}_{kind}" for how in HOW}


def test_rows_not_known_beforehand() -> None:
    n = Microsoft(21)
    n.output(n.product(n.input("batch", "length", 96), 96, 72, 4, 32, zeros=True))
    model, random = n.model(), np.random.default_rng(0)
    with ov.Core().compile_model(model, "CPU") as compiled:
        for shape in ((1, 1), (2, 3), (1, 50), (1, 2), (3, 20)):
            x = random.standard_normal((*shape, 96)).astype(np.float32)
            (expected,) = onnx_runtime(model, {"x0": x})
            np.testing.assert_allclose(compiled({"x0": x})[0], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_rows_of_float16() -> None:
    n = Microsoft(21)
    n.output(n.product(n.input(2, 96, dtype=np.float16), 96, 72, 4, 32, zeros=True, dtype=np.float16))
    assert kernels(compare(n.model(), tolerance=2e-3)) == {"compressed_rows_u4z"}


def test_accurate_models_read_rows_as_float32() -> None:
    n = Microsoft(21)
    n.output(n.product(n.input(1, 96), 96, 72, 4, 32, zeros=True))
    for config in ({"EXECUTION_MODE_HINT": "ACCURACY"}, {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}):
        compiled = compare(n.model(), tolerance=2e-6, config=config)
        assert all(name.startswith("compressed_tiles") for name in kernels(compiled))


def test_what_has_no_definition_is_refused() -> None:
    n = Microsoft(21)
    index = n.constant(np.zeros(96), np.int32)
    n.output(n.product(n.input(1, 96), 96, 72, 4, 32, zeros=False, g_idx=index))
    with pytest.raises(UnsupportedError, match="g_idx, which orders rows by their group"):
        ov.Core().compile_model(n.model(), "CPU")
    n = Microsoft(21)
    n.output(n.product(n.input(1, 96), 96, 72, 4, 8, zeros=False))
    with pytest.raises(UnsupportedError, match="blocks of 8, 96 rows and 72 columns: the bits are 4 or 8, a block"):
        ov.Core().compile_model(n.model(), "CPU")


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4, np.uint8])
def test_rows_of_a_table(dtype: Any) -> None:
    for zeros in (False, True):
        n = Microsoft(21)
        low, high = (-8, 8) if dtype is ml_dtypes.int4 else (0, 256 if dtype is np.uint8 else 16)
        table, scales = n.random.integers(low, high, (20, 64)), n.random.uniform(0.1, 1, (20, 4))
        inputs = [n.constant(table, dtype), n.input(2, 3, dtype=np.int64), n.constant(scales)]
        inputs += [n.constant(n.random.integers(0, 8, (20, 4)), dtype)] if zeros else []
        bits = 8 if dtype is np.uint8 else 4
        sizes = dict(bits=bits, block_size=16, gather_axis=0, quantize_axis=1)
        n.output(n.many(1, "GatherBlockQuantized", *inputs, domain=DOMAIN, **sizes)[0])
        compare(n.model(), {"x0": n.random.integers(0, 20, (2, 3))}, tolerance=0)


def plain_model() -> onnx.ModelProto:
    n = Net(17)
    x = n("Relu", n("MatMul", n.input(1, 256), n.weights(256, 320)))
    n.output(n("Gemm", x, n.weights(256, 320), n.weights(256), transB=1))
    return n.model()


@pytest.mark.parametrize(
    ("config", "kernel", "most"),
    [
        ({"WEIGHTS_PRECISION": "i8"}, "compressed_rows_u8", 1e-2),
        ({"WEIGHTS_PRECISION": "u4", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 16}, "compressed_rows_u4z", 0.2),
        ({"INFERENCE_PRECISION_HINT": "bf16"}, "compressed_rows_bf16", 1e-2),
    ],
)
def test_weights_in_fewer_bits_where_that_is_asked(config: dict[str, Any], kernel: str, most: float) -> None:
    model, x = plain_model(), np.random.default_rng(1).standard_normal((1, 256)).astype(np.float32)
    (expected,) = onnx_runtime(model, {"x0": x})
    with ov.Core().compile_model(model, "CPU", config) as compiled:
        found = compiled({"x0": x})[0]
        assert kernels(compiled) == {kernel}
        assert 1e-4 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < most
        rows = [row.notes for row in compiled.explain().rows if kernel in row.kernel]
        assert all("relative error" in notes and "MiB for 0.31" in notes for notes in rows)
        asked = config.get("INFERENCE_PRECISION_HINT", "f32")
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type(asked)


def test_nothing_without_being_asked_and_nothing_where_accuracy_is() -> None:
    hint = {"INFERENCE_PRECISION_HINT": "f16", "EXECUTION_MODE_HINT": "ACCURACY"}
    for config in ({}, hint):
        with ov.Core().compile_model(plain_model(), "CPU", config) as compiled:
            assert not kernels(compiled)
            assert compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
            text = str(compiled.explain())
    assert "INFERENCE_PRECISION_HINT is f16 and has no effect: EXECUTION_MODE_HINT is ACCURACY" in text


def test_the_type_that_a_hint_comes_to_is_said() -> None:
    found = "f16" if isa.converts_halves() and not isa.bf16_products() else "bf16"
    with ov.Core().compile_model(plain_model(), "CPU", {"INFERENCE_PRECISION_HINT": "dynamic"}) as compiled:
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type(found)
        said = "operands of products are rounded to bf16" if isa.bf16_products() else f"lie in memory as {found}"
        assert said in str(compiled.explain())


def test_groups_without_kernels_are_refused() -> None:
    config = {"WEIGHTS_PRECISION": "u4", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 20}
    with pytest.raises(InvalidArgumentError, match="is 20; groups are multiples of 16, or 0"):
        ov.Core().compile_model(plain_model(), "CPU", config)
