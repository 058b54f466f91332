"""The cache of models of devices over devices: their parts are stored and loaded one by one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.judge import Net
from support.stored_models import convolutional, feeds, is_loaded, results

import cpuruntime as ov


@contextmanager
def compiled_twice(cache: Path, device: str, model: Any) -> Iterator[list[ov.CompiledModel]]:
    """The models of two compilations; they are closed at the end."""
    with ExitStack() as stack:
        config = {"CACHE_DIR": cache}
        yield [stack.enter_context(ov.Core().compile_model(model, device, config)) for _ in range(2)]


@pytest.mark.parametrize("device", ["MULTI:CPU(1)", "BATCH:CPU(2)", "HETERO:CPU", "MULTI:HETERO:CPU"])
def test_parts_are_stored_and_loaded(cache: Path, device: str) -> None:
    model = convolutional()
    inputs = feeds(model)
    with compiled_twice(cache, device, model) as (first, second):
        assert list(cache.glob("*.model"))
        assert (is_loaded(first), is_loaded(second)) == (False, True)
        assert results(second, inputs) == results(first, inputs)


@pytest.mark.parametrize("device", ["MULTI:CPU(1)", "HETERO:CPU"])
def test_parts_of_dynamic_shapes_are_stored_and_compiled_for_shapes_without_a_plan(cache: Path, device: str) -> None:
    n = Net()
    n.output(n("Relu", n.conv(n.input("batch", 3, 20, "width"), 3, 32, pads=[1] * 4)))
    with compiled_twice(cache, device, n.model()) as (first, second):
        assert (is_loaded(first), is_loaded(second)) == (False, True)
        for shape in ((2, 3, 20, 30), (1, 3, 20, 1)):
            x = [np.ones(shape, np.float32)]
            assert results(second, x) == results(first, x)


def test_a_part_that_is_not_stored_is_compiled(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cpuruntime")
    model = convolutional()
    with compiled_twice(cache, "MULTI:CPU,REFERENCE", model) as (_, second):
        assert not is_loaded(second)
        assert second(feeds(model))[0].shape == (1, 10)
    assert "models on device REFERENCE are not stored" in caplog.text
    assert "device MULTI" not in caplog.text
    assert len(list(cache.glob("*.model"))) == 1


def test_a_part_is_not_taken_for_a_whole_model(cache: Path) -> None:
    model = ov.Core().read_model(convolutional())
    with compiled_twice(cache, "MULTI:CPU(1)", model), compiled_twice(cache, "CPU", model) as (first, second):
        assert (is_loaded(first), is_loaded(second)) == (False, True)
        assert second.get_runtime_model().get_ordered_ops()


def test_a_damaged_part_is_compiled_anew(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = convolutional()
    with compiled_twice(cache, "HETERO:CPU", model) as (first, _):
        expected = results(first, feeds(model))
    (stored,) = cache.glob("*.model")
    stored.write_bytes(stored.read_bytes()[:-4096])
    with compiled_twice(cache, "HETERO:CPU", model) as (first, second):
        assert (is_loaded(first), is_loaded(second)) == (False, True)
        assert results(second, feeds(model)) == expected
    assert "is not used, the model is compiled" in caplog.text
