"""The seam to GPUs: the OpenCL runtime on a driver, and the recording one."""

from __future__ import annotations

import gc
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.gpu_models import X, Y, chain

import cpuruntime as ov
from cpuruntime.errors import DeviceUnavailableError, InvalidArgumentError, OutOfMemoryError
from cpuruntime.gpu_runtime import drivers
from cpuruntime.gpu_runtime.end import End
from cpuruntime.gpu_runtime.interface import BuildError, Call, Copy, GpuRuntime, Slot
from cpuruntime.gpu_runtime.recording import RecordingRuntime

SOURCE = (
    "__kernel void scale(__global float *to, __global const float *from, float by, int count) {"
    " int i = get_global_id(0); if (i < count) to[i] = from[i] * by + i; }"
)
COUNT = 1024


@pytest.fixture(scope="module")
def opencl() -> GpuRuntime:
    reason = drivers.reason()
    if reason is not None:
        pytest.skip(reason)
    return drivers.devices()[0]


def _emulated() -> RecordingRuntime:
    def scale(arguments: list, size: tuple[int, ...]) -> None:
        to, source, by, count = arguments
        to.view(np.float32)[:count] = source.view(np.float32)[:count] * np.float32(by) + np.arange(count)

    return RecordingRuntime({"scale": scale})


@pytest.fixture(params=["opencl", "recording"])
def runtime(request: pytest.FixtureRequest) -> GpuRuntime:
    return request.getfixturevalue("opencl") if request.param == "opencl" else _emulated()


def _twice(runtime: GpuRuntime, queue, first, last):
    """Launches that scale from an argument to another through a part of a buffer."""
    module = runtime.build(SOURCE)
    between = runtime.allocate(8192).at(4096, 4096)
    sizes = (COUNT,), (64,)
    return queue.record([
        Call(module, "scale", (between, first, 2.0, COUNT), *sizes),
        Call(module, "scale", (last, between, 3.0, COUNT - 24), *sizes),
    ])  # fmt: skip


def test_launches_run_in_their_order_on_memory_in_place(runtime: GpuRuntime) -> None:
    queue, end = runtime.queue(), End()
    source, result = runtime.allocate(4096, host=True), runtime.allocate(4096, host=True)
    recorded = _twice(runtime, queue, Slot(0), Slot(1))
    for start in (1, 5):
        source.array.view(np.float32)[:] = start
        result.array.view(np.float32)[:] = -1
        queue.submit(queue.prepare(recorded, [source, result], [source, result]), end)
        assert end.wait(60)
        assert end.status == 0
        wanted = (start * 2 + np.arange(COUNT)) * 3 + np.arange(COUNT)
        np.testing.assert_array_equal(result.array.view(np.float32)[:-24], wanted[:-24])
        assert (result.array.view(np.float32)[-24:] == -1).all()


def test_copies_surround_launches(runtime: GpuRuntime) -> None:
    queue, end = runtime.queue(), End()
    source, result = runtime.allocate(4096), runtime.allocate(4096)
    numbers, found = np.arange(COUNT, dtype=np.float32), np.zeros(COUNT, np.float32)
    recorded = _twice(runtime, queue, source, result)
    writes, reads = [Copy(source, numbers.ctypes.data)], [Copy(result, found.ctypes.data)]
    queue.submit(queue.prepare(recorded, writes=writes, reads=reads), end)
    assert end.wait(60)
    np.testing.assert_array_equal(found[:-24], (numbers * 10)[:-24])


def test_a_users_page_is_used_in_place_and_other_memory_is_not(runtime: GpuRuntime) -> None:
    pages = np.zeros(3 * 4096, np.uint8)
    page = pages[-pages.ctypes.data % 4096 :][:4096]
    lent = runtime.lend(page)
    assert (lent is None) == (not runtime.facts.is_unified)
    assert lent is None or lent.array.ctypes.data == page.ctypes.data
    assert runtime.lend(pages[-page.ctypes.data % 4096 + 4 :][:4096]) is None


def test_a_text_that_does_not_compile_gives_the_log(opencl: GpuRuntime) -> None:
    with pytest.raises(BuildError) as caught:
        opencl.build("__kernel void broken() { nowhere(1); }")
    assert "nowhere" in caught.value.log


def test_a_binary_is_loaded_and_a_damaged_one_refused(opencl: GpuRuntime) -> None:
    module = opencl.build(SOURCE)
    memory, queue, end = opencl.allocate(4096), opencl.queue(), End()
    queue.submit(queue.prepare(queue.record([Call(module, "scale", (memory, memory, 1.0, 8), (64,), (64,))])), end)
    assert end.wait(60)
    again = opencl.load(module.binary())
    opencl.fill(memory, np.ones(COUNT, np.float32))
    queue.submit(queue.prepare(queue.record([Call(again, "scale", (memory, memory, 1.0, 8), (64,), (64,))])), end)
    assert end.wait(60)
    found = np.zeros(COUNT, np.float32)
    opencl.read(memory, found)
    assert found[:9].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 1]
    with pytest.raises(BuildError):
        opencl.load(b"nothing that a driver made")


def test_more_memory_than_there_is(opencl: GpuRuntime) -> None:
    with pytest.raises(OutOfMemoryError, match="smaller batch"):
        opencl.allocate(opencl.facts.largest + 1)


def test_memory_to_copy_from_is_the_drivers_where_a_device_has_its_own(opencl: GpuRuntime) -> None:
    runtime = type(opencl)(opencl.device)
    runtime.facts = replace(runtime.facts, is_unified=False)
    with drivers.replaced([runtime]), ov.Core().compile_model(chain(), "GPU") as compiled:
        request = compiled.create_infer_request()
        before = runtime.statistics()["usm_host"]
        assert before > 0
        request.input_tensors[0].data[:] = X
        request.infer()
        np.testing.assert_allclose(request.output_tensors[0].data, Y, atol=1e-6)
        del request
        gc.collect()
        assert runtime.statistics()["usm_host"] < before


class _Simulator:
    """The device of a driver, as Oclgrind shows itself."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self.platform = SimpleNamespace(name="Oclgrind", version="OpenCL 1.2", get_devices=lambda: [self])
        self.type = -1  # of every kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)


def test_a_simulator_is_no_graphics_processor_and_comes_last(
    opencl: GpuRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyopencl

    from cpuruntime.gpu_runtime import opencl as driver

    real = opencl.device.platform
    platforms = [_Simulator(opencl.device).platform, SimpleNamespace(get_devices=real.get_devices)]
    monkeypatch.setattr(pyopencl, "get_platforms", lambda: platforms)
    found = driver.devices()
    assert [runtime.facts.kind for runtime in found][-1] == "other"
    assert found[0].device == opencl.device


def test_memory_of_others(opencl: GpuRuntime) -> None:
    import pyopencl

    own = pyopencl.Buffer(opencl.context, pyopencl.mem_flags.READ_WRITE, 4096)
    theirs = pyopencl.Context(opencl.context.devices)  # which a buffer of Intel's driver does not keep
    other = pyopencl.Buffer(theirs, pyopencl.mem_flags.READ_WRITE, 4096)
    opencl.fill(opencl.adopt(own), np.arange(COUNT, dtype=np.float32))
    found = np.zeros(COUNT, np.float32)
    opencl.read(opencl.adopt(own.int_ptr), found)
    assert found[-1] == COUNT - 1
    with pytest.raises(InvalidArgumentError, match="another OpenCL context"):
        opencl.adopt(other)
    with pytest.raises(InvalidArgumentError, match=r"pyopencl\.Buffer"):
        opencl.adopt("mine")
    with pytest.raises(InvalidArgumentError, match="lies elsewhere"):
        opencl.adopt(found)


@pytest.mark.parametrize("callbacks", [0, 1, 2])
def test_an_end_is_heard_however_often_the_driver_calls_back(callbacks: int) -> None:
    runtime, end = RecordingRuntime(), End()
    runtime.faults.callbacks = callbacks
    runtime.faults.held.clear()
    queue = runtime.queue()
    for _ in range(3):
        runtime.faults.held.clear()
        queue.submit(queue.prepare(queue.record([])), end)
        assert not end.wait(0.01)
        end.notify()  # by an earlier submission
        assert end.is_pending
        runtime.faults.held.set()
        assert end.wait(60)


def test_a_callback_after_the_end_is_gone_writes_to_memory_that_is_not_freed() -> None:
    end = End()
    address = end.address
    del end
    assert End().address == address  # lent again, and never to anything else


def test_a_lost_device_refuses_commands_or_ends_them_with_an_error() -> None:
    runtime, end = RecordingRuntime(), End()
    queue = runtime.queue()
    runtime.faults.status = -14
    queue.submit(queue.prepare(queue.record([])), end)
    assert end.wait(60)
    assert end.status == -14
    runtime.faults.is_lost = True
    with pytest.raises(DeviceUnavailableError, match="lost"):
        queue.submit(queue.prepare(queue.record([])), end)


def test_the_reason_names_the_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "RUNTIMES", {"no_such_package": ""})
    with drivers.replaced(None):
        assert "pip install cpuruntime[gpu]" in drivers.reason()
