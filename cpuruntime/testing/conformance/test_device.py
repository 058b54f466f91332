"""What every device must do, seen through the public objects."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

import cpuruntime as ov
from cpuruntime import InvalidArgumentError, ProfilingInfo, properties
from cpuruntime.testing.conformance import models
from cpuruntime.testing.conformance.fixtures import Check, Compile, need

X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)
Y = np.ones((2, 3), np.float32)


def full(value: float) -> np.ndarray:
    """An array of X's shape and type."""
    return np.full((2, 3), value, np.float32)


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Runs work(0), work(1), ... at the same time; fails unless each ends without an error."""
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors


def test_results_are_right_and_keyed_by_port_index_and_name(added: ov.CompiledModel, check: Check) -> None:
    results = added([X, Y])
    check(results["sum"], X + 1)
    for key in (1, -1, "result", added.output(1), added.output("result")):
        check(results[key], np.maximum(X + 1, 0))
    assert [port.any_name for port in results] == ["sum", "result"]


def test_memory_is_aligned(added: ov.CompiledModel) -> None:
    request = added.create_infer_request()
    for tensor in (*request.input_tensors, *request.output_tensors):
        assert tensor.data.ctypes.data % 64 == 0
        assert tensor.data.flags.c_contiguous


def test_the_memory_of_tensors_is_what_inference_reads_and_writes(added: ov.CompiledModel, check: Check) -> None:
    request = added.create_infer_request()
    request.get_tensor("x").data[...] = X
    request.get_input_tensor(1).data[...] = Y
    output = request.get_tensor("result").data
    request.infer()
    check(output, np.maximum(X + 1, 0))
    request.get_tensor("x").data[...] = 5
    request.infer()
    check(output, full(6))


def test_user_memory_is_read_and_written_in_place(added: ov.CompiledModel, check: Check) -> None:
    request = added.create_infer_request()
    x, total = X.copy(), full(9)
    request.set_tensor("x", ov.Tensor(x, shared_memory=True))
    request.set_input_tensor(1, ov.Tensor(Y, shared_memory=True))
    request.set_tensor(added.output("sum"), ov.Tensor(total, shared_memory=True))
    request.infer()
    check(total, X + 1)
    x += 1
    request.start_async()
    request.wait()
    check(total, X + 2)
    np.testing.assert_array_equal(request.results["sum"], total)
    assert np.shares_memory(request.get_tensor("sum").data, total)


def test_memory_of_any_alignment_is_taken(negated: ov.CompiledModel, check: Check) -> None:
    raw = np.zeros(28, np.uint8)[4:28].view(np.float32).reshape(2, 3)
    raw[...] = X
    check(negated(raw)[0], -X)


def test_read_only_inputs_are_taken_and_inputs_never_written(added: ov.CompiledModel) -> None:
    frozen = X.copy()
    frozen.flags.writeable = False
    copy = Y.copy()
    added([frozen, copy], share_inputs=True)
    np.testing.assert_array_equal(copy, Y)


def test_inference_after_the_bound_array_changed_hands(negated: ov.CompiledModel, check: Check) -> None:
    request = negated.create_infer_request()
    for step in range(4):
        array = full(step)
        check(request.infer(array, share_inputs=bool(step % 2))[0], -array)
    assert array[0, 0] == 3


def test_requests_are_independent(added: ov.CompiledModel, check: Check) -> None:
    first, second = added.create_infer_request(), added.create_infer_request()
    first.infer([X, Y])
    second.infer([10 * X, Y])
    check(first.results["sum"], X + 1)
    check(second.results["sum"], 10 * X + 1)


def test_more_requests_than_streams_wait_and_finish(negated: ov.CompiledModel, check: Check) -> None:
    requests = [negated.create_infer_request() for _ in range(20)]
    for value, request in enumerate(requests):
        request.start_async(full(value))
    for value, request in enumerate(requests):
        request.wait()
        check(request.results[0], -full(value))
        assert request.latency > 0


def test_without_waiting_a_request_becomes_idle_all_the_same(negated: ov.CompiledModel, check: Check) -> None:
    request = negated.create_infer_request()
    for value in range(20):
        request.start_async(full(value))
        deadline = time.monotonic() + 30
        while request.is_busy():
            assert time.monotonic() < deadline
        check(request.results[0], -full(value))
        assert 0 < request.latency < 30_000
        assert request.wait_for(0) is True


def test_an_inference_that_is_over_is_no_obstacle(negated: ov.CompiledModel) -> None:
    request = negated.create_infer_request()
    calls: list[Callable[[], object]] = [request.infer, request.start_async, request.get_input_tensor]
    for call in (*calls, lambda: request.results, lambda: request.set_callback(print, None)):
        request.start_async(X)
        while not request.wait_for(0):
            threading.Event().wait(0.001)
        call()
        request.wait()


def test_waiting_for_one_inference_in_several_threads(negated: ov.CompiledModel, check: Check) -> None:
    request = negated.create_infer_request()
    for _ in range(20):
        request.start_async(X)
        in_threads(4, lambda _: request.wait())
        check(request.results[0], -X)


@pytest.mark.parametrize("called", [True, False])
def test_a_queue_shared_by_threads(negated: ov.CompiledModel, check: Check, called: bool) -> None:
    queue = ov.AsyncInferQueue(negated, 3)
    seen: list[int] = []
    if called:
        queue.set_callback(lambda request, tag: seen.append(tag))

    def feed(thread: int) -> None:
        for tag in range(500 * thread, 500 * thread + 500):
            queue.start_async(full(tag), tag)

    in_threads(3, feed)
    queue.wait_all()
    assert sorted(seen) == list(range(1500)) * called
    for request, tag in zip(queue, queue.userdata):
        check(request.results[0], -full(tag))
    assert queue.is_ready()


def test_a_callback_set_while_inferences_run(negated: ov.CompiledModel) -> None:
    queue = ov.AsyncInferQueue(negated, 4)
    for tag in range(3):
        queue.start_async(X, tag)
    seen: list[int] = []
    queue.set_callback(lambda request, tag: seen.append(tag))
    for tag in range(3, 20):
        queue.start_async(X, tag)
    queue.wait_all()
    assert set(range(3, 20)) <= set(seen) <= set(range(20))
    assert len(seen) == len(set(seen))


def test_a_callback_runs_once_after_each_inference(negated: ov.CompiledModel, check: Check) -> None:
    request = negated.create_infer_request()
    seen: list[tuple[str, np.ndarray, bool]] = []
    caller = threading.get_ident()
    request.set_callback(
        lambda tag: seen.append((tag, request.results[0].copy(), threading.get_ident() == caller)), "first"
    )
    request.start_async(full(1))
    request.wait()
    request.start_async(full(2), "second")
    request.wait()
    assert [(tag, here) for tag, _, here in seen] == [("first", False), ("second", False)]
    check(seen[0][1], full(-1))
    check(seen[1][1], full(-2))


def test_a_callback_may_start_the_next_inference(negated: ov.CompiledModel, check: Check) -> None:
    request = negated.create_infer_request()
    finished = threading.Event()
    runs: list[np.ndarray] = []

    def again(_: object) -> None:
        runs.append(request.results[0].copy())
        if len(runs) < 5:
            request.start_async(full(len(runs)))
        else:
            finished.set()

    request.set_callback(again, None)
    request.start_async(full(0))
    assert finished.wait(30)
    request.wait()
    for value, found in enumerate(runs):
        check(found, -full(value))


@pytest.mark.parametrize("streams", [0, 1, 2])
def test_any_number_of_streams_gives_the_same_results(
    compile_on: Compile, check: Check, device: str, streams: int
) -> None:
    need(device, "NUM_STREAMS")
    compiled = compile_on(models.added(), {"NUM_STREAMS": streams})
    assert compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") >= 1
    check(compiled([X, Y])["sum"], X + 1)
    queue = ov.AsyncInferQueue(compiled, 3)
    totals: dict[int, np.ndarray] = {}
    queue.set_callback(lambda request, value: totals.update({value: request.results["sum"].copy()}))
    for value in range(9):
        queue.start_async([full(value), Y], value)
    queue.wait_all()
    assert sorted(totals) == [*range(9)]
    for value, found in totals.items():
        check(found, full(value + 1))


@pytest.mark.parametrize("hint", ["LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT"])
def test_hints_are_resolved(compile_on: Compile, device: str, hint: str) -> None:
    need(device, "PERFORMANCE_HINT", "NUM_STREAMS")
    compiled = compile_on(models.negated(), {"PERFORMANCE_HINT": hint})
    assert compiled.get_property("PERFORMANCE_HINT") == hint
    assert compiled.get_property("NUM_STREAMS") >= 1
    if hint == "LATENCY":
        assert compiled.get_property("NUM_STREAMS") == 1


def test_properties_of_a_compiled_model(compile_on: Compile, device: str) -> None:
    core = ov.Core()
    settings = [name for name, one in core.get_property(device, "SUPPORTED_PROPERTIES").items() if one == "RW"]
    compiled = compile_on(models.negated())
    supported = compiled.get_property("SUPPORTED_PROPERTIES")
    assert set(supported.values()) == {"RO"}
    assert set(settings) <= supported.keys()
    for name in supported.keys() & properties.PROPERTIES.keys():
        declaration, value = properties.PROPERTIES[name], compiled.get_property(name)
        assert value is not None
        if declaration.writable:
            assert declaration.parse(value) == value
    assert compiled.get_property("NETWORK_NAME") == "negation"
    devices = compiled.get_property("EXECUTION_DEVICES")
    assert devices
    assert {name.strip("()") for name in devices} <= set(core.available_devices)  # in brackets: for the meantime
    assert compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") >= 1


def test_the_explanation_covers_all_nodes(added: ov.CompiledModel) -> None:
    explanation = added.explain()
    assert {name for row in explanation.rows for name in row.nodes} == {"add", "relu"}
    assert explanation.decisions
    assert set(explanation.fallbacks) <= set(explanation.rows)
    text = str(explanation)
    assert all(part in text for part in ("add", "relu", *explanation.decisions))


def test_profiling(compile_on: Compile, device: str) -> None:
    need(device, "PERF_COUNT")
    plain = compile_on(models.added()).create_infer_request()
    plain.infer([X, Y])
    assert all(row.status is ProfilingInfo.NOT_RUN and not row.real_time for row in plain.profiling_info)
    profiled = compile_on(models.added(), {"PERF_COUNT": True}).create_infer_request()
    profiled.infer([X, Y])
    executed = [row for row in profiled.get_profiling_info() if row.status == ProfilingInfo.Status.EXECUTED]
    assert executed
    assert sum(row.real_time.total_seconds() for row in executed) * 1e3 <= profiled.latency
    assert all(row.node_name and row.node_type and row.exec_type for row in executed)


def test_integers(compile_on: Compile, check: Check) -> None:
    compiled = compile_on(models.added("int32"))
    check(compiled([X.astype(np.int32), Y.astype(np.int32)])["sum"], X.astype(np.int32) + 1)


def test_an_input_that_is_also_an_output(compile_on: Compile, check: Check) -> None:
    found = compile_on(models.copied())(X)["y"]
    check(found, X)
    assert not np.shares_memory(found, X)


def test_a_constant_output(compile_on: Compile, check: Check) -> None:
    compiled = compile_on(models.with_constant())
    check(compiled(X)["fixed"], np.array([1, 2], np.float32))
    check(compiled(X)["y"], -X)


def test_dynamic_shapes(compile_on: Compile, check: Check) -> None:
    request = compile_on(models.negated(("n", 3))).create_infer_request()
    for rows in (2, 5, 2, 1):
        data = np.full((rows, 3), rows, np.float32)
        check(request.infer(data)[0], -data)
    with pytest.raises(InvalidArgumentError, match=r"\[\?,3\]"):
        request.infer(np.ones((2, 4), np.float32))
    check(request.infer(X)[0], -X)


def test_reshaped_models(compile_on: Compile, check: Check) -> None:
    model = ov.Core().read_model(models.negated(("n", 3)))
    model.reshape([4, 3])
    compiled = compile_on(model)
    model.reshape([5, 3])
    assert compiled.input().shape == [4, 3]
    check(compiled(np.ones((4, 3), np.float32))[0], -np.ones((4, 3), np.float32))
    with pytest.raises(InvalidArgumentError, match=r"shape \[5,3\] given, \[4,3\] needed"):
        compiled(np.ones((5, 3), np.float32))


def test_several_threads_with_a_request_each(added: ov.CompiledModel, check: Check) -> None:
    def work(thread: int) -> None:
        request = added.create_infer_request()
        for value in range(100 * thread, 100 * thread + 50):
            check(request.infer([full(value), Y])["sum"], full(value + 1))

    in_threads(4, work)


def test_a_model_dropped_while_requests_run_finishes_them_and_its_threads_end(
    compile_on: Compile, check: Check
) -> None:
    before = set(threading.enumerate())
    compiled = compile_on(models.negated())
    outputs, finished = [], []
    for value in range(20):
        request = compiled.create_infer_request()
        outputs.append(request.get_output_tensor().data)
        over = threading.Event()
        request.set_callback(lambda event: event.set(), over)
        request.start_async(full(value))
        finished.append(over)
    del compiled, request
    for value, (output, over) in enumerate(zip(outputs, finished)):
        assert over.wait(30)
        check(output, -full(value))
    deadline = time.monotonic() + 30
    while not before.issuperset(threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_closed_model_finishes_what_runs_and_starts_nothing_more(compile_on: Compile, check: Check) -> None:
    with compile_on(models.negated()) as compiled:
        requests = [compiled.create_infer_request() for _ in range(10)]
        for value, request in enumerate(requests):
            request.start_async(full(value))
    for value, request in enumerate(requests):
        request.wait()
        check(request.results[0], -full(value))
        for use in (request.infer, request.start_async, compiled.create_infer_request):
            with pytest.raises(ov.Error):
                use()


def test_a_cancelled_inference_ends_and_the_next_one_is_whole(negated: ov.CompiledModel, check: Check) -> None:
    requests = [negated.create_infer_request() for _ in range(20)]
    for request in requests:
        request.cancel()
        request.start_async(X)
    for request in requests:
        request.cancel()
    for request in requests:
        try:
            request.wait()
            check(request.results[0], -X)
        except ov.CancelledError:
            assert not request.is_busy()
        check(request.infer(2 * X)[0], -2 * X)


def test_models_compiled_at_the_same_time(compile_on: Compile, check: Check) -> None:
    in_threads(4, lambda _: check(compile_on(models.negated())(X)[0], -X))
