"""Clusters on paper: the simulation, and how many nodes a load needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.machines import machine

import cpuruntime as ov
from cpuruntime.cli.main import main
from cpuruntime.devices.ray.simulation import NOTICED, Scenario, simulate
from cpuruntime.devices.ray.sizing import size_of

MS = 1_000_000


def test_a_request_on_an_idle_cluster_takes_its_time_and_its_way() -> None:
    outcome = simulate(Scenario(4, 2, 10 * MS, 2 * MS, [20.0], 10))
    assert 150 < outcome.started == outcome.served[0]
    assert 12 * MS < outcome.quantile(0.5) < 13 * MS


def test_more_than_the_streams_can_do_is_refused_or_late() -> None:
    crowded = Scenario(2, 1, 10 * MS, 2 * MS, [400.0], 5, target=50 * MS)
    late = simulate(crowded)
    assert late.started == sum(late.served)
    assert late.goodput < 0.2
    refusing = simulate(Scenario(2, 1, 10 * MS, 2 * MS, [400.0], 5, target=50 * MS, refuses=True))
    assert refusing.refused > 0.4 * refusing.started
    assert refusing.goodput > 0.4
    assert refusing.quantile(0.99) < 80 * MS


def test_drivers_are_served_alike() -> None:
    rates = [300.0, 300.0, 900.0]
    outcome = simulate(Scenario(4, 4, 10 * MS, 2 * MS, rates, 4))
    assert outcome.fairness(rates) > 0.85
    assert outcome.started == sum(outcome.served)


def test_what_a_failing_node_had_is_answered_by_others() -> None:
    outcome = simulate(Scenario(10, 2, 10 * MS, 2 * MS, [1000.0], 5, failing=0.2, target=50 * MS))
    assert outcome.started == sum(outcome.served)
    assert outcome.retries > 0
    assert outcome.failed == 0
    assert outcome.goodput > 0.98
    assert NOTICED < outcome.quantile(1) == outcome.longest < 3 * NOTICED


def test_the_same_seed_is_the_same_run() -> None:
    scenario = Scenario(3, 2, 5 * MS, MS, [200.0, 100.0], 2, failing=0.4)
    assert simulate(scenario) == simulate(scenario)


def test_a_size_holds_the_target_and_one_node_less_does_not() -> None:
    size = size_of(400, 40 * MS, 2, 10 * MS, 2 * MS)
    scenario = size.scenario
    assert scenario.nodes >= 3  # two have the streams for it, without any pause
    assert size.outcome.goodput >= 0.99
    fewer = Scenario(scenario.nodes - 1, 2, 10 * MS, 2 * MS, scenario.rates, scenario.seconds, target=40 * MS)
    assert simulate(fewer).goodput < 0.99
    with pytest.raises(ov.InvalidArgumentError, match="on any number of nodes"):
        size_of(400, 11 * MS, 2, 10 * MS, 2 * MS)


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A file about nodes of four cores."""
    (tmp_path / "server.json").write_text(machine([[4, 4, 0, 0, 0, 0]]).to_json())
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps({"topology": "server.json", "request_ms": 10, "trip_ms": 2}))
    return path


def test_the_command_says_how_many_nodes(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["-m", "light:squeezenet", "-rate", "600", "--latency-target", "40"]
    assert main(["plan", "--cluster", str(cluster), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 nodes with a replica each, of 2 streams; 1 drivers"
    assert lines[2].startswith("simulated: ")
    cluster.write_text('{"topology": "server.json"}')
    assert main(["plan", "--cluster", str(cluster), *options]) == 0  # by the model's demand


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must have topology"),
        ('{"topology": "server.json", "nodes": 3}', "must have topology"),
        ('{"topology": "server.json", "trip_ms": -1}', "trip_ms is -1"),
        ("{", "is no JSON"),
    ],
)
def test_a_wrong_file_is_one_line(cluster: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    cluster.write_text(text)
    options = ["-m", "light:squeezenet", "-rate", "600", "--latency-target", "40"]
    assert main(["plan", "--cluster", str(cluster), *options]) == 1
    assert message in capsys.readouterr().err
