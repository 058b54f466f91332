"""How the streams of a compilation are set up: what calibration may use, what is leased, which weights are shared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.onnx_models import one_input

import cpuruntime as ov
from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.streams.setup import set_up_streams
from cpuruntime.hints import StreamSizes
from cpuruntime.host.assignment import ProcessorRequest
from cpuruntime.host.ledger import Ledger, Snapshot
from cpuruntime.host.processors import Cpu
from cpuruntime.properties import Settings, of_device

FOUR = ov.Topology(tuple(Cpu(index, index) for index in range(4)))


def compilation(*shape: int | str, **config: Any) -> Compilation:
    graph = ov.Core().read_model(one_input(shape or (2, 3))).graph
    return Compilation.of(graph, Settings(of_device("CPU"), config), FOUR)


def test_a_dry_run_has_the_plan_of_the_set_up_and_leases_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = set_up_streams(compilation(), None, ledger)
    assert setup.lease is not None
    assert setup.plan.shares == setup.lease.cpus == ((0, 1, 2, 3),)
    setup.release()
    assert ledger.holders() == []
    monkeypatch.delattr(Snapshot, "lease")
    again = set_up_streams(compilation(), None, ledger, leasing=False)
    assert (again.plan, again.lease, again.on_end) == (setup.plan, None, None)


def test_calibration_is_given_the_processors_that_are_not_reserved(ledger: Ledger) -> None:
    asked = []

    def calibrate(model: Compilation) -> StreamSizes:
        asked.append([cpu.index for cpu in model.topology.cpus])
        return StreamSizes(2, 1, "measured")

    with ledger.open() as snapshot:
        held = snapshot.lease([ProcessorRequest((1,), 1)], "other", exclusive=True)
    setup = set_up_streams(compilation(STREAMS_CALIBRATION_MS=5), calibrate, ledger)
    assert held.is_held
    assert asked == [[0, 2, 3]]
    assert setup.plan.shares == ((0,), (2,))
    assert setup.sizes == StreamSizes(2, 1, "measured")
    for config in ({}, {"STREAMS_CALIBRATION_MS": 5, "LATENCY_TARGET_MS": 10}):
        assert set_up_streams(compilation(**config), calibrate, None, leasing=False).sizes is None
    assert len(asked) == 1, "it is called for what can be calibrated alone"


@pytest.mark.parametrize(
    ("shape", "config", "are_shared"),
    [
        ((2, 3), {}, False),
        ((2, 3), {"STREAMS_CALIBRATION_MS": 5}, True),
        ((2, 3), {"LATENCY_TARGET_MS": 5}, True),
        (("n", 3), {}, True),
    ],
)
def test_equal_weights_are_packed_once_where_several_programs_are_planned(
    shape: tuple[int | str, ...], config: dict[str, Any], are_shared: bool
) -> None:
    weights = compilation(*shape, **config).weights
    one, equal = np.ones(2**20, np.float32), np.ones(2**20, np.float32)
    assert (weights.identity(one) == weights.identity(equal)) == are_shared
