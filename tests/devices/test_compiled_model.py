"""Compiled models: calling, ports, properties, explaining, closing."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from support.fake_device import Gate, compile_fake
from support.onnx_models import two_inputs

import cpuruntime as ov
from cpuruntime import InvalidArgumentError, UnsupportedError

ROW = np.arange(4, dtype=np.float32)[None]
X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)


def test_calling_infers(added: ov.CompiledModel) -> None:
    y = np.ones((2, 3), np.float32)
    for results in (added([X, y]), added(inputs={"x": X, "y": y}), added.infer_new_request({0: X, 1: y})):
        np.testing.assert_array_equal(results["sum"], X + 1)
    np.testing.assert_array_equal(added({"x": X}, False, True)["sum"], X + 1)
    np.testing.assert_array_equal(added()["sum"], X + 1)


def test_calling_reads_inputs_in_place_by_default(added: ov.CompiledModel) -> None:
    x = X.copy()
    added([x, X])
    x += 1
    np.testing.assert_array_equal(added()["sum"], 2 * X + 1)
    added({"x": x}, share_inputs=False)
    x += 1
    np.testing.assert_array_equal(added()["sum"], 2 * X + 1)


def test_results_of_calls_stay(added: ov.CompiledModel) -> None:
    first = added([X, X])
    new = added.infer_new_request([X, X])
    added([0 * X, X])
    np.testing.assert_array_equal(first["sum"], 2 * X)
    np.testing.assert_array_equal(new["sum"], 2 * X)


def test_several_threads_call_at_the_same_time() -> None:
    gate = Gate()
    compiled, _ = compile_fake(gate)
    found: dict[int, float] = {}

    def call(value: int) -> None:
        found[value] = float(compiled(ROW * value)[0][0, 1])

    threads = [threading.Thread(target=call, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for _ in threads:
        gate.wait_entered()
    gate.open(4)
    for thread in threads:
        thread.join(30)
    assert found == {0: 0, 1: 1, 2: 2, 3: 3}


def test_ports(added: ov.CompiledModel) -> None:
    assert added.input("y") is added.input(1) is added.inputs[1]
    assert added.output(index="result") is added.outputs[1]
    assert repr(added.input(0)) == "<ConstOutput: names[x] shape[2,3] type: f32>"
    for wrong in (None, "z", 2):
        with pytest.raises(InvalidArgumentError):
            added.input(wrong)
    assert repr(added).startswith("<CompiledModel:\ninputs[\n<ConstOutput: names[x] shape[2,3] type: f32>,\n")


def test_properties_are_read_and_never_written(added: ov.CompiledModel) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Unknown property 'NUM_STREAM' of a compiled model. Did you mean"):
        added.get_property("NUM_STREAM")
    with pytest.raises(InvalidArgumentError, match="3 is no property: a property is a str"):
        added.get_property(3)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match=r"pass them to Core.compile_model"):
        added.set_property({"NUM_STREAMS": 2})


def test_the_explanation_is_a_table_and_decisions() -> None:
    explanation = compile_fake()[0].explain()
    assert explanation.fallbacks == []
    assert str(explanation).split("\n") == [
        "FAKE: 1 steps, 0 of them fallbacks",
        "threads: one, enough for a test",
        "op        kernel  nodes",
        "Identity  copy    copy",
    ]
    reference = ov.Core().compile_model(two_inputs(), "REFERENCE").explain()
    assert [row.nodes for row in reference.fallbacks] == [("add",), ("relu",)]
    assert "numpy (fallback)" in str(reference)


def test_release_memory_keeps_requests_usable(added: ov.CompiledModel) -> None:
    request = added.create_infer_request()
    request.infer([X, X])
    added.release_memory()
    np.testing.assert_array_equal(request.infer([X, X])["sum"], 2 * X)


def test_a_closed_model_starts_nothing(added: ov.CompiledModel) -> None:
    with added as inside:
        assert inside is added
        request = added.create_infer_request()
        request.infer([X, X])
    for call in (added.create_infer_request, request.infer, request.start_async, lambda: added([X, X])):
        with pytest.raises(ov.Error, match=r"is (closed|released)"):
            call()
    request.wait()
    np.testing.assert_array_equal(request.results["sum"], 2 * X)


def test_closing_lets_what_runs_finish() -> None:
    gate = Gate()
    compiled, model = compile_fake(gate)
    with compiled:
        requests = [compiled.create_infer_request() for _ in range(2)]
        for request in requests:
            request.start_async(ROW)
    gate.open(2)
    for request in requests:
        request.wait()
        np.testing.assert_array_equal(request.results[0], ROW)
    model.thread.join(30)
    assert not model.thread.is_alive()


def test_the_device_model_is_closed_with_the_last_reference() -> None:
    compiled, model = compile_fake()
    request = compiled.create_infer_request()
    compiled(ROW)
    del compiled
    assert not model.closed.is_set()
    np.testing.assert_array_equal(request.infer(ROW)[0], ROW)
    again = request.get_compiled_model()
    del request
    assert not model.closed.is_set()
    del again
    assert model.closed.is_set()


def test_a_queue_with_a_callback_keeps_nothing_alive() -> None:
    compiled, model = compile_fake()
    queue = ov.AsyncInferQueue(compiled, 2)
    queue.set_callback(lambda request, tag: None)
    for tag in range(4):
        queue.start_async(ROW, tag)
    queue.wait_all()
    tensor = queue[0].get_tensor("x")
    del compiled, queue
    model.thread.join(30)
    assert model.closed.is_set()
    assert tensor.shape == [1, 4]


def test_an_error_that_was_raised_keeps_nothing_alive() -> None:
    compiled, model = compile_fake()

    def fail() -> None:
        raise ValueError("mine")

    def callback(request: ov.InferRequest, tag: int) -> None:
        raise KeyError("mine")

    queue = ov.AsyncInferQueue(compiled, 1)
    queue.set_callback(callback)
    queue.start_async(ROW)
    model.work = fail
    request = compiled.create_infer_request()
    request.start_async(ROW)
    for call in (queue.wait_all, request.wait):
        with pytest.raises((KeyError, ValueError), match="mine"):
            call()
    del call, queue, request, compiled
    model.thread.join(30)
    assert model.closed.is_set()


def test_a_model_dropped_while_requests_run_finishes_them() -> None:
    gate = Gate()
    compiled, model = compile_fake(gate)
    request = compiled.create_infer_request()
    output = request.get_tensor("y").data
    done = threading.Event()
    request.set_callback(lambda _: done.set(), None)
    request.start_async(ROW)
    del compiled, request
    gate.wait_entered()
    assert not model.closed.is_set()
    gate.open()
    assert done.wait(30)
    np.testing.assert_array_equal(output, ROW)
    model.thread.join(30)
    assert model.closed.is_set()
