"""Ctrl-C at each moment of a call at which CPython may raise it: no stream, worker or request stays taken."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import onnx.parser
import pytest
from support.stream_tasks import until
from support.strikes import strikes

import cpuruntime as ov
from cpuruntime.devices import batch_gain
from cpuruntime.testing.probes import device_of, taken_in

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="older interpreters interrupt between any two instructions"
)

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1, 16] x) => (float[1, 16] y) { a = Neg (x) b = Abs (a) y = Neg (b) }"""
AFFINITY = {"Neg_0": "REFERENCE", "Abs_1": "CPU", "Neg_2": "REFERENCE"}
DEVICES: dict[str, tuple[str, dict[str, Any]]] = {
    "CPU": ("CPU", {"NUM_STREAMS": 1}),
    "CPU without streams": ("CPU", {"NUM_STREAMS": 0}),
    "CPU with a latency target": ("CPU", {"NUM_STREAMS": 1, "LATENCY_TARGET_MS": 60_000}),
    "REFERENCE": ("REFERENCE", {"NUM_STREAMS": 1}),
    "MULTI of two": ("MULTI:CPU(1),REFERENCE(1)", {}),
    "MULTI of one": ("MULTI:REFERENCE(1)", {}),
    "AUTO": ("AUTO:REFERENCE,CPU", {}),
    "BATCH": ("BATCH:REFERENCE(4)", {"NUM_STREAMS": 1}),
    "HETERO": ("HETERO:REFERENCE,CPU", {"NODE_AFFINITY": AFFINITY}),
}


def full(number: int) -> np.ndarray:
    return np.full((1, 16), number, np.float32)


def start(request: ov.InferRequest) -> None:
    request.start_async(full(5), priority="HIGH", deadline_ms=1e6)
    request.wait()


def call_back(request: ov.InferRequest) -> None:
    request.set_callback(lambda _: None, None)
    request.start_async(full(5))
    request.wait()


def cancel(request: ov.InferRequest) -> None:
    request.start_async(full(5))
    request.cancel()
    with suppress(ov.CancelledError):
        request.wait()


def mistake(request: ov.InferRequest) -> None:
    with suppress(ov.InvalidArgumentError):
        request.start_async(np.zeros((2, 3), np.float32))


def wait_in_loop(request: ov.InferRequest) -> None:
    async def infer() -> None:
        request.start_async(full(5))
        await request

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(infer())
    finally:
        loop.close()


CALLS: dict[str, Callable[[ov.InferRequest], object]] = {
    "infer": lambda request: request.infer(full(5)),
    "first infer": lambda request: request.get_compiled_model().create_infer_request().infer(full(5)),
    "compiled": lambda request: request.get_compiled_model()(full(5)),
    "start_async": start,
    "callback": call_back,
    "cancel": cancel,
    "mistake": mistake,
    "await": wait_in_loop,
}


@pytest.fixture(params=DEVICES)
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ov.CompiledModel:
    monkeypatch.setattr(batch_gain, "GAIN", 1e9)  # so that BATCH makes batches
    monkeypatch.setattr(batch_gain, "SHORTEST", 0)
    return ov.Core().compile_model(onnx.parser.parse_model(MODEL), *DEVICES[request.param])


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_that_was_struck_leaves_the_device_free(
    compiled: ov.CompiledModel, call: Callable[[ov.InferRequest], object]
) -> None:
    with compiled:
        first, other = compiled.create_infer_request(), compiled.create_infer_request()
        for _ in range(3):
            call(first)
        for number, strike in enumerate(strikes()):
            with strike:
                call(first)
            with suppress(ov.CancelledError):
                first.wait()
            assert not first.is_busy(), strike
            other.start_async(full(number))
            other.wait()
            assert other.get_output_tensor().data.tolist() == full(-number).tolist(), strike
            until(lambda: taken_in(device_of(compiled)) == 0)
        assert first.infer(full(7))[0].tolist() == full(-7).tolist()


def queue_is_idle(queue: ov.AsyncInferQueue) -> None:
    for _ in range(2):
        with suppress(ov.CancelledError):
            queue.wait_all()


def start_all(queue: ov.AsyncInferQueue) -> None:
    for number in range(3):
        queue.start_async(full(number))
    queue.wait_all()


def start_wrongly(queue: ov.AsyncInferQueue) -> None:
    with suppress(ov.InvalidArgumentError):
        queue.start_async(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("call", [start_all, start_wrongly])
@pytest.mark.parametrize("called", [True, False], ids=["callback", "no callback"])
def test_a_queue_that_was_struck_loses_no_request(
    compiled: ov.CompiledModel, called: bool, call: Callable[[ov.AsyncInferQueue], None]
) -> None:
    with compiled:
        queue = ov.AsyncInferQueue(compiled, 2)
        over: list[int] = []
        if called:
            queue.set_callback(lambda request, number: over.append(number))
        for strike in strikes():
            with strike:
                call(queue)
            queue_is_idle(queue)
            over.clear()
            for number in range(5):
                queue.start_async(full(number), number)
            queue.wait_all()
            assert sorted(over) == ([0, 1, 2, 3, 4] if called else []), strike
            until(lambda: taken_in(device_of(compiled)) == 0)


@pytest.mark.parametrize("device", ["MULTI of two", "BATCH", "HETERO"])
def test_a_model_whose_end_was_struck_leaves_no_thread(device: str) -> None:
    core = ov.Core()
    model = onnx.parser.parse_model(MODEL)
    for strike in strikes():
        compiled = core.compile_model(model, *DEVICES[device])
        compiled.create_infer_request().infer(full(5))
        threads = threading.active_count()
        with strike, compiled:
            pass
        with compiled:
            pass
        until(lambda threads=threads: threading.active_count() < threads)


@pytest.mark.parametrize(("device", "step"), [("REFERENCE", 53), ("MULTI of two", 101), ("HETERO", 211)])
def test_a_compilation_that_was_struck_leaves_no_thread(device: str, step: int) -> None:
    core = ov.Core()
    model = onnx.parser.parse_model(MODEL)
    with core.compile_model(model, *DEVICES[device]) as compiled:
        compiled.create_infer_request().infer(full(5))
    gc.collect()
    for strike in strikes(step):
        threads = threading.active_count()
        with strike, core.compile_model(model, *DEVICES[device]):
            pass
        gc.collect()
        until(lambda threads=threads: threading.active_count() <= threads)
