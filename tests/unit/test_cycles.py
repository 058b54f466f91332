"""Python's search for reference cycles while models are read."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.onnx_models import chain

import cpuruntime as ov
from cpuruntime.host import cycles
from cpuruntime.host.cycles import MANY, rare_searches


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(500, 10, 10)
    yield
    gc.set_threshold(*before)


@contextmanager
def counted() -> Iterator[list[Any]]:
    """The searches of this block."""
    found: list[Any] = []

    def count(phase: str, facts: Any) -> None:
        if phase == "start":
            found.append(facts)

    gc.callbacks.append(count)
    try:
        yield found
    finally:
        gc.callbacks.remove(count)


def test_a_model_of_many_nodes_is_read_without_searches() -> None:
    model = chain(400, 4)
    ov.Core().read_model(model)
    with counted() as searches:
        ov.Core().read_model(model)
    assert len(searches) <= 1
    assert gc.get_threshold() == (500, 10, 10)


def test_thresholds_return_with_the_last_block() -> None:
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with rare_searches():
            inside.set()
            done.wait(100)

    thread = threading.Thread(target=other)
    with rare_searches():
        thread.start()
        inside.wait(100)
    assert gc.get_threshold()[0] == MANY
    done.set()
    thread.join()
    assert gc.get_threshold() == (500, 10, 10)


@pytest.mark.parametrize("method", ["begin", "end"])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_block_that_an_interrupt_ends_is_forgotten(
    method: str, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = getattr(cycles.Searches, method)

    def struck(*arguments: object) -> None:
        monkeypatch.setattr(cycles.Searches, method, step)
        if is_late:
            step(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(cycles.Searches, method, struck)
    with pytest.raises(KeyboardInterrupt), rare_searches():
        pass
    with rare_searches():
        assert gc.get_threshold()[0] == MANY
    assert gc.get_threshold() == (500, 10, 10)


def test_thresholds_return_after_an_error() -> None:
    with pytest.raises(ov.Error):
        ov.Core().read_model(b"no model")
    assert gc.get_threshold() == (500, 10, 10)


@pytest.mark.parametrize("own", [(0, 10, 10), (2 * MANY, 5, 5)])
def test_rarer_searches_stay_as_they_are(own: tuple[int, int, int]) -> None:
    gc.set_threshold(*own)
    with rare_searches():
        assert gc.get_threshold() == own
    assert gc.get_threshold() == own


def test_thresholds_that_are_set_in_a_block_stay() -> None:
    with rare_searches():
        gc.set_threshold(900, 7, 7)
    assert gc.get_threshold() == (900, 7, 7)
