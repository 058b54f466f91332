"""Remote tensors of device GPU: memory that stays on the device between inferences."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from support.gpu_models import X, Y, chain

import cpuruntime as ov
from cpuruntime.gpu_runtime.recording import RecordingRuntime


class TestRemoteTensors:
    """Memory of the device that stays there between inferences."""

    def test_two_models_are_chained_without_a_copy(self, recorder: RecordingRuntime) -> None:
        core = ov.Core()
        context = core.get_default_context("GPU")
        with core.compile_model(chain(), "GPU") as one, core.compile_model(chain(), context) as two:
            between, result = (context.create_tensor(ov.Type.f32, [4, 64]) for _ in range(2))
            first, second = one.create_infer_request(), two.create_infer_request()
            first.set_output_tensor(between)
            second.set_tensor("x", between)
            second.set_tensor("y", result)
            before = recorder.copied
            first.infer()
            assert second.infer()[0].size == 0
            assert recorder.copied == before
            assert second.get_tensor("x") is between
            second.infer(X)
            assert second.get_tensor("x") is not between

    @pytest.mark.filterwarnings("ignore:Non-empty compiler output")
    def test_results_of_chained_models_and_a_kernel_of_the_users(self, gpu: str) -> None:
        cl = pytest.importorskip("pyopencl")
        core = ov.Core()
        context = core.get_default_context(gpu)
        with core.compile_model(chain(), gpu) as one, core.compile_model(chain(), gpu) as two:
            own = cl.Buffer(context.handle, cl.mem_flags.READ_WRITE, X.nbytes)
            source = context.create_tensor(ov.Type.f32, [4, 64], {"MEM_HANDLE": own})
            between, result = (context.create_tensor(ov.Type.f32, [4, 64]) for _ in range(2))
            text = "__kernel void twice(__global float *x) { x[get_global_id(0)] *= 2; }"
            source.copy_from(X / 2)
            queue = cl.CommandQueue(context.handle)
            cl.Program(context.handle, text).build().twice(queue, (X.size,), None, own)
            queue.finish()
            first, second = one.create_infer_request(), two.create_infer_request()
            first.set_tensor("x", source)
            first.set_tensor("y", between)
            second.set_tensor("x", between)
            second.set_tensor("y", result)
            first.infer()
            second.infer()
            found = ov.Tensor(ov.Type.f32, [4, 64])
            result.copy_to(found)
            np.testing.assert_allclose(found.data, 1 / (1 + np.exp(-2 * Y)), atol=1e-6)
            assert first.infer(X)[0].size == 0
            between.copy_to(found)
            np.testing.assert_allclose(found.data, Y, atol=1e-6)

    def test_a_context_of_the_users(self, gpu: str) -> None:
        cl = pytest.importorskip("pyopencl")
        core = ov.Core()
        default = core.get_default_context(gpu)
        context = core.create_context(gpu, {"OCL_CONTEXT": cl.Context(default.handle.devices)})
        assert (context.get_device_name(), context.get_params()["OCL_CONTEXT"]) == (gpu, context.handle)
        tensor = context.create_tensor("f32", [4, 64])
        tensor.copy_from(X)
        with core.compile_model(chain(), context) as compiled, core.compile_model(chain(), gpu) as other:
            np.testing.assert_allclose(compiled({"x": tensor})[0], Y, atol=1e-6)
            with pytest.raises(ov.InvalidArgumentError, match="of another context than the model"):
                other({"x": tensor})
        with pytest.raises(ov.InvalidArgumentError, match="no OpenCL context"):
            core.create_context(gpu, {"OCL_CONTEXT": "mine"})

    def test_a_tensor_of_dlpack(self, gpu: str) -> None:
        context = ov.Core().get_default_context(gpu)
        held = context.create_tensor("f32", [4, 64])
        held.copy_from(X)
        adopted = context.create_tensor("f32", [2, 64], {"MEM_HANDLE": Packed(held.get_params()["MEM_HANDLE"], 512)})
        found = ov.Tensor(ov.Type.f32, [2, 64])
        adopted.copy_to(found)
        np.testing.assert_array_equal(found.data, X[2:])
        with pytest.raises(ov.InvalidArgumentError, match="lies elsewhere"):
            context.create_tensor("f32", [4, 64], {"MEM_HANDLE": X})

    def test_what_does_not_fit_is_refused(self, recorder: RecordingRuntime) -> None:
        core = ov.Core()
        context = core.get_default_context("GPU")
        tensor = context.create_tensor("f32", [4, 64])
        assert (tensor.shape, tensor.byte_size, tensor.get_device_name()) == ([4, 64], 1024, "GPU")
        with core.compile_model(chain(), "GPU") as compiled, core.compile_model(chain(), "CPU") as other:
            request = compiled.create_infer_request()
            for wrong in (context.create_tensor("f32", [4, 63]), context.create_tensor("i32", [4, 64])):
                with pytest.raises(ov.InvalidArgumentError):
                    request.set_tensor("x", wrong)
            with pytest.raises(ov.UnsupportedError, match="no remote tensors"):
                other({"x": tensor})
        with pytest.raises(ov.InvalidArgumentError, match="1028 bytes; the memory has 1024"):
            context.create_tensor("f32", [257], {"MEM_HANDLE": tensor.get_params()["MEM_HANDLE"]})
        with pytest.raises(ov.UnsupportedError, match="copy_to"):
            tensor.data.sum()
        with pytest.raises(ov.UnsupportedError, match="no memory of its own"):
            core.get_default_context("CPU")

    def test_a_host_tensor_is_used_in_place(self, recorder: RecordingRuntime) -> None:
        core = ov.Core()
        tensor = core.get_default_context("GPU").create_host_tensor("f32", [4, 64])
        with core.compile_model(chain(), "GPU") as compiled:
            request = compiled.create_infer_request()
            request.set_tensor("x", tensor)
            before = recorder.copied
            request.infer()
            assert recorder.copied == before


class Packed:
    """A tensor f32[2,64] of OpenCL memory, as a library with DLPack gives it."""

    def __init__(self, buffer, offset: int) -> None:
        from cpuruntime.gpu_runtime import dlpack

        self._shape = (ctypes.c_int64 * 2)(2, 64)
        self._tensor = dlpack.Tensor(buffer.int_ptr, dlpack.OPENCL, 0, 2, 2, 32, 1, self._shape, None, offset)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 4, 0

    def __dlpack__(self):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self._tensor), b"dltensor", None)
