"""HETERO: the parts of a model on several devices give what one device gives."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import pytest

import cpuruntime as ov
from cpuruntime.devices.reference import ReferencePlugin
from cpuruntime.errors import Error, InvalidArgumentError, UnsupportedError
from cpuruntime.graph import Graph
from cpuruntime.properties import Settings

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 3] x) => (float[N, 3] y, float[N, 3] b) <float[3] c = {1.0, 2.0, 3.0}> {
    a = Neg (x)  b = Add (a, c)  d = Abs (a)  e = Mul (b, d)  y = Sub (e, c)
}"""


class Picky(ReferencePlugin):
    """REFERENCE with kernels for some operators only; it refuses the others."""

    operators: frozenset[str] = frozenset()
    compiled: int = 0

    def query(self, graph: Graph, settings: Settings) -> set[str]:
        return {node.name for node in graph.nodes if node.op_type in self.operators}

    def prepare(self, graph: Graph, settings: Settings) -> Callable:
        for node in graph.nodes:
            if node.op_type not in self.operators:
                raise UnsupportedError(f"{node.where} has no kernel.")
        Picky.compiled += 1
        return super().prepare(graph, settings)


@pytest.fixture
def picky(register: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> type[Picky]:
    register("PICKY", f"{__name__}:Picky")
    monkeypatch.setattr(Picky, "compiled", 0)
    monkeypatch.setattr(Picky, "operators", frozenset({"Add", "Abs"}))
    return Picky


def results(device: str, model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    compiled = ov.Core().compile_model(model, device)
    found = compiled(x)
    return [found[index].copy() for index in range(len(compiled.outputs))]


def test_nodes_that_a_device_lacks_run_on_the_next(picky: type[Picky]) -> None:
    model, x = onnx.parser.parse_model(MODEL), np.float32([[1, -2, 3], [4, 5, -6]])
    compiled = ov.Core().compile_model(model, "HETERO:PICKY,REFERENCE", {"PERF_COUNT": True})
    request = compiled.create_infer_request()
    found = request.infer(x)
    for got, wanted in zip((found[0], found[1]), results("REFERENCE", model, x), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert picky.compiled == 1
    explained = str(compiled.explain())
    assert "part 0 on REFERENCE: nodes: 1; reads x; makes a" in explained
    assert "part 1 on PICKY: nodes: 2; reads a; makes b, d" in explained
    assert "part 2 on REFERENCE: nodes: 2; reads b, d; makes y" in explained
    rows = request.get_profiling_info()
    assert [(row.node_name, row.exec_type) for row in rows] == [
        ("part 0", "REFERENCE"), ("part 1", "PICKY"), ("part 2", "REFERENCE"),
    ]  # fmt: skip


def random_model(seed: int) -> onnx.ModelProto:
    chosen, values, lines = random.Random(seed), ["x"], []
    for index in range(14):
        kind = chosen.choice(["Neg", "Abs", "Add", "Sub", "Mul"])
        reads = [chosen.choice(values) for _ in range(1 if kind in ("Neg", "Abs") else 2)]
        values.append(f"v{index}")
        lines.append(f"v{index} = {kind} ({', '.join(reads)})")
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[2, 3] x) => (float[2, 3] v9, float[2, 3] v13) {'
        + "\n".join(lines) + "}"
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_random_splits_are_right(picky: type[Picky], monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    operators = random.Random(seed + 100).sample(["Neg", "Abs", "Add", "Sub", "Mul"], 2)
    monkeypatch.setattr(picky, "operators", frozenset(operators))
    model, x = random_model(seed), np.float32([[1, -2, 0.5], [0.25, 1.5, -1]])
    for got, wanted in zip(results("HETERO:PICKY,REFERENCE", model, x), results("REFERENCE", model, x), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert picky.compiled > 0


def test_requests_in_flight_keep_their_own_values(picky: type[Picky]) -> None:
    compiled = ov.Core().compile_model(onnx.parser.parse_model(MODEL), "HETERO:PICKY,REFERENCE", {"NUM_STREAMS": 3})
    requests = [compiled.create_infer_request() for _ in range(12)]
    for number, request in enumerate(requests):
        request.start_async(np.full((1 + number, 3), number, np.float32))
    for number, request in enumerate(requests):
        request.wait()
        wanted = np.float32([1, 2, 3]) - np.full((1 + number, 3), number, np.float32)
        np.testing.assert_array_equal(request.get_output_tensor(1).data, wanted)


def test_an_error_names_the_part(picky: type[Picky]) -> None:
    with pytest.raises(Error, match=r"Part 0 of HETERO:PICKY, on PICKY: Neg .* has no kernel"):
        ov.Core().compile_model(onnx.parser.parse_model(MODEL), "HETERO:PICKY")


def test_without_devices_it_says_what_to_write() -> None:
    with pytest.raises(InvalidArgumentError, match="HETERO:CPU,REFERENCE"):
        ov.Core().compile_model(onnx.parser.parse_model(MODEL), "HETERO")
