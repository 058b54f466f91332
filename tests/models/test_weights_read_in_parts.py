"""Large weights that lie in a file as rows of a product's columns are read and packed in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cpuruntime as ov
from cpuruntime.graph import Deferred
from cpuruntime.program.lowerings import packed_matrices

INNER = 160


@pytest.mark.parametrize("columns", [257, 512, 840, 1000])
@pytest.mark.parametrize("part", [1, 64 * INNER * 4, 1 << 30])
def test_parts_make_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int, part: int) -> None:
    random = np.random.default_rng(columns)
    weights, bias = random.standard_normal((columns, INNER), np.float32), random.standard_normal(columns, np.float32)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [7, s]) for n, s in (("x", INNER), ("y", columns))]
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], constants)
    padding = "p" * (1 << 20)  # larger files are read in pieces
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], doc_string=padding), path)

    def refuse(*_: object, **__: object) -> np.ndarray:
        raise AssertionError("the weights are read whole")

    monkeypatch.setattr(Deferred, "__array__", refuse)
    monkeypatch.setattr(packed_matrices, "PART", part)
    x = random.standard_normal((7, INNER), np.float32)
    with ov.Core().compile_model(path, "CPU") as compiled:
        assert np.allclose(compiled(x)[0], x @ weights.T + bias, rtol=1e-4, atol=1e-4)
