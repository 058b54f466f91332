"""A program as users write it, in which strict type checkers find nothing; it runs, too."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import numpy.typing as npt

import cpuruntime as ov
import cpuruntime.properties as props
from cpuruntime.properties import hint, streams

Array = npt.NDArray[np.float32]


def compiled_model(source: bytes) -> ov.CompiledModel:
    core = ov.Core()
    core.set_property("CPU", {props.enable_profiling: False, hint.performance_mode: hint.PerformanceMode.LATENCY})
    model: ov.Model = core.read_model(source)
    shape: ov.PartialShape = model.input(0).partial_shape
    shape[0] = ov.Dimension(1, 8)
    model.reshape({0: shape})
    names: set[str] = model.outputs[0].names
    devices: list[str] = core.available_devices
    assert names
    assert devices
    assert props.hint.num_requests != ""
    return core.compile_model(model, "REFERENCE", {streams.num: 1, "PERFORMANCE_HINT_NUM_REQUESTS": 2})


def infer(compiled: ov.CompiledModel, x: Array) -> Array:
    result = compiled({0: x})
    y: Array = result[compiled.output(0)]
    request = compiled.create_infer_request()
    request.set_tensor(compiled.input(0), ov.Tensor(x))
    request.infer(share_outputs=True)
    tensor: ov.Tensor = request.get_output_tensor(0)
    kind: ov.Type = tensor.element_type
    lengths: list[int] = list(tensor.shape)
    rows: list[ov.ProfilingInfo] = request.profiling_info
    assert kind == ov.Type.f32
    assert lengths == [2, 3]
    assert request.latency > 0
    assert rows is not None
    return y + np.asarray(tensor.data, np.float32)


def in_queue(compiled: ov.CompiledModel, x: Array, times: int) -> list[float]:
    found: list[float] = []

    def keep(request: ov.InferRequest, index: Any) -> None:
        found.append(float(request.results[0].sum()) + index)

    queue = ov.AsyncInferQueue(compiled, 2)
    queue.set_callback(keep)
    for index in range(times):
        queue.start_async({"x": x}, userdata=index)
    queue.wait_all()
    return sorted(found)


async def in_asyncio(compiled: ov.CompiledModel, x: Array) -> ov.OVDict:
    request = compiled.create_infer_request()
    request.start_async(x, priority="HIGH", deadline_ms=5000)
    return await request


def main(source: bytes) -> None:
    x: Array = np.ones((2, 3), np.float32)
    try:
        compiled = compiled_model(source)
    except ov.Error as error:
        raise SystemExit(str(error)) from None
    with compiled:
        assert infer(compiled, x).shape == (2, 3)
        assert len(in_queue(compiled, x, 4)) == 4
        assert len(asyncio.run(in_asyncio(compiled, x))) == 1
        optimal: int = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        plan: ov.Explanation = compiled.explain()
        print(optimal, plan)
