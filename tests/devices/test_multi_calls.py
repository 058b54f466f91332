"""What an inference on several devices goes through, on the thread that asks for it; and Ctrl-C at any moment of it."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from types import FrameType

import numpy as np
import onnx.parser
import pytest

import cpuruntime as ov
from cpuruntime.devices.composed.dispatcher import Dispatcher
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.testing.probes import device_of, make_device_quick

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[2, 3] x) => (float[2, 3] y) { y = Neg (x) }"""
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def compiled(device: str) -> ov.CompiledModel:
    config = {"NUM_STREAMS": 1, "SCHEDULE_POLICY": "DEVICE_PRIORITY"}
    return ov.Core().compile_model(onnx.parser.parse_model(MODEL), device, config)


def refuse(*arguments: object) -> None:
    raise AssertionError("the dispatcher's queue was asked")


def test_an_inference_is_run_on_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "submit", refuse)
    with compiled("MULTI:CPU(1),REFERENCE(1)") as model:
        requests = [model.create_infer_request() for _ in range(2)]
        for number in range(6):
            for request in requests:
                assert request.infer(number * X)[0].tolist() == (-number * X).tolist()
        assert [member.served for member in device_of(model).members] == [12, 0]


@pytest.mark.parametrize("starts", [False, True])
def test_what_is_unchanged_is_inferred_in_one_step(monkeypatch: pytest.MonkeyPatch, starts: bool) -> None:
    with compiled("MULTI:CPU(1),REFERENCE(1)") as model:
        request = model.create_infer_request()
        cpu, _ = device_of(model).members
        for _ in range(4):
            request.infer(X)
        (worker,) = cpu.idle
        make_device_quick(worker.request, request.infer)
        request.infer(X)
        served = cpu.served
        monkeypatch.setattr(CpuRequest, "run", refuse)
        monkeypatch.setattr(CpuRequest, "start", refuse)
        for number in range(1, 5):
            make_device_quick(worker.request, refuse)
            if starts:
                request.start_async(number * X)
                request.wait()
                result = request.results[0]
            else:
                result = request.infer(number * X)[0]
            assert result.tolist() == (-number * X).tolist()
            assert cpu.served == served + number
            assert list(cpu.idle) == [worker]
            assert request.latency_anatomy.executed > 0


def test_requests_in_turns_are_inferred_in_one_step_each(monkeypatch: pytest.MonkeyPatch) -> None:
    with compiled("MULTI:CPU(1),REFERENCE(1)") as model:
        queue = ov.AsyncInferQueue(model, 3)
        cpu, _ = device_of(model).members
        (worker,) = cpu.idle
        for request in queue:
            for _ in range(4):
                request.infer(X)
            make_device_quick(worker.request, request.infer)
            request.infer(X)
        served = cpu.served
        monkeypatch.setattr(CpuRequest, "run", refuse)
        monkeypatch.setattr(CpuRequest, "start", refuse)
        for number in range(6):
            queue.start_async(number * X)
        queue.wait_all()
        assert [request.results[0].tolist() for request in queue] == [(-k * X).tolist() for k in (3, 4, 5)]
        assert cpu.served == served + 6


def test_memory_of_another_request_is_not_taken_for_its_own() -> None:
    with compiled("MULTI:CPU(1),REFERENCE(1)") as model:
        requests = [model.create_infer_request() for _ in range(3)]
        chance = random.Random(1)
        for number in range(300):
            request = chance.choice(requests)
            if number % 7 == 0:
                request.set_input_tensor(ov.Tensor(np.zeros_like(X)))
            if number % 3:
                assert request.infer(number * X)[0].tolist() == (-number * X).tolist()
            else:
                request.start_async(number * X)
                request.wait()
                assert request.results[0].tolist() == (-number * X).tolist()


def test_an_interrupt_at_any_moment_loses_no_worker() -> None:
    inside, over = [False], threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if inside[0]:
            raise KeyboardInterrupt

    def strike() -> None:
        chance = random.Random(2)
        while not over.is_set():
            time.sleep(chance.random() * 5e-4)
            os.kill(os.getpid(), signal.SIGINT)

    with compiled("MULTI:CPU(1),REFERENCE(1)") as model:
        request = model.create_infer_request()
        before = signal.signal(signal.SIGINT, interrupt)
        thread = threading.Thread(target=strike)
        thread.start()
        struck, end = 0, time.monotonic() + 1
        while time.monotonic() < end or not struck:
            try:
                inside[0] = True
                request.infer(X)
                inside[0] = False
            except KeyboardInterrupt:
                inside[0] = False
                struck += 1
        over.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
        for number in range(3):
            assert request.infer(number * X)[0].tolist() == (-number * X).tolist()
        assert [(len(one.idle), len(one.busy)) for one in device_of(model).members] == [(1, 0), (1, 0)]


def test_a_short_inference_is_run_where_it_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "submit", refuse)
    with compiled("MULTI:CPU(1),REFERENCE(1)") as model:
        queue = ov.AsyncInferQueue(model, 2)
        cpu, _ = device_of(model).members
        for number in range(6):
            cpu.service = 1_000.0
            queue.start_async(number * X)
        queue.wait_all()
        assert [request.results[0].tolist() for request in queue] == [(-4 * X).tolist(), (-5 * X).tolist()]
        cpu.service = 1e6
        with pytest.raises(AssertionError, match="queue was asked"):
            model.create_infer_request().start_async(X)


def test_an_error_of_a_short_inference_is_for_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ov.InvalidArgumentError("no such data")

    with compiled("MULTI:CPU(1),REFERENCE(1)") as model:
        request = model.create_infer_request()
        device_of(model).members[0].service = 1_000.0
        monkeypatch.setattr(CpuRequest, "begin", fail)
        request.start_async(X)
        with pytest.raises(ov.InvalidArgumentError, match="no such data"):
            request.wait()
        monkeypatch.undo()
        assert request.infer(X)[0].tolist() == (-X).tolist()
