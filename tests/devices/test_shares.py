"""What steps of several threads lose beyond an even split of their work, and to what."""

from __future__ import annotations

import numpy as np
import pytest
from support.programs import GuardedProgram, activation, random_array
from support.quantised import constant

import cpuruntime as ov
from cpuruntime.devices.cpu.shares import BARRIER_NS, SCALES_WELL, SHORT_NS, loss_of, time_shares
from cpuruntime.graph import Graph, Node
from cpuruntime.host.caches import caches
from cpuruntime.program.plan.storage import Place
from cpuruntime.program.program import Instance


def test_a_loss_has_its_parts() -> None:
    loss = loss_of([9000.0, 11000.0], 16000.0, 0)
    assert loss is not None
    assert (loss.work, loss.uneven, loss.barrier) == (20000, 1000, BARRIER_NS)
    assert loss.elsewhere == 16000 - 11000 - BARRIER_NS
    assert str(loss) == "1.25: uneven 1.0 us, barrier 0.2 us, other cores' caches 4.8 us"
    assert "memory 4.8 us" in str(loss_of([9000.0, 11000.0], 16000.0, caches().last + 1))


@pytest.mark.parametrize(
    ("shares", "taken"),
    [([9000.0], 16000.0), ([500.0, 500.0], SHORT_NS - 1.0), ([5000.0, 5000.0], 5000.0 / SCALES_WELL)],
    ids=["one thread", "short", "scales well"],
)
def test_what_is_no_loss(shares: list[float], taken: float) -> None:
    assert loss_of(shares, taken, 0) is None


def test_each_share_is_timed() -> None:
    x, y = (activation(name, (1, 64, 40, 40)) for name in "xy")
    window = dict(kernel_shape=[1, 1], strides=[1, 1], dilations=[1, 1], pads=[0] * 4, group=1)
    node = Node("Conv", "c", [x, constant("w", random_array((64, 64, 1, 1)))], [y], window, "cpuruntime", 1)
    program = GuardedProgram(Graph("one", [x], [y], [node]), threads=3).program
    instance = Instance(program)
    arrays = np.zeros((2, 64, 40, 40), np.float32)
    for place, array in zip((Place.INPUT, Place.OUTPUT), arrays):
        instance.bind(place, 0, array.ctypes.data)
    shares = time_shares(instance.table, 3)
    assert [len(one) for one in shares] == [1 if row[1] & 1 else 3 for row in instance.table.tolist()]
    assert all(0 <= seconds < float("inf") for one in shares for seconds in one)


def test_explain_measures_steps_of_two_threads() -> None:
    model = ov.light_model("squeezenet")
    config = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 2}
    rows = ov.Core().compile_model(model, "CPU", config).explain(measure=True).rows
    assert all(row.microseconds is not None for row in rows)
    assert all(row.scaling == "" or float(row.scaling.partition(":")[0]) < 2 for row in rows)
