"""Stream plans against OpenVINO's: the same processors, settings and preferred threads give the same streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.machines import machine, rows_of

from cpuruntime.hints import candidates
from cpuruntime.hints.resolver import divide, is_latency
from cpuruntime.properties import PROPERTIES, Settings, parse

PLANS = json.loads((Path(__file__).parent / "peer_plans.json").read_text())


def settings_of(case: dict[str, Any]) -> Settings:
    config = {"PERFORMANCE_HINT": case["hint"], "ENABLE_HYPER_THREADING": True}
    names = {"streams": "NUM_STREAMS", "threads": "INFERENCE_NUM_THREADS", "reqs": "PERFORMANCE_HINT_NUM_REQUESTS"}
    config |= {name: case[key] for key, name in names.items() if key in case}
    if case.get("tp"):
        config["MODEL_DISTRIBUTION_POLICY"] = "TENSOR_PARALLEL"
    return parse(config, PROPERTIES, "tests")


@pytest.mark.parametrize("case", PLANS, ids=lambda case: case["name"])
def test_the_plan_is_the_peer_s(case: dict[str, Any]) -> None:
    settings = settings_of(case)
    found = candidates(settings, machine(case["topology"]), is_latency(settings))
    division = divide(settings, found, case.get("prefer", 0))
    assert rows_of(division.streams, case.get("tp", False)) == case["expected"]
