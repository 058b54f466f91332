"""Device GPU: on a driver where one is installed, and on the runtime without a driver, which fails as it is told to."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from support.gpu_models import MODEL, X, Y, chain

import cpuruntime as ov
from cpuruntime.devices.gpu.modules import Modules
from cpuruntime.gpu_runtime import drivers
from cpuruntime.gpu_runtime.end import End
from cpuruntime.gpu_runtime.recording import RecordingRuntime
from cpuruntime.host.ledger import Ledger


def compile_and_close() -> None:
    """Compile the model for the GPU, and close it."""
    with ov.Core().compile_model(chain(), "GPU"):
        pass


class TestOnADriver:
    """What needs kernels that run."""

    def test_ten_thousand_requests_of_four_threads_over_two_streams(self, gpu: str) -> None:
        with ov.Core().compile_model(chain(), gpu, {"PERFORMANCE_HINT": "THROUGHPUT"}) as compiled:
            assert compiled.get_property("NUM_STREAMS") == 2
            wrong: list[int] = []

            def work(number: int, count: int) -> None:
                request = compiled.create_infer_request()
                for step in range(count):
                    x = X + np.float32(number + step % 64 / 64)
                    wanted = 1 / (1 + np.exp(-2 * x))
                    wrong.extend([step] * (not np.allclose(request.infer(x)[0], wanted, 0, 1e-6)))

            def all_of_them(count: int) -> tuple[dict[str, int], int]:
                threads = [threading.Thread(target=work, args=(number, count)) for number in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                gc.collect()
                return ov.Core().get_property(gpu, "GPU_MEMORY_STATISTICS"), psutil.Process().memory_info().rss

            device, host = all_of_them(500)
            later_device, later_host = all_of_them(2000)
            assert wrong == []
            assert later_device == device
            assert later_host - host < 8000 * 1000  # a leak of an object for each of the 8,000 would be more

    def test_floats_lie_in_memory_as_asked(self, gpu: str) -> None:
        for config, name, error in (
            ({}, "f32", 1e-6),
            ({"INFERENCE_PRECISION_HINT": "f16"}, "f16", 5e-3),
            ({"INFERENCE_PRECISION_HINT": "f16", "EXECUTION_MODE_HINT": "ACCURACY"}, "f32", 1e-6),
        ):
            with ov.Core().compile_model(chain(), gpu, config) as compiled:
                assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == name
                assert f"floats lie in memory as {name}" in str(compiled.explain())
                np.testing.assert_allclose(compiled(X)[0], Y, atol=error)

    def test_shapes_that_change(self, gpu: str) -> None:
        with ov.Core().compile_model(chain("n"), gpu) as compiled:
            request = compiled.create_infer_request()
            for rows in (1, 4, 2, 4, 0):
                np.testing.assert_allclose(request.infer(X[:rows])[0], Y[:rows], atol=1e-6)

    def test_parts_without_kernels_run_on_another_device(self, gpu: str) -> None:
        text = MODEL.replace("y = Sigmoid(d)", "s = Sigmoid(d) [places] y = NonZero(s)").replace(
            "=> (float[N,64] y)", "=> (int64[2,M] y)"
        )
        model = onnx.parser.parse_model(text.replace("N,", "4,"))
        with pytest.raises(ov.UnsupportedError, match="NonZero 'places'"):
            ov.Core().compile_model(model, gpu)
        core = ov.Core()
        assert {"double", "bend"} <= core.query_model(core.read_model(model), gpu).keys()
        assert "places" not in core.query_model(core.read_model(model), gpu)
        with ov.Core().compile_model(model, f"HETERO:{gpu},CPU") as compiled:
            np.testing.assert_array_equal(compiled(X)[0], np.array(np.nonzero(Y)))

    def test_the_cpu_answers_while_kernels_are_built(self, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
        may_build, build = threading.Event(), Modules.build
        monkeypatch.setattr(Modules, "build", lambda *arguments: may_build.wait(60) and build(*arguments))
        with ov.Core().compile_model(chain(), f"AUTO:{gpu},CPU") as compiled:
            assert compiled.get_property("EXECUTION_DEVICES") == ["(CPU)"]
            np.testing.assert_allclose(compiled(X)[0], Y, atol=1e-6)
            may_build.set()
            assert compiled.wait_until_optimized(60)
            assert compiled.get_property("EXECUTION_DEVICES") == [gpu]
            np.testing.assert_allclose(compiled(X)[0], Y, atol=1e-6)

    def test_several_devices_serve_one_queue(self, gpu: str) -> None:
        with ov.Core().compile_model(chain(), f"MULTI:{gpu},CPU") as compiled:
            queue = ov.AsyncInferQueue(compiled, 4)
            queue.set_callback(lambda request, _: np.testing.assert_allclose(request.results[0], Y, atol=1e-6))
            for _ in range(40):
                queue.start_async(X)
            queue.wait_all()

    def test_steps_are_timed(self, gpu: str) -> None:
        with ov.Core().compile_model(chain(), gpu, {"PERF_COUNT": True}) as compiled:
            request = compiled.create_infer_request()
            request.infer(X)
            rows = request.profiling_info
            assert {row.exec_type for row in rows} == {"elementwise"}
            assert all(row.real_time.total_seconds() > 0 for row in rows)

    def test_a_forked_child_is_refused(self, gpu: str) -> None:
        code = (
            "import os, numpy, onnx, cpuruntime as ov\n"
            f"model = onnx.parser.parse_model('''{MODEL.replace('N', '4')}''')\n"
            "x = numpy.ones((4, 64), 'f4')\n"
            f"compiled = ov.Core().compile_model(model, '{gpu}')\n"
            "request = compiled.create_infer_request()\n"
            "request.infer(x)\n"
            "if not os.fork():\n"
            "    try:\n"
            "        request.infer(x)\n"
            "    except ov.Error as error:\n"
            "        print(error)\n"
            "    print(ov.Core().unavailable_devices['GPU'], flush=True)\n"
            "    os._exit(0)\n"
            "os.wait()\n"
            "print(request.infer(x)[0][0, 0] > 0.8)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
        request, core, parent = done.stdout.splitlines()
        assert "before the process forked" in request
        assert "forked from one that uses drivers" in core
        assert parent == "True"


class TestFaults:
    """What a driver may do wrong, by the runtime without one; its kernels compute nothing."""

    def test_a_kernel_that_does_not_build(self, recorder: RecordingRuntime, caplog: pytest.LogCaptureFixture) -> None:
        recorder.faults.unbuilt = "KERNEL"
        for _ in range(2):
            with (
                caplog.at_level(logging.WARNING, "cpuruntime"),
                pytest.raises(ov.UnsupportedError, match=r"Model 'chain', .*'double'.*does not build its kernel"),
            ):
                ov.Core().compile_model(chain(), "GPU")
        assert caplog.text.count("error: in KERNEL") == 1
        with ov.Core().compile_model(chain(), "AUTO:GPU,CPU") as compiled:
            np.testing.assert_allclose(compiled(X)[0], Y, atol=1e-6)

    def test_binaries_are_stored_and_built_again_where_refused(self, recorder: RecordingRuntime) -> None:
        compile_and_close()
        built = len(recorder.built)
        assert built > 0
        for refuses, loads, builds in ((False, built, 0), (True, 0, built), (False, built, 0)):
            other = RecordingRuntime()
            other.faults.refuses_binaries = refuses
            with drivers.replaced([other]):
                compile_and_close()
            assert (len(other.loaded), len(other.built)) == (loads, builds)
        updated = RecordingRuntime(driver="recording 2")
        with drivers.replaced([updated]):
            compile_and_close()
        assert (len(updated.loaded), len(updated.built)) == (0, built)

    def test_too_little_memory(self, recorder: RecordingRuntime) -> None:
        recorder.faults.most_memory = 100
        with pytest.raises(ov.OutOfMemoryError, match="bytes left"):
            ov.Core().compile_model(chain(), "GPU")
        recorder.faults.most_memory = 2**20
        with ov.Core().compile_model(chain(), "GPU") as compiled:
            compiled(X)

    def test_a_lost_device(self, recorder: RecordingRuntime) -> None:
        with ov.Core().compile_model(chain(), "GPU") as compiled:
            request = compiled.create_infer_request()
            recorder.faults.is_lost = True
            with pytest.raises(ov.DeviceUnavailableError, match="lost"):
                request.infer(X)
            recorder.faults.is_lost, recorder.faults.status = False, -14
            with pytest.raises(ov.DeviceUnavailableError, match="ended an inference of model 'chain' with error -14"):
                request.infer(X)
            recorder.faults.status = 0
            request.infer(X)

    @pytest.mark.parametrize("device", ["MULTI:GPU,CPU", "AUTO:GPU,CPU"])
    def test_inferences_of_a_lost_device_run_elsewhere(self, recorder: RecordingRuntime, device: str) -> None:
        with ov.Core().compile_model(chain(), device) as compiled:
            compiled.wait_until_optimized()
            recorder.faults.is_lost = True
            for _ in range(8):
                np.testing.assert_allclose(compiled(X)[0], Y, atol=1e-6)

    @pytest.mark.parametrize("callbacks", [0, 2])
    def test_callbacks_that_never_come_or_twice(self, recorder: RecordingRuntime, callbacks: int) -> None:
        recorder.faults.callbacks = callbacks
        with ov.Core().compile_model(chain(), "GPU") as compiled:
            request = compiled.create_infer_request()
            for _ in range(3):
                request.start_async(X)
                assert request.wait_for(60_000)

    def test_a_driver_that_hangs(self, recorder: RecordingRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
        with ov.Core().compile_model(chain(), "GPU") as compiled:
            request = compiled.create_infer_request()
            monkeypatch.setattr(End, "MOST_SECONDS", 0.05)
            recorder.faults.held.clear()
            with pytest.raises(ov.DeviceUnavailableError, match="did not end an inference of model 'chain' in 0 s"):
                request.infer(X)
            recorder.faults.held.set()
            monkeypatch.undo()
            request.infer(X)

    def test_a_copy_that_hangs(self, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
        tensor = ov.Core().get_default_context(gpu).create_tensor(ov.Type.u8, [64])
        wait = End.wait
        with monkeypatch.context() as patch:
            patch.setattr(End, "wait", lambda end, timeout: wait(end, timeout) and False)
            with pytest.raises(ov.DeviceUnavailableError, match="did not end a copy in 600 s: its driver hangs"):
                tensor.copy_from(ov.Tensor(np.ones(64, np.uint8)))
        tensor.copy_from(ov.Tensor(np.ones(64, np.uint8)))

    def test_batches_for_which_memory_lacks_are_smaller(self) -> None:
        def compute(_: list, size: tuple[int, ...]) -> None:
            time.sleep(0.002)

        runtime = RecordingRuntime({"elementwise": compute})
        runtime.faults.most_memory = 13500
        with drivers.replaced([runtime]), ov.Core().compile_model(chain(1), "BATCH:GPU(16)") as compiled:
            explained = str(compiled.explain())
            assert "no batches of 16 or more: Device GPU has too little memory" in explained
            assert "no batches of 8 or more: Recorder has no" in explained
            runtime.faults.most_memory = 2**20
            requests = [compiled.create_infer_request() for _ in range(4)]
            for request in requests:
                request.start_async(X[:1])
            for request in requests:
                request.wait()
            assert "groups so far: " in str(compiled.explain())

    def test_what_waits_for_a_busy_device_is_cancelled_or_late(self, recorder: RecordingRuntime) -> None:
        with ov.Core().compile_model(chain(), "GPU") as compiled:
            running, waiting, late = (compiled.create_infer_request() for _ in range(3))
            recorder.faults.held.clear()
            before = len(recorder.submitted)
            running.start_async(X)
            while len(recorder.submitted) == before:
                time.sleep(0.001)
            waiting.start_async(X)
            late.start_async(X, deadline_ms=1)
            waiting.cancel()
            with pytest.raises(ov.CancelledError):
                waiting.wait()
            with pytest.raises(ov.DeadlineExceededError):
                late.wait()
            assert not running.wait_for(0)
        recorder.faults.held.set()
        running.wait()


class TestMemory:
    """What is copied, and what is used in place."""

    def test_memory_is_bound_once_for_inferences_that_use_the_same(self, recorder: RecordingRuntime) -> None:
        with ov.Core().compile_model(chain(), "GPU") as compiled:
            request, other = compiled.create_infer_request(), compiled.create_infer_request()
            for one, bound in ((request, 1), (request, 0), (other, 1), (other, 0), (request, 1)):
                before = recorder.prepared
                one.infer()
                assert recorder.prepared - before == bound

    def test_memory_of_pages_is_used_in_place(self, recorder: RecordingRuntime) -> None:
        pages = np.zeros(3 * 4096, np.uint8)
        begin = -pages.ctypes.data % 4096
        page = pages[begin : begin + 1024].view(np.float32).reshape(4, 64)
        beside = pages[begin + 64 : begin + 64 + 1024].view(np.float32).reshape(4, 64)
        with ov.Core().compile_model(chain(), "GPU") as compiled:
            request = compiled.create_infer_request()
            for array, copies in ((None, 0), (page, 0), (beside, 1), (request.input_tensors[0].data, 0)):
                if array is not None:
                    request.set_input_tensor(ov.Tensor(array, shared_memory=True))
                before = recorder.copied
                request.infer()
                assert recorder.copied - before == copies

    def test_a_device_with_memory_of_its_own_copies(self) -> None:
        runtime = RecordingRuntime(is_unified=False)
        with drivers.replaced([runtime]), ov.Core().compile_model(chain(), "GPU") as compiled:
            before = runtime.copied
            compiled(X)
            assert runtime.copied - before == 2
            assert "copied to the device and back" in str(compiled.explain())


class TestStoredModels:
    """The model cache, export and import."""

    def test_a_stored_model_gives_the_same_results(self, gpu: str, tmp_path: Path) -> None:
        core = ov.Core()
        weights = np.random.default_rng(0).standard_normal((64, 32), np.float32)
        text = MODEL.replace("=> (float[N,64] y)", "=> (float[N,32] y)").replace("y = Sigmoid(d)", "y = MatMul(d, w)")
        model = onnx.parser.parse_model(text.replace("N", "4"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
        with core.compile_model(model, gpu) as compiled:
            wanted, exported = compiled(X)[0], compiled.export_model()
        np.testing.assert_allclose(wanted, 2 * X @ weights, atol=1e-4)
        with core.import_model(exported, gpu) as imported:
            np.testing.assert_array_equal(imported(X)[0], wanted)
            assert imported.get_property("LOADED_FROM_CACHE")
            assert [row.op_type for row in imported.explain().rows] == [row.op_type for row in compiled.explain().rows]
        for is_loaded in (False, True):
            with core.compile_model(model, gpu, {"CACHE_DIR": str(tmp_path)}) as cached:
                assert cached.get_property("LOADED_FROM_CACHE") is is_loaded
                np.testing.assert_array_equal(cached(X)[0], wanted)

    def test_another_driver_or_type_of_floats_compiles_again(self, recorder: RecordingRuntime, tmp_path: Path) -> None:
        core, config = ov.Core(), {"CACHE_DIR": str(tmp_path)}
        found = []
        for driver, more in (("1", {}), ("1", {}), ("1", {"INFERENCE_PRECISION_HINT": "f32"}), ("2", {})):
            with (
                drivers.replaced([RecordingRuntime(driver=driver)]),
                core.compile_model(chain(), "GPU", config | more) as compiled,
            ):
                found.append(compiled.get_property("LOADED_FROM_CACHE"))
                exported = compiled.export_model()
        assert found == [False, True, False, False]
        with pytest.raises(ov.ModelError, match="another device or driver"):
            core.import_model(exported, "GPU")


class TestChoice:
    """When it is used without being named."""

    def test_f16_and_batches_are_the_default_of_a_real_one(self, recorder: RecordingRuntime) -> None:
        core = ov.Core()
        assert core.get_property("GPU", "INFERENCE_PRECISION_HINT") == ov.Type.f16
        with core.compile_model(chain(1), "GPU", {"PERFORMANCE_HINT": "THROUGHPUT"}) as compiled:
            assert "BATCH:GPU(16)" in str(compiled.explain())
            requests = [compiled.create_infer_request() for _ in range(20)]
            for request in requests:
                request.start_async(X[:1])
            for request in requests:
                request.wait()
        with core.compile_model(chain(1), "GPU") as compiled:
            assert compiled.get_property("OPTIMAL_BATCH_SIZE") == 16
            assert compiled.get_property("MAX_BATCH_SIZE") >= 16

    def test_the_submitting_thread_has_a_processor_in_the_ledger(
        self, recorder: RecordingRuntime, ledger: Ledger
    ) -> None:
        with ov.Core().compile_model(chain(), "GPU"):
            with ov.Core().compile_model(chain(), "GPU"):  # it is one for all models of the device
                (holder,) = ledger.holders()
                assert (holder.name, len(holder.cpus)) == ("chain", 1)
            assert ledger.holders() == [holder]
        assert ledger.holders() == []

    def test_a_driver_without_floats_of_16_bits(self) -> None:
        with drivers.replaced([RecordingRuntime(half="none")]):
            with ov.Core().compile_model(chain(), "GPU", {"INFERENCE_PRECISION_HINT": "f16"}) as compiled:
                assert compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
                assert "the driver has no f16" in str(compiled.explain())
            assert "FP16" not in ov.Core().get_property("GPU", "OPTIMIZATION_CAPABILITIES")

    @pytest.mark.parametrize(("kind", "hardware", "found"), [
        ("gpu", True, ["GPU.0", "CPU"]), ("cpu", True, ["CPU"]), ("gpu", False, ["CPU"]),
    ])  # fmt: skip
    def test_auto_takes_real_ones_alone(
        self, monkeypatch: pytest.MonkeyPatch, kind: str, hardware: bool, found: list[str]
    ) -> None:
        monkeypatch.setattr(drivers, "has_hardware", lambda: hardware)
        from cpuruntime.devices.host import Devices

        with drivers.replaced([RecordingRuntime(kind=kind)]):
            assert Devices().automatic() == found
            assert "GPU" in ov.Core().available_devices

    def test_nothing_of_it_is_loaded_for_other_devices(self) -> None:
        code = (
            "import sys, numpy, onnx, cpuruntime as ov\n"
            f"model = onnx.parser.parse_model('''{MODEL.replace('N', '4')}''')\n"
            "from cpuruntime.gpu_runtime import drivers\n"
            "drivers.has_hardware = lambda: False\n"
            "for device in ('CPU', 'AUTO'):\n"
            "    with ov.Core().compile_model(model, device) as compiled: compiled(numpy.zeros((4, 64), 'f4'))\n"
            "print(*(name for name in sys.modules if 'opencl' in name or name.startswith('cpuruntime.gpu_runtime.')"
            " or name.startswith('cpuruntime.devices.gpu.')))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["cpuruntime.gpu_runtime.drivers", "cpuruntime.devices.gpu.plugin"]

    def test_to_ask_whether_there_is_one_loads_little(self) -> None:
        code = (
            "import sys\n"
            "from cpuruntime.devices.host import Devices\n"
            "from cpuruntime.gpu_runtime import drivers\n"
            "drivers.has_hardware = lambda: False\n"
            "devices, before = Devices(), set(sys.modules)\n"
            "assert not devices.plugin('GPU').is_automatic\n"
            "print(*(name for name in set(sys.modules) - before if name.startswith('cpuruntime.')))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert sorted(done.stdout.split()) == ["cpuruntime.devices.gpu", "cpuruntime.devices.gpu.plugin"]

    def test_without_a_driver_the_reason_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with drivers.replaced([]):
            assert "no OpenCL driver" in ov.Core().unavailable_devices["GPU"]
            with pytest.raises(ov.DeviceUnavailableError, match="pocl-binary-distribution"):
                ov.Core().compile_model(chain(), "GPU")
