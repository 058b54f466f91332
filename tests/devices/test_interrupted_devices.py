"""Ctrl-C at any moment of inferences on BATCH and HETERO: nothing is lost, and what follows is right."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

import numpy as np
import onnx.parser
import pytest

import cpuruntime as ov
from cpuruntime.devices import batch_gain
from cpuruntime.devices.batch.batcher import Batcher

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1, 16] x) => (float[1, 16] y) { a = Neg (x) b = Abs (a) y = Neg (b) }"""
DEVICES = {
    "BATCH:REFERENCE(4)": {"NUM_STREAMS": 1},
    "HETERO:REFERENCE,CPU": {"NODE_AFFINITY": {"Neg_0": "REFERENCE", "Abs_1": "CPU", "Neg_2": "REFERENCE"}},
}
STRIKES = 150


def full(number: int) -> np.ndarray:
    return np.full((1, 16), number, np.float32)


@pytest.mark.parametrize("device", DEVICES)
def test_an_interrupt_at_any_moment_loses_nothing(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_gain, "GAIN", 1e9)
    monkeypatch.setattr(batch_gain, "SHORTEST", 0)
    inside, struck = [False], [0]

    def interrupt(number: int, frame: FrameType | None) -> None:
        if inside[0]:
            inside[0] = False
            struck[0] += 1
            raise KeyboardInterrupt

    def strike() -> None:
        chance = random.Random(2)
        while struck[0] < STRIKES:
            time.sleep(chance.random() * 1e-3)
            os.kill(os.getpid(), signal.SIGINT)

    model = onnx.parser.parse_model(MODEL)
    with ov.Core().compile_model(model, device, DEVICES[device]) as compiled:
        requests = [compiled.create_infer_request() for _ in range(4)]
        before = signal.signal(signal.SIGINT, interrupt)
        thread = threading.Thread(target=strike)
        thread.start()
        try:
            number = 0
            while struck[0] < STRIKES:
                number += 1
                request = requests[number % 4]
                with suppress(KeyboardInterrupt):
                    inside[0] = True
                    if number % 3:
                        request.infer(full(number))
                    else:
                        request.start_async(full(number))
                        request.wait()
                    inside[0] = False
                with suppress(ov.CancelledError, KeyboardInterrupt):
                    request.wait()
                assert not request.is_busy()
        finally:
            thread.join()
            signal.signal(signal.SIGINT, before)
        answers = []
        queue = ov.AsyncInferQueue(compiled, 8)
        queue.set_callback(lambda request, number: answers.append((number, float(request.results[0][0, 0]))))
        for number in range(32):
            queue.start_async(full(number), number)
        queue.wait_all()
        assert sorted(answers) == [(number, -number) for number in range(32)]
        for request in requests:
            assert request.infer(full(7))[0].tolist() == full(-7).tolist()


@pytest.mark.parametrize("method", ["take", "give_back", "submit"])
@pytest.mark.parametrize("is_late", [False, True])
def test_an_interrupt_beside_a_step_of_batch_leaves_the_device_free(
    method: str, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_gain, "GAIN", 1e9)
    monkeypatch.setattr(batch_gain, "SHORTEST", 0)
    step = getattr(Batcher, method)

    def struck(*arguments: object) -> None:
        monkeypatch.setattr(Batcher, method, step)
        if is_late:
            step(*arguments)
        raise KeyboardInterrupt

    with ov.Core().compile_model(onnx.parser.parse_model(MODEL), "BATCH:REFERENCE(4)", {"NUM_STREAMS": 1}) as compiled:
        request = compiled.create_infer_request()
        for number in range(3):
            monkeypatch.setattr(Batcher, method, struck)
            with pytest.raises(KeyboardInterrupt):
                request.start_async(full(number)) if method == "submit" else request.infer(full(number))
            with suppress(ov.CancelledError):
                request.wait()
            assert not request.is_busy()
            assert request.infer(full(number))[0].tolist() == full(-number).tolist()
        taken = []
        give_back = Batcher.give_back
        monkeypatch.setattr(Batcher, "give_back", lambda *arguments: (taken.append(1), give_back(*arguments)))
        request.infer(full(1))
        assert taken == [1]
