"""What NumPy computes while kernels are compiled has only operators that NumPy has."""

from __future__ import annotations

import pytest
from onnx import parser

import cpuruntime as ov
from cpuruntime.devices.cpu.pipeline import optimise_for_numpy
from cpuruntime.passes import can_evaluate

MODEL = """
<ir_version: 8, opset_import: ["" : 18]>
pool (OF[1, 2, 6, 7] x) => (OF[1, 2, 5, 6] y) { y = POOL <kernel_shape = [2, 2]> (x) }
"""


@pytest.mark.parametrize(("pool", "of"), [("LpPool", "float"), ("MaxPool", "double")])
def test_numpy_has_every_operator(pool: str, of: str) -> None:
    model = parser.parse_model(MODEL.replace("POOL", pool).replace("OF", of))
    graph = optimise_for_numpy(ov.Core().read_model(model).graph)
    assert graph.nodes
    assert all(map(can_evaluate, graph.nodes))
