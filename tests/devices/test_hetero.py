"""HETERO: the parts of a model on several devices give what one device gives."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import pytest

import cpuruntime as ov
from cpuruntime.devices.reference import ReferencePlugin
from cpuruntime.errors import CancelledError, Error, InvalidArgumentError, UnsupportedError
from cpuruntime.graph import Graph
from cpuruntime.properties import Settings
from cpuruntime.testing import simulated
from cpuruntime.testing.simulated import SimulatedClock

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
    assert "part 0 on REFERENCE: nodes: 1; reads x; makes a for part 1" in explained
    assert (
        "part 1 on PICKY: nodes: 2; reads a of part 0; makes b for part 2 and the result, d for part 2" in explained
    )
    assert "part 2 on REFERENCE: nodes: 2; reads b of part 1, d of part 1; makes y for the result" in explained
    rows = request.get_profiling_info()
    assert [(row.node_name.partition(": ")[0], row.node_type) for row in rows] == [
        ("part 0", "Neg"), ("part 1", "Add"), ("part 1", "Abs"), ("part 2", "Mul"), ("part 2", "Sub"),
    ]  # fmt: skip
    assert compiled.get_property("HETERO_NUMBER_OF_SUBMODELS") == 3
    assert compiled.get_property("EXECUTION_DEVICES") == ["REFERENCE", "PICKY"]


def affinities(model: ov.Model, devices: list[str]) -> dict[str, str]:
    """The devices of its nodes, in turns."""
    return {node.name: devices[index % len(devices)] for index, node in enumerate(model.graph.nodes)}


def test_notes_and_a_property_name_the_devices_of_nodes() -> None:
    core, x = ov.Core(), np.float32([[1, -2, 3]])
    model = core.read_model(onnx.parser.parse_model(MODEL).SerializeToString())
    chosen = affinities(model, ["REFERENCE", "NULL"])
    for node in model.get_ordered_ops():
        if node.friendly_name in chosen:
            node.rt_info["affinity"] = chosen[node.friendly_name]
    by_notes = core.compile_model(model, "HETERO:NULL,REFERENCE")
    by_property = core.compile_model(model.clone(), "HETERO:NULL,REFERENCE", {"NODE_AFFINITY": chosen})
    assert by_notes.explain().decisions == by_property.explain().decisions
    assert by_notes.get_property("HETERO_NUMBER_OF_SUBMODELS") == 3
    assert (by_notes(x)[1] == 0).all()  # NULL made b of what REFERENCE had made
    one = core.compile_model(model, "HETERO:NULL,REFERENCE", {"NODE_AFFINITY": dict.fromkeys(chosen, "REFERENCE")})
    assert one.get_property("HETERO_NUMBER_OF_SUBMODELS") == 1  # the property is stronger than notes
    np.testing.assert_array_equal(one(x)[1], [1, 2, 3] - x)


@pytest.mark.parametrize(
    ("affinity", "message"),
    [
        ({"Neg_0": "NULL"}, "names device 'NULL' for node 'Neg_0'; it must be one of REFERENCE, CPU"),
        ({"Neg_1": "CPU"}, "names node 'Neg_1', which model 'net' does not have. Did you mean 'Neg_0'"),
    ],
)
def test_wrong_affinities(affinity: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        ov.Core().compile_model(
            onnx.parser.parse_model(MODEL), "HETERO:REFERENCE,CPU", {"NODE_AFFINITY": json.dumps(affinity)}
        )


def test_parts_of_several_requests_run_at_the_same_time(
    register: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    register("SIMULATED", "cpuruntime.testing.simulated:SimulatedPlugin")
    monkeypatch.setattr(simulated, "clock", clock := SimulatedClock())
    core = ov.Core()
    model = core.read_model(onnx.parser.parse_model(MODEL).SerializeToString())
    names = [node.name for node in model.graph.nodes]
    affinity = {name: f"SIMULATED.{int(index > 1)}" for index, name in enumerate(names)}
    by_device = {"SIMULATED": {"SIMULATED_INFERENCE_MS": 1000}}
    config = {"NODE_AFFINITY": affinity, "NUM_STREAMS": 1, "DEVICE_PROPERTIES": by_device}
    with core.compile_model(model, "HETERO:SIMULATED.0,SIMULATED.1", config) as compiled:
        assert compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") == 2
        requests = [compiled.create_infer_request() for _ in range(3)]
        for number, request in enumerate(requests):
            request.start_async(np.full((1, 3), number, np.float32))
        for sleepers in (1, 2, 2, 1):  # the second part of each beside the first part of the next
            clock.wait_for(sleepers)
            assert sum(not request.wait_for(0) for request in requests) >= sleepers
            clock.advance(1000)
        for number, request in enumerate(requests):
            request.wait()
            np.testing.assert_array_equal(request.get_output_tensor(1).data, [[1 - number, 2 - number, 3 - number]])


SEQUENCES = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N] x) => (float[M] y, seq(float[K]) t) {
    a = Neg (x)  s = SequenceConstruct (x, a)  t = SequenceInsert (s, a)  y = ConcatFromSequence <axis = 0> (t)
}"""


def test_sequences_pass_between_parts() -> None:
    core, x = ov.Core(), np.float32([1, 2])
    model = core.read_model(onnx.parser.parse_model(SEQUENCES).SerializeToString())
    chosen = affinities(model, ["CPU", "MULTI:CPU"])
    with core.compile_model(model, "HETERO:CPU,MULTI:CPU", {"NODE_AFFINITY": chosen}) as compiled:
        assert compiled.get_property("HETERO_NUMBER_OF_SUBMODELS") > 2
        for size in (2, 5):
            x = np.arange(size, dtype=np.float32)
            found = compiled(x)
            np.testing.assert_array_equal(found[0], [*x, *-x, *-x])
            assert [one.tolist() for one in found[1]] == [x.tolist(), (-x).tolist(), (-x).tolist()]


def test_outputs_that_no_part_computes() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[2] x, float[N] z) => (float[2] x, float[2] y, float[N] z, float[2] c) <float[2] c = {1.0, 2.0}> {
        y = Neg (x)
    }"""
    with ov.Core().compile_model(onnx.parser.parse_model(text), "HETERO:REFERENCE,CPU") as compiled:
        for size in (3, 4):
            x, z = np.float32([size, 2]), np.arange(size, dtype=np.float32)
            found = compiled([x, z])
            for got, wanted in zip((found[0], found[1], found[2], found[3]), (x, -x, z, np.float32([1, 2]))):
                np.testing.assert_array_equal(got, wanted)


def test_memory_of_an_output_that_another_part_reads(picky: type[Picky]) -> None:
    compiled = ov.Core().compile_model(
        onnx.parser.parse_model(MODEL.replace("[N,", "[2,")), "HETERO:PICKY,REFERENCE"
    )
    request, b = compiled.create_infer_request(), np.zeros((2, 3), np.float32)
    x = np.float32([[1, -2, 3], [4, 5, -6]])
    request.set_output_tensor(1, ov.Tensor(b, shared_memory=True))
    for _ in range(2):
        request.infer(x)
        np.testing.assert_array_equal(b, [1, 2, 3] - x)
        np.testing.assert_array_equal(request.get_output_tensor(0).data, ([1, 2, 3] - x) * abs(x) - [1, 2, 3])
        x = x + 1


def test_many_parts_need_no_deep_stack() -> None:
    nodes = "\n".join(f"v{index + 1} = Neg (v{index})" for index in range(400))
    text = f'<ir_version: 8, opset_import: ["" : 17]> net (float[2] v0) => (float[2] v400) {{ {nodes} }}'
    core = ov.Core()
    model = core.read_model(onnx.parser.parse_model(text).SerializeToString())
    with core.compile_model(
        model, "HETERO:NULL,REFERENCE", {"NODE_AFFINITY": affinities(model, ["REFERENCE", "NULL"]), "NUM_STREAMS": 1}
    ) as compiled:
        request = compiled.create_infer_request()
        request.start_async(np.float32([1, 2]))
        request.wait()
        assert compiled.get_property("HETERO_NUMBER_OF_SUBMODELS") == 400
        assert (request.results[0] == 0).all()


def test_an_error_in_a_part_ends_the_inference_and_cancel_the_part_that_runs(
    register: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    register("SIMULATED", "cpuruntime.testing.simulated:SimulatedPlugin")
    monkeypatch.setattr(simulated, "clock", clock := SimulatedClock())
    core = ov.Core()
    model = core.read_model(onnx.parser.parse_model(MODEL).SerializeToString())
    affinity = {node.name: f"SIMULATED.{int(index > 1)}" for index, node in enumerate(model.graph.nodes)}
    by_device = {"SIMULATED.0": {"SIMULATED_FAILS_AT": 2}, "SIMULATED.1": {"SIMULATED_INFERENCE_MS": 1000}}
    config = {"NODE_AFFINITY": affinity, "NUM_STREAMS": 1, "DEVICE_PROPERTIES": by_device}
    compiled = core.compile_model(model, "HETERO:SIMULATED.0,SIMULATED.1", config)
    first, second = compiled.create_infer_request(), compiled.create_infer_request()
    first.start_async(np.ones((1, 3), np.float32))
    clock.wait_for(1)  # in its second part
    second.start_async(np.ones((1, 3), np.float32))
    with pytest.raises(Error, match="inference 2"):
        second.wait()
    first.cancel()
    clock.advance(1000)
    with pytest.raises(CancelledError):
        first.wait()
    first.start_async(np.ones((1, 3), np.float32))
    clock.wait_for(1)
    with compiled:
        pass  # closed; what is in flight goes on
    clock.advance(1000)
    first.wait()
    with pytest.raises(Error, match="closed"):
        first.start_async(np.ones((1, 3), np.float32))


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


@pytest.mark.parametrize("seed", range(6))
def test_random_affinities_are_right(seed: int) -> None:
    core, chosen = ov.Core(), random.Random(seed)
    model, x = random_model(seed), np.float32([[1, -2, 0.5], [0.25, 1.5, -1]])
    read = core.read_model(model.SerializeToString())
    affinity = {node.name: chosen.choice(["REFERENCE", "CPU"]) for node in read.graph.nodes}
    with core.compile_model(read, "HETERO:CPU,REFERENCE", {"NODE_AFFINITY": affinity}) as compiled:
        request = compiled.create_infer_request()
        request.start_async(x)
        request.wait()
        for index, wanted in enumerate(results("REFERENCE", model, x)):
            np.testing.assert_allclose(request.results[index], wanted, rtol=1e-6)


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
