"""Models as torch's exporters and scikit-learn's converter write them, at several shapes, judged by ONNX Runtime."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from support import exports
from support.judge import check, onnx_runtime_session

import cpuruntime as ov

FAILING: dict[str, str] = {}
TOLERANCES = {"ssd": 1e-2}  # ONNX Runtime differs from itself without optimisations by half of that
TOLERANCE = 1e-4


def models(failing: dict[str, str]) -> list[object]:
    return [
        pytest.param(name, marks=pytest.mark.xfail(reason=failing[name])) if name in failing else name
        for name in exports.names()
    ]


@functools.cache
def compiled(name: str) -> ov.CompiledModel:
    return ov.Core().compile_model(exports.load(name), "CPU")


@pytest.mark.parametrize("name", models(FAILING))
def test_every_shape_gives_what_onnx_runtime_does(name: str) -> None:
    model = exports.load(name)
    session = onnx_runtime_session(model)
    cases = exports.feeds(model)
    assert len(cases) >= 3
    tolerance = TOLERANCES.get(name, TOLERANCE)
    for feeds in [*cases, cases[0]]:
        found = compiled(name)(feeds)
        outputs = [found[index] for index in range(len(compiled(name).outputs))]
        check(outputs, session.run(None, feeds), tolerance)


@pytest.mark.parametrize("name", models(FAILING))
def test_no_operator_falls_back(name: str) -> None:
    for feeds in exports.feeds(exports.load(name)):
        compiled(name)(feeds)
        assert not compiled(name).explain().fallbacks


def test_the_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (exports.load("bert", seed).SerializeToString(deterministic=True) for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", exports.names())
def test_results_say_something(name: str) -> None:
    """Outputs are finite, follow the input, and nothing that is chosen from is empty."""
    model = exports.load(name)
    session = onnx_runtime_session(model)
    for feeds in exports.feeds(model):
        for output in session.run(None, feeds):
            assert output.size
            assert np.isfinite(output).all()
