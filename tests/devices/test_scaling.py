"""The predicted scaling: slowest shares, barriers and memory of a program planned for each number of threads."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from support.machines import machine
from support.onnx_models import chain

from cpuruntime.cli.main import main
from cpuruntime.devices.cpu.scaling import BARRIER_NS, SATURATING, Timed, predict

MIB = 2**20


def test_a_step_takes_as_long_as_its_slowest_share_and_small_ones_have_no_barrier() -> None:
    one = Timed([[1000.0], [100.0]], [0, 0], [0, 0], 0)
    four = Timed([[200.0, 300.0, 260.0, 240.0], [100.0]], [0, 0], [0, 0], 0)
    row = predict(four, one, 4, 32 * MIB, 10.0)
    assert row.uneven == pytest.approx(50)
    assert row.barriers == 2 * BARRIER_NS
    assert row.latency == pytest.approx(400 + 2 * BARRIER_NS)
    assert (row.busy, row.memory) == (pytest.approx(1100), 0)


def test_weights_beyond_the_last_cache_are_read_at_the_pace_of_memory_which_saturates() -> None:
    size = 64 * MIB
    one = Timed([[1000.0]], [size], [0], 0)
    rows = {count: predict(Timed([[1000.0 / count] * count], [size], [0], 0), one, count, 32 * MIB, 10.0)
            for count in (1, 2, SATURATING, 4 * SATURATING)}  # fmt: skip
    assert rows[1].latency == pytest.approx(size / 10)
    assert rows[2].memory == pytest.approx(size / 20 - 500)
    saturated = size / (10 * SATURATING)
    for count in (SATURATING, 4 * SATURATING):
        assert rows[count].latency - rows[count].barriers == pytest.approx(saturated)
        assert rows[count].busy == pytest.approx(count * saturated)
    assert predict(one, one, 1, 128 * MIB, 10.0).latency == 1000


def test_the_command_predicts_up_to_the_cores_of_a_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, topology = tmp_path / "model.onnx", tmp_path / "machine.json"
    onnx.save(chain(2, 64), file)
    topology.write_text(machine([[6, 6, 0, 0, 0, 0]]).to_json())
    assert main(["plan", "--scaling", "-m", str(file), "--topology", str(topology)]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(at for at, line in enumerate(lines) if line.split()[:2] == ["cores", "latency"])
    assert [line.split()[0] for line in lines[head + 1 : head + 5]] == ["1", "2", "4", "6"]
    assert lines[head + 5] == "assumed:"
    assert len(lines) > head + 10
