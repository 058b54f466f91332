"""No thread can be started any more while inferences run: some calls say so, and nothing hangs or stays taken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import onnx.parser
import pytest
from support.stream_tasks import until
from support.strikes import limited

import cpuruntime as ov
from cpuruntime.devices import batch_gain
from cpuruntime.testing.probes import device_of, taken_in

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1, 16] x) => (float[1, 16] y) { a = Neg (x) b = Abs (a) y = Neg (b) }"""
AFFINITY = {"Neg_0": "REFERENCE", "Abs_1": "CPU", "Neg_2": "REFERENCE"}
DEVICES: dict[str, dict[str, Any]] = {
    "CPU": {"NUM_STREAMS": 1},
    "REFERENCE": {"NUM_STREAMS": 1},
    "MULTI:CPU(1),REFERENCE(1)": {},
    "AUTO:REFERENCE,CPU": {},
    "BATCH:REFERENCE(4)": {"NUM_STREAMS": 1},
    "HETERO:REFERENCE,CPU": {"NODE_AFFINITY": AFFINITY},
}


def full(number: int) -> np.ndarray:
    return np.full((1, 16), number, np.float32)


@contextmanager
def no_more_threads() -> Iterator[None]:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


def infer(requests: list[ov.InferRequest]) -> None:
    for request in requests:
        request.infer(full(5))


def start(requests: list[ov.InferRequest]) -> None:
    for request in requests:
        request.start_async(full(5), priority="HIGH", deadline_ms=1e6)


def call_back(requests: list[ov.InferRequest]) -> None:
    for request in requests:
        request.set_callback(lambda _: None, None)
        request.start_async(full(5))


def cancel(requests: list[ov.InferRequest]) -> None:
    for request in requests:
        request.start_async(full(5))
    for request in requests[::-1]:
        request.cancel()


@pytest.mark.parametrize("call", [infer, start, call_back, cancel])
@pytest.mark.parametrize("device", DEVICES)
def test_without_more_threads_nothing_hangs(
    device: str, call: Callable[[list[ov.InferRequest]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_gain, "GAIN", 1e9)  # so that BATCH makes batches
    monkeypatch.setattr(batch_gain, "SHORTEST", 0)
    with ov.Core().compile_model(onnx.parser.parse_model(MODEL), device, DEVICES[device]) as compiled:
        requests = [compiled.create_infer_request() for _ in range(4)]
        with limited("without threads"):
            with no_more_threads():
                for _ in range(3):
                    with suppress(RuntimeError):
                        call(requests)
                    for request in requests:
                        with suppress(RuntimeError):
                            request.wait()
                        assert not request.is_busy()
            for number, request in enumerate(requests):
                request.start_async(full(number))
            for number, request in enumerate(requests):
                request.wait()
                assert request.results[0].tolist() == full(-number).tolist()
        until(lambda: taken_in(device_of(compiled)) == 0)
