"""Devices made by `devices/serial.py` from one method: order, deadlines, cancelling, faults of that method."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from support.fake_device import Gate
from support.onnx_models import one_input, two_inputs

import cpuruntime as ov
from cpuruntime import CancelledError, DeadlineExceededError, InternalError, ProfilingInfo, passes
from cpuruntime.devices.serial import Compute, SerialPlugin
from cpuruntime.graph import Graph
from cpuruntime.properties import Settings
from cpuruntime.testing.probes import device_of

X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)


class Scripted(SerialPlugin):
    """Computes what `work` says, set by the test."""

    work: Any = None
    kernel = "script"
    pipeline = passes.SIMPLIFY
    graphs: list[Graph] = []  # noqa: RUF012

    def prepare(self, graph: Graph, settings: Settings) -> Compute:
        self.graphs.append(graph)
        return lambda inputs, begin: type(self).work(inputs, begin)


@pytest.fixture
def compile_script(register: Callable[[str, str], None]) -> Iterator[Callable[..., ov.CompiledModel]]:
    """Compiles y = -x, or another model, for a device that runs the given function."""
    register("SCRIPTED", f"{__name__}:Scripted")

    def compile_it(work: Any, config: dict[str, Any] | None = None, model: Any = None) -> ov.CompiledModel:
        Scripted.work = staticmethod(work)
        return ov.compile_model(model or one_input(), "SCRIPTED", config)

    yield compile_it
    Scripted.graphs.clear()


Compiler = Callable[..., ov.CompiledModel]


def negate(inputs: Sequence[np.ndarray], begin: Any) -> list[np.ndarray]:
    return [-inputs[0]]


def test_one_method_makes_a_device(compile_script: Compiler) -> None:
    compiled = compile_script(negate, {"PERF_COUNT": True})
    request = compiled.create_infer_request()
    np.testing.assert_array_equal(request.infer(X)[0], -X)
    assert compiled.get_property("EXECUTION_DEVICES") == ["SCRIPTED"]
    (step,) = compiled.explain().rows
    assert (step.nodes, step.kernel, step.fallback) == (("negate",), "script", False)
    (row,) = request.profiling_info
    assert (row.status, row.exec_type) == (ProfilingInfo.EXECUTED, "script")
    assert row.real_time.total_seconds() > 0


def test_it_gets_the_graph_after_its_pipeline(compile_script: Compiler) -> None:
    proto = two_inputs()
    proto.graph.node.add(op_type="Identity", input=["result"], output=["same"], name="same")
    proto.graph.output[1].name = "same"
    compiled = compile_script(lambda inputs, begin: [inputs[0]] * 2, model=proto)
    assert [node.op_type for node in Scripted.graphs[-1].nodes] == ["Add", "Relu"]
    assert [row.op_type for row in compiled.explain().rows] == ["Add", "Relu"]


def test_nodes_are_timed_between_calls_of_begin(compile_script: Compiler) -> None:
    def work(inputs: Sequence[np.ndarray], begin: Any) -> list[np.ndarray]:
        begin(1)
        time.sleep(0.02)
        return [inputs[0]] * 2

    request = compile_script(work, {"PERF_COUNT": True}, two_inputs()).create_infer_request()
    request.infer([X, X])
    first, second = (row.real_time.total_seconds() for row in request.profiling_info)
    assert first < 0.02 <= second


def test_waiting_inferences_begin_by_priority_then_deadline_then_order(compile_script: Compiler, gate: Gate) -> None:
    seen: list[int] = []

    def work(inputs: Sequence[np.ndarray], begin: Any) -> list[np.ndarray]:
        gate()
        seen.append(int(inputs[0][0, 0]))
        return [inputs[0]]

    compiled = compile_script(work, {"NUM_STREAMS": 1})
    terms: list[dict[str, Any]] = [
        {}, {"priority": "LOW"}, {}, {"deadline_ms": 50_000}, {"deadline_ms": 40_000}, {"priority": "HIGH"}, {},
    ]  # fmt: skip
    requests = [compiled.create_infer_request() for _ in terms]
    for number, (request, one) in enumerate(zip(requests, terms)):
        request.start_async(np.full((2, 3), number, np.float32), **one)
        if number == 0:
            gate.wait_entered()
    gate.open(len(terms))
    for request in requests:
        request.wait()
    assert seen == [0, 5, 4, 3, 2, 6, 1]


def test_a_deadline_ends_an_inference_that_waits_at_once(compile_script: Compiler, gate: Gate) -> None:
    compiled = compile_script(lambda inputs, begin: (gate(), [inputs[0]])[1], {"NUM_STREAMS": 1})
    running, waiting, last = (compiled.create_infer_request() for _ in range(3))
    called = threading.Event()
    waiting.set_callback(lambda _: called.set(), None)
    running.start_async(X)
    gate.wait_entered()
    waiting.start_async(X, deadline_ms=1)
    last.start_async(X)
    assert called.wait(30)
    assert running.is_busy()
    with pytest.raises(DeadlineExceededError, match="'negation'"):
        waiting.wait()
    gate.open(2)
    running.wait()
    last.wait()


def test_a_deadline_and_a_cancel_end_an_inference_at_its_next_node(compile_script: Compiler, gate: Gate) -> None:
    def work(inputs: Sequence[np.ndarray], begin: Any) -> list[np.ndarray]:
        gate()
        begin(1)
        raise AssertionError("the inference went on")

    request = compile_script(work, model=two_inputs()).create_infer_request()
    request.start_async([X, X], deadline_ms=200)
    gate.wait_entered()
    time.sleep(0.25)
    gate.open()
    with pytest.raises(DeadlineExceededError, match="before node 1"):
        request.wait()
    request.start_async([X, X])
    gate.wait_entered()
    request.cancel()
    gate.open()
    with pytest.raises(CancelledError):
        request.wait()


@pytest.mark.parametrize("streams", [0, 1])
@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda inputs, begin: 1 / 0, r"SCRIPTED failed in model 'negation': ZeroDivisionError"),
        (lambda inputs, begin: [inputs[0][:1]], r"SCRIPTED computed shape \[1, 3\] for output 'y' \[2,3\]"),
        (lambda inputs, begin: [np.float32(3)], r"SCRIPTED computed shape \[\] for output 'y'"),
        (lambda inputs, begin: [], r"SCRIPTED failed in model 'negation': ValueError"),
    ],
)
def test_a_fault_is_an_error_of_that_inference_alone(
    compile_script: Compiler, work: Any, message: str, streams: int
) -> None:
    compiled = compile_script(work, {"NUM_STREAMS": streams})
    request = compiled.create_infer_request()
    with pytest.raises(InternalError, match=message):
        request.infer(X)
    request.start_async(X)
    with pytest.raises(InternalError, match=message):
        request.wait()
    Scripted.work = staticmethod(negate)
    np.testing.assert_array_equal(request.infer(X)[0], -X)


def test_an_interrupt_while_queuing_loses_no_inference(compile_script: Compiler, monkeypatch: Any) -> None:
    compiled = compile_script(negate)
    requests = [compiled.create_infer_request() for _ in range(3)]
    queue = device_of(compiled).queue
    put = queue.put
    for before in (True, False):

        def interrupted(inference: Any, before: bool = before) -> None:
            if not before:
                put(inference)
            monkeypatch.setattr(queue, "put", put)
            raise KeyboardInterrupt

        monkeypatch.setattr(queue, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            requests[0].start_async(X)
        for request in requests[1:]:
            request.start_async(X)
        with pytest.raises(CancelledError):
            requests[0].wait()
        for request in requests[1:]:
            request.wait()
            np.testing.assert_array_equal(request.results[0], -X)
        np.testing.assert_array_equal(requests[0].infer(X)[0], -X)
