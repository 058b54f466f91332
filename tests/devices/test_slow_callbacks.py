"""Callbacks that take long: they are logged by name, and hold nothing else up."""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.onnx_models import one_input

import cpuruntime as ov
from cpuruntime.api import callback as module
from cpuruntime.api.callback import Callback
from cpuruntime.streams import running_callbacks

TESTS = Path(__file__).resolve().parents[1]
X = np.ones((2, 3), np.float32)


@pytest.fixture
def compiled() -> ov.CompiledModel:
    return ov.Core().compile_model(one_input(), "CPU", {"NUM_STREAMS": 1})


def save_frame(*arguments: Any) -> None:
    """A callback with a name."""


class Sink:
    """Callbacks of other kinds."""

    def store(self, *arguments: Any) -> None:
        return

    def __call__(self, *arguments: Any) -> None:
        return


class Clock:
    """A clock that each look at moves on by the next of `steps` milliseconds."""

    def __init__(self, *steps: int) -> None:
        self.steps = [step for each in steps for step in (0, each)]
        self.now = 0

    def __call__(self) -> int:
        self.now += self.steps.pop(0) * 10**6
        return self.now


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (save_frame, "test_slow_callbacks.save_frame"),
        (Sink().store, "test_slow_callbacks.Sink.store"),
        (Sink(), "test_slow_callbacks.Sink"),
        (functools.partial(save_frame, 1), "test_slow_callbacks.save_frame"),
        (lambda: None, "test_slow_callbacks.<lambda>"),
    ],
)
def test_names(
    function: Any, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "perf_counter_ns", Clock(25))
    Callback(function)()
    assert [(r.levelno, r.message) for r in caplog.records] == [(logging.WARNING, f"callback '{name}' took 25 ms")]


def test_each_time_it_gets_twice_as_slow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    times = (1, 19, 21, 30, 40, 43, 80, 90, 85)
    monkeypatch.setattr(module, "perf_counter_ns", Clock(*times))
    callback = Callback(save_frame)
    for _ in times:
        callback()
    assert [record.message.split()[-2] for record in caplog.records] == ["21", "43", "90"]


def test_one_that_raises_is_logged_too(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "perf_counter_ns", Clock(25))
    with pytest.raises(ZeroDivisionError):
        Callback(lambda: 1 // 0)()
    assert "took 25 ms" in caplog.text


@pytest.mark.parametrize("kind", ["request", "queue"])
def test_of_requests_and_queues(
    compiled: ov.CompiledModel, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SLOW", 0)
    if kind == "request":
        request = compiled.create_infer_request()
        request.set_callback(save_frame, None)
        request.start_async(X)
        request.wait()
    else:
        queue = ov.AsyncInferQueue(compiled)
        queue.set_callback(save_frame)
        queue.start_async(X)
        queue.wait_all()
    assert "callback 'test_slow_callbacks.save_frame' took" in caplog.text


def test_the_names_of_those_that_run() -> None:
    def look() -> None:
        assert running_callbacks.names() == f"'test_slow_callbacks.{look.__qualname__}'"

    Callback(look)()
    with pytest.raises(ZeroDivisionError):
        Callback(lambda: 1 // 0)()
    assert running_callbacks.names() == ""


def test_one_that_never_returns_is_named_at_the_end_of_the_program() -> None:
    script = f"""
import sys, threading
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
import cpuruntime as ov
from cpuruntime.streams import base
from support.onnx_models import one_input
base.EXIT_PATIENCE = 0.2
entered = threading.Event()
def forever(*_):
    entered.set()
    threading.Event().wait()
compiled = ov.compile_model(one_input(), "CPU")
queue, request = ov.AsyncInferQueue(compiled), compiled.create_infer_request()
queue.set_callback(forever)
queue.start_async()
entered.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    text = "callbacks had not returned 0.2 seconds after the end of the program: '__main__.forever'"
    assert done.stderr.splitlines() == [text]


def test_they_hold_nothing_up(compiled: ov.CompiledModel) -> None:
    """Ten callbacks wait for each other while the only stream goes on, and so do the callbacks of another request."""
    together = threading.Barrier(10)
    queue = ov.AsyncInferQueue(compiled, 10)
    queue.set_callback(lambda request, userdata: together.wait(30))
    other = compiled.create_infer_request()
    seen: list[int] = []
    other.set_callback(seen.append, None)
    for turn in range(5):
        for _ in range(9):
            queue.start_async(X)
        other.start_async(X, userdata=turn)
        other.wait()
        compiled(X)
        assert seen == list(range(turn + 1))
        queue.start_async(X)
        queue.wait_all()
    assert not together.broken


def test_a_callback_may_infer_and_wait_for_other_requests(compiled: ov.CompiledModel) -> None:
    outer, inner = compiled.create_infer_request(), compiled.create_infer_request()
    results: list[float] = []

    def callback(_: Any) -> None:
        results.append(float(compiled(X)[0][0, 0]))
        inner.start_async(2 * X)
        inner.wait()
        results.append(float(inner.results[0][0, 0]))

    outer.set_callback(callback, None)
    outer.start_async(X)
    outer.wait()
    assert results == [-1, -2]
