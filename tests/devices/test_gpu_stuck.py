"""A driver that does not come back from a call: nothing else waits for it, and what it holds fails in the end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from support.gpu_models import X, Y, chain

import cpuruntime as ov
from cpuruntime.gpu_runtime.end import End
from cpuruntime.gpu_runtime.recording import RecordingRuntime

SECONDS = 0.3


class Door(threading.Event):
    """What calls of the driver wait for; `entered` is set once one does."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.entered.set()
        return super().wait(timeout)


@pytest.fixture
def stuck(recorder: RecordingRuntime, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingRuntime]:
    """The device without a driver, whose calls may not come back: after fewer seconds than ten minutes they fail."""
    monkeypatch.setattr(End, "MOST_SECONDS", SECONDS)
    yield recorder
    recorder.faults.taken.set()


@pytest.mark.parametrize("streams", [0, 1, 2])
def test_inferences_fail_and_others_run_once_it_is_back(stuck: RecordingRuntime, streams: int) -> None:
    with ov.Core().compile_model(chain(), "GPU", {"NUM_STREAMS": streams}) as compiled:
        requests = [compiled.create_infer_request() for _ in range(3)]
        stuck.faults.taken.clear()
        for request in requests:
            request.start_async(X)
        for request in requests:
            with pytest.raises(ov.DeviceUnavailableError, match=r"did not take an inference of model 'chain' in .* s"):
                request.wait()
        stuck.faults.taken.set()
        for request in [*requests, *requests]:
            request.infer(X)
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("cpuruntime-gpu-")]
        assert len([thread for thread in threads if thread.name != "cpuruntime-gpu-watch"]) >= max(streams, 1)
    begun = time.monotonic()
    while any(thread in threads for thread in threading.enumerate()):  # those that were stuck end, too
        assert time.monotonic() - begun < 60
        time.sleep(0.01)


def test_cancel_and_close_do_not_wait(stuck: RecordingRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(End, "MOST_SECONDS", 600.0)
    with ov.Core().compile_model(chain(), "GPU") as compiled:
        running, waiting = compiled.create_infer_request(), compiled.create_infer_request()
        door = stuck.faults.taken = Door()
        running.start_async(X)
        assert door.entered.wait(60)
        waiting.start_async(X)
        running.cancel()
        waiting.cancel()
        with pytest.raises(ov.CancelledError):
            waiting.wait()
        assert not running.wait_for(0)
        compiled.release_memory()
    stuck.faults.taken.set()
    running.wait()


def test_an_interrupt_ends_the_wait_for_it(stuck: RecordingRuntime) -> None:
    with ov.Core().compile_model(chain(), "GPU") as compiled:
        request = compiled.create_infer_request()
        stuck.faults.taken.clear()
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, SECONDS / 3)
            with pytest.raises(KeyboardInterrupt):
                request.infer(X)
            signal.setitimer(signal.ITIMER_REAL, SECONDS / 3)
            with pytest.raises(KeyboardInterrupt):
                ov.Core().compile_model(chain(), "GPU")
        finally:
            signal.signal(signal.SIGALRM, before)
        stuck.faults.taken.set()
        request.infer(X)


@pytest.mark.parametrize("device", ["MULTI:GPU,CPU", "AUTO:GPU,CPU"])
def test_another_device_serves_where_it_was_stuck_from_the_beginning(stuck: RecordingRuntime, device: str) -> None:
    stuck.faults.taken.clear()
    with pytest.raises(ov.DeviceUnavailableError, match="did not"):
        ov.Core().compile_model(chain(), "GPU")
    with ov.Core().compile_model(chain(), device) as compiled:
        for _ in range(4):
            np.testing.assert_allclose(compiled(X)[0], Y, atol=1e-6)
