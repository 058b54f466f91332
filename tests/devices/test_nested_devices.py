"""Devices over devices over devices: each pair works, or says why not; what is wrong is refused, what fails goes on."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx.parser
import pytest

import cpuruntime as ov
from cpuruntime.errors import InvalidArgumentError

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[2, 3] x) => (float[2, 3] y) { z = Abs (x)  y = Neg (z) }"""
X = np.arange(6, dtype=np.float32).reshape(2, 3)
LISTS = {"MULTI": "CPU,REFERENCE", "AUTO": "CPU,REFERENCE", "HETERO": "CPU,REFERENCE", "BATCH": "CPU(2)"}


def nested(outer: str, inner: str) -> str:
    """One device over another one, and over REFERENCE where it runs several."""
    argument = f"[{inner}:{LISTS[inner]}]"
    return f"{outer}:{argument}(2)" if outer == "BATCH" else f"{outer}:{argument},REFERENCE"


@pytest.mark.parametrize("inner", LISTS)
@pytest.mark.parametrize("outer", LISTS)
def test_each_runs_each_but_itself(outer: str, inner: str) -> None:
    core, name, parsed = ov.Core(), nested(outer, inner), onnx.parser.parse_model(MODEL)
    if outer == inner:
        with pytest.raises(InvalidArgumentError, match=f"{outer} cannot run {outer} within itself"):
            core.compile_model(parsed, name)
        return
    assert {"FP32", "INT8"} <= {*core.get_property(name, "OPTIMIZATION_CAPABILITIES")}
    for one in core.get_property(name, "SUPPORTED_PROPERTIES"):
        core.get_property(name, one)
    assert set(core.query_model(core.read_model(parsed), name)) == {"x", "Abs_0", "Neg_1", "y/sink_port_0"}
    with core.compile_model(parsed, name, {"DEVICE_PROPERTIES": {"CPU": {"NUM_STREAMS": 1}}}) as model:
        assert all(model.get_property(one) is not None for one in model.get_property("SUPPORTED_PROPERTIES"))
        assert "streams x" not in str(model.explain())
        assert model.explain().decisions
        requests = [model.create_infer_request() for _ in range(5)]
        for number, request in enumerate(requests):
            request.start_async([X + number])
        for number, request in enumerate(requests):
            request.wait()
            np.testing.assert_array_equal(request.get_output_tensor().data, -(X + number))
        np.testing.assert_array_equal(model([X])[0], -X)


@pytest.mark.parametrize("device", ["MULTI:[BATCH:CPU(2)],REFERENCE", "AUTO:HETERO:CPU,REFERENCE", "BATCH:AUTO:CPU"])
@pytest.mark.parametrize(
    ("by_device", "message"),
    [
        ({"NULL": {"NUM_STREAMS": 1}}, "has properties for 'NULL', which is not among its devices"),
        ({"CPU": {"NUM_STREAMS": -7}}, "NUM_STREAMS: -7"),
        ({"CPU": {"NUM_STREAM": 1}}, "Unknown property 'NUM_STREAM' of device CPU"),
    ],
)
def test_wrong_properties_of_single_devices(device: str, by_device: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        ov.Core().compile_model(onnx.parser.parse_model(MODEL), device, {"DEVICE_PROPERTIES": by_device})


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("MULTI:", "Unknown device 'MULTI:'"),
        ("BATCH:[]", "its argument '\\[\\]' is wrong"),
        ("MULTI:[BATCH:CPU(0)],REFERENCE", "must be at least 1"),
        ("AUTO:[MULTI:CPU,CPU],REFERENCE", "name CPU twice"),
        ("MULTI:[BATCH:CPU(2)],[BATCH:CPU(2)]", r"name BATCH:CPU\(2\) twice"),
        ("HETERO:[MULTI:CPU,CPUX],REFERENCE", "Unknown device 'CPUX'"),
        ("MULTI:[AUTO:[HETERO:MULTI:CPU,REFERENCE],CPU],REFERENCE", "MULTI cannot run MULTI within itself"),
        ("AUTO:[BATCH:CPU,REFERENCE](2)", "BATCH"),
    ],
)
def test_wrong_lists_within_lists(device: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        ov.Core().compile_model(onnx.parser.parse_model(MODEL), device)


FAULTY = [
    "MULTI:[BATCH:SIMULATED.0(2)],REFERENCE",
    "MULTI:[HETERO:SIMULATED.0,REFERENCE](2),CPU(1)",
    "AUTO:[BATCH:SIMULATED.0(2)],REFERENCE",
    "AUTO:[MULTI:SIMULATED.0,SIMULATED.1],REFERENCE",
    "BATCH:[MULTI:SIMULATED.0,REFERENCE](2)",
    "HETERO:[MULTI:SIMULATED.0,REFERENCE],REFERENCE",
]


@pytest.mark.parametrize("device", FAULTY)
def test_a_device_that_is_lost_within_loses_no_request(device: str, register: Callable[[str, str], None]) -> None:
    register("SIMULATED", "cpuruntime.testing.simulated:SimulatedPlugin")
    core = ov.Core()
    with core.compile_model(onnx.parser.parse_model(MODEL), device) as model:
        queue, right = ov.AsyncInferQueue(model, 4), []
        queue.set_callback(
            lambda request, number: right.append((request.get_output_tensor().data == -(X + number)).all())
        )
        for number in range(60):
            if number == 20:
                for instance in (0, 1):
                    core.set_property(f"SIMULATED.{instance}", {"SIMULATED_UNPLUGGED": True})
            queue.start_async([X + number], number)
        queue.wait_all()
        assert len(right) == 60
        assert all(right)


@pytest.mark.parametrize(
    "device", ["MULTI:CPU(1),REFERENCE(1)", "AUTO:REFERENCE,CPU", "BATCH:REFERENCE(2)", *FAULTY[:2]]
)
def test_cancel_and_close_at_any_moment(device: str, register: Callable[[str, str], None]) -> None:
    register("SIMULATED", "cpuruntime.testing.simulated:SimulatedPlugin")
    chance = random.Random(3)
    for _ in range(4):
        model = ov.Core().compile_model(onnx.parser.parse_model(MODEL), device)
        requests = [model.create_infer_request() for _ in range(6)]
        chosen = chance.choices(requests, k=30)
        cancels = threading.Thread(target=lambda chosen=chosen: [request.cancel() for request in chosen])
        cancels.start()
        for number, request in enumerate(requests):
            request.start_async([X + number])
        with model:
            pass  # what was started goes on
        cancels.join()
        for number, request in enumerate(requests):
            try:
                request.wait()
            except ov.CancelledError:
                continue
            np.testing.assert_array_equal(request.get_output_tensor().data, -(X + number))
        with pytest.raises(ov.Error, match="is closed"):
            requests[0].infer([X])
