"""Ways to compute a node on the GPU: timed once on the device, by the runtime without a driver, and stored."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.judge import Net

import cpuruntime as ov
from cpuruntime.gpu_runtime import drivers
from cpuruntime.gpu_runtime.recording import RecordingRuntime

WINOGRAD = {"winograd_spread", "product", "winograd_collect"}


def kernels_of(runtime: RecordingRuntime) -> tuple[set[str], int]:
    """The kernels of a 3x3 convolution compiled on a device, and how many launches were timed for it."""
    n = Net()
    n.output(n.conv(n.input(1, 16, 8, 8), 16, 16, 3, pads=[1, 1, 1, 1]))
    with drivers.replaced([runtime]), ov.Core().compile_model(n.model(), "GPU") as compiled:
        assert "timed on this device, once" in str(compiled.explain())
        (row,) = compiled.explain().rows
        found = set(row.kernel.split(", "))
        return found, len(runtime.submitted) - len(found)


@pytest.mark.parametrize(("slow", "found"), [("pad", WINOGRAD), ("winograd_collect", {"pad", "product"})])
def test_the_faster_way_is_chosen(recorder: RecordingRuntime, slow: str, found: set[str]) -> None:
    recorder.durations[slow] = 10**6
    assert kernels_of(recorder)[0] == found


def test_a_choice_holds_for_a_device_and_its_driver(recorder: RecordingRuntime) -> None:
    recorder.durations["pad"] = 10**6
    assert kernels_of(recorder)[1] > 0
    other = RecordingRuntime()  # where it would be another choice
    other.durations["winograd_spread"] = 10**6
    assert kernels_of(other) == (WINOGRAD, 0)
    updated = RecordingRuntime(driver="recording 2")
    updated.durations["winograd_spread"] = 10**6
    found, timed = kernels_of(updated)
    assert found == {"pad", "product"}
    assert timed > 0


def test_a_way_that_does_not_build_is_left_out(recorder: RecordingRuntime) -> None:
    recorder.durations["pad"] = 10**6
    recorder.faults.unbuilt = "winograd_collect"
    assert kernels_of(recorder)[0] == {"pad", "product"}


def test_damaged_choices_are_timed_again(recorder: RecordingRuntime, tmp_path: Path) -> None:
    recorder.durations["pad"] = 10**6
    kernels_of(recorder)
    stored = list((tmp_path / "kernels").glob("gpu-way-*"))
    assert stored
    for file in stored:
        file.write_bytes(b"\xff" * file.stat().st_size)
    found, timed = kernels_of(recorder)
    assert found == WINOGRAD
    assert timed > len(found)
