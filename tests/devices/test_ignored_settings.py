"""What `explain` says of settings that act only under conditions."""

from __future__ import annotations

from typing import Any

import pytest
from support.onnx_models import one_input

import cpuruntime as ov
from cpuruntime.compiler import isa
from cpuruntime.devices.cpu.streams import ignored
from cpuruntime.properties import Settings, of_device, parse


def settings(**config: Any) -> Settings:
    return parse(config, of_device("CPU"), "device CPU")


def about(name: str, decisions: Any) -> list[str]:
    return [text for text in decisions if text.startswith(name)]


@pytest.mark.parametrize("target", [{}, {"LATENCY_TARGET_MS": 0}])
def test_a_percentile_without_a_target(target: dict[str, Any]) -> None:
    compiled = ov.compile_model(one_input(), "CPU", {"LATENCY_PERCENTILE": 95.5, **target})
    assert about("LATENCY_PERCENTILE", compiled.explain().decisions) == [
        "LATENCY_PERCENTILE is 95.5 and has no effect: there is no LATENCY_TARGET_MS"
    ]


@pytest.mark.parametrize("config", [{}, {"LATENCY_TARGET_MS": 10_000, "LATENCY_PERCENTILE": 95}])
def test_a_percentile_with_a_target_and_none_at_all(config: dict[str, Any]) -> None:
    compiled = ov.compile_model(one_input(), "CPU", config)
    assert not about("LATENCY_PERCENTILE", compiled.explain().decisions)


@pytest.mark.parametrize(
    ("priority", "meaning"),
    [
        ("LOW", "it waits for models of higher priority between its steps"),
        ("MEDIUM", "it waits for HIGH models between its steps, and LOW ones for it"),
        ("HIGH", "models of lower priority wait for it between their steps"),
    ],
)
def test_what_a_priority_means(priority: str, meaning: str) -> None:
    (found,) = about("MODEL_PRIORITY", ignored.sentences(settings(MODEL_PRIORITY=priority), True))
    assert found == f"MODEL_PRIORITY is {priority}: {meaning}, where they share cores"


def test_settings_without_effect_say_so() -> None:
    config = {"ENABLE_MMAP": False, "LOG_LEVEL": "LOG_ERROR", "INFERENCE_PRECISION_HINT": "bf16"}
    decisions = ov.compile_model(one_input(), "CPU", config).explain().decisions
    assert about("ENABLE_MMAP", decisions) == [
        "ENABLE_MMAP is NO and has no effect: how weights in files of their own are read is decided here"
    ]
    (level,) = about("LOG_LEVEL", decisions)
    assert level.startswith("LOG_LEVEL is LOG_ERROR and has no effect: ")
    (hint,) = about("INFERENCE_PRECISION_HINT", decisions)
    if isa.bf16_products():
        assert hint.endswith("operands of products are rounded to bf16 where that is faster, and sums are f32")
    else:
        assert hint.endswith("and everything is computed in f32: this processor does not multiply bf16")
    assert not about("CACHE_DIR", decisions), "it is not set"


@pytest.mark.parametrize("config", [{}, {"MODEL_PRIORITY": "HIGH"}, {"NUM_STREAMS": 0}, {"LATENCY_TARGET_MS": 10_000}])
def test_every_model_tells_its_priority_once(config: dict[str, Any]) -> None:
    (found,) = about("MODEL_PRIORITY", ov.compile_model(one_input(), "CPU", config).explain().decisions)
    assert found.startswith(f"MODEL_PRIORITY is {config.get('MODEL_PRIORITY', 'MEDIUM')}: ")
