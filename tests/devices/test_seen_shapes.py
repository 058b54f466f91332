"""Inputs are bound in one compiled step: several ones, in dicts and lists, and of shapes that were seen before."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx.parser
import pytest
from support.onnx_models import two_inputs

import cpuruntime as ov
from cpuruntime.api.request.bindings import Bindings
from cpuruntime.devices.cpu import request as cpu_request
from cpuruntime.devices.cpu.programs import Programs
from cpuruntime.devices.cpu.request import LARGEST_OWN
from cpuruntime.streams import seen
from cpuruntime.testing.probes import again_of, bindings_of, device_request_of, make_quick, seen_bytes_of

SUM = """
<ir_version: 8, opset_import: ["" : 18]>
sum (float[N, M] x, float[N, M] y) => (float[N, M] s, float[M, N] t) { s = Add(x, y) t = Transpose(s) }
"""
SHAPES = [(3, 4), (4, 3), (1, 7), (7, 1), (5, 5), (2, 31)]


def refuse(*arguments: object) -> None:
    raise AssertionError("it was not done in one step")


def arrays_of(shape: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape, np.float32) for _ in range(2)]


def check(result: ov.OVDict | ov.InferRequest, arrays: list[np.ndarray]) -> None:
    found = result.results if isinstance(result, ov.InferRequest) else result
    assert found[0].tolist() == (arrays[0] + arrays[1]).tolist()
    assert found[1].tolist() == (arrays[0] + arrays[1]).T.tolist()


@pytest.fixture
def request_() -> Iterator[ov.InferRequest]:
    """A request that has seen all SHAPES."""
    with ov.compile_model(onnx.parser.parse_model(SUM), "CPU", {"NUM_STREAMS": 1}) as compiled:
        request = compiled.create_infer_request()
        for _ in range(2):
            for shape in SHAPES:
                check(request.infer(arrays_of(shape)), arrays_of(shape))
        yield request


def ways(request: ov.InferRequest, arrays: list[np.ndarray]) -> list[Any]:
    """All that one may give for two arrays without their being looked at one by one."""
    first, second = request.model_inputs
    return [
        arrays, {0: arrays[0], 1: arrays[1]}, {"y": arrays[1], "x": arrays[0]}, {second: arrays[1], first: arrays[0]},
        {"x": arrays[1], "y": arrays[1], 0: arrays[0]},
    ]  # fmt: skip


def test_shapes_in_turn_are_neither_bound_nor_planned_one_by_one(
    request_: ov.InferRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bindings, "bind", refuse)
    monkeypatch.setattr(Programs, "of", refuse)
    for turn in range(60):
        arrays = arrays_of(SHAPES[turn % len(SHAPES)], turn)
        for given in ways(request_, arrays):
            check(request_.infer(given, share_outputs=turn % 2 == 0), arrays)
        check(request_.infer(), arrays)
        check(request_, arrays)


def test_a_quick_job_of_a_seen_shape_runs_without_the_device(
    request_: ov.InferRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(device_request_of(request_)), "run", refuse)
    monkeypatch.setattr(type(device_request_of(request_)), "start", refuse)
    arrays = arrays_of(SHAPES[-1])
    make_quick(request_)
    check(request_.infer(arrays), arrays)
    make_quick(request_)
    request_.start_async(arrays)
    check(request_, arrays)


@pytest.mark.parametrize("fails", [False, True])
def test_a_signal_handler_binds_nothing_before_bound_inputs_are_read(request_: ov.InferRequest, fails: bool) -> None:
    """It is told that the request is busy; a request that a handler's error ends there is idle."""
    device, (arrays, others) = device_request_of(request_), (arrays_of(SHAPES[0], seed) for seed in range(2))
    device.agree(device.priority, 2**62)  # so that what binds does not run it, too
    struck: list[str] = []

    def strike(frame: Any, event: str, function: Any) -> None:
        if event != "c_return" or function is not again_of(request_) or struck:
            return
        struck.append(event)
        with pytest.raises(ov.BusyError):
            request_.infer(others)
        if fails:
            raise KeyboardInterrupt

    sys.setprofile(strike)
    try:
        check(request_.infer(arrays), arrays)
    except KeyboardInterrupt:
        assert fails
    finally:
        sys.setprofile(None)
    assert struck
    check(request_.infer(others), others)


def test_several_static_inputs_are_bound_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with ov.compile_model(two_inputs((4,)), "CPU", {"NUM_STREAMS": 1}) as compiled:
        request = compiled.create_infer_request()
        names = [port.any_name for port in compiled.inputs]
        arrays = arrays_of((4,))
        expected = [array.tolist() for array in request.infer(arrays).values()]
        request.infer([np.zeros_like(array) for array in arrays])
        monkeypatch.setattr(Bindings, "bind", refuse)
        for given in (arrays, dict(zip(names, arrays)), dict(zip(compiled.inputs, arrays)), {1: arrays[1]}, {}):
            assert [array.tolist() for array in request.infer(given).values()] == expected
            assert [array.tolist() for array in request.infer(given, share_outputs=True).values()] == expected


@pytest.mark.parametrize(
    "given",
    [lambda a: {"z": a}, lambda a: {2: a}, lambda a: {-1: a}, lambda a: {1.5: a},
     lambda a: {"x": a, "y": a[0]}, lambda a: [a], lambda a: [a, a, a], lambda a: [a, a[:, :2]], lambda a: a,
     lambda a: {None: a}, lambda a: {"x": a.astype(object)}, lambda a: [a, np.full((3, 3), "a")]],
    ids=range(12),
)  # fmt: skip
def test_what_is_wrong_is_refused(request_: ov.InferRequest, given: Callable[[np.ndarray], Any]) -> None:
    arrays = arrays_of((3, 4))
    with pytest.raises((ov.InvalidArgumentError, TypeError)):
        request_.infer(given(arrays[0]))
    check(request_.infer(arrays), arrays)


def test_other_arrays_of_a_seen_shape_are_converted(request_: ov.InferRequest) -> None:
    wanted = arrays_of((3, 4))
    views = [np.asfortranarray(array) for array in wanted]
    longer = [np.repeat(array, 2, axis=1)[:, ::2] for array in wanted]
    for arrays in (views, longer, [array.astype(np.float64) for array in wanted], [a.tolist() for a in wanted]):
        check(request_.infer(arrays_of((4, 3), 1)), arrays_of((4, 3), 1))
        check(request_.infer(arrays), wanted)


def test_memory_of_the_users_is_looked_after(request_: ov.InferRequest) -> None:
    """Shared inputs, tensors that were set and ones that follow the request, between shapes in turn."""
    random, tensor = np.random.default_rng(0), ov.Tensor(ov.Type.f32, [1, 1])
    for turn in range(200):
        arrays = arrays_of(SHAPES[random.integers(len(SHAPES))], turn)
        way = random.integers(3 if turn < 100 else 0, 6)
        if way == 0:
            request_.set_input_tensor(0, ov.Tensor(arrays[0]))
            result = request_.infer({1: arrays[1]})
        elif way == 1:
            request_.set_output_tensor(1, tensor)
            result = request_.infer(arrays)
            assert tensor.data.tolist() == result[1].tolist()
        elif way == 2:
            result = request_.infer(arrays)
            request_.get_input_tensor(0).data[...] = 0
            check(request_.infer(), [np.zeros_like(arrays[0]), arrays[1]])
        else:
            result = request_.infer(arrays, share_inputs=way == 3)
            output = request_.get_output_tensor(0).data if way == 4 else None
            assert output is None or output.tolist() == result[0].tolist()
        check(result, arrays)


def test_one_input_keeps_its_data_where_the_other_changes(request_: ov.InferRequest) -> None:
    arrays, more = arrays_of((3, 4)), arrays_of((3, 4), 1)
    request_.infer(arrays)
    check(request_.infer({"y": more[1]}), [arrays[0], more[1]])


@pytest.mark.parametrize("largest", [-1, LARGEST_OWN])
def test_what_is_noted_of_shapes_is_bounded(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With jobs of the request's own, and without."""
    monkeypatch.setattr(cpu_request, "LARGEST_OWN", largest)
    monkeypatch.setattr(seen, "MOST_BYTES", 3 * seen.OBJECTS)
    with ov.compile_model(onnx.parser.parse_model(SUM), "CPU", {"NUM_STREAMS": 1}) as compiled:
        request = compiled.create_infer_request()
        device = device_request_of(request)
        for turn in range(300):
            arrays = arrays_of((1 + turn // 2 % 100, 3), turn)
            check(request.infer(arrays), arrays)
            assert seen_bytes_of(device) <= 3 * seen.OBJECTS
        assert seen_bytes_of(device) > 0


@pytest.mark.parametrize("rows", [64, LARGEST_OWN // 64])
def test_memory_grows_and_moves_between_seen_shapes(rows: int) -> None:
    """Also beyond what a request's own arena, and one step with the GIL, are for."""
    model = onnx.parser.parse_model(SUM.replace("Transpose(s)", "Transpose(s2)").replace("t =", "s2 = Softmax(s) t ="))
    with ov.compile_model(model, "CPU", {"NUM_STREAMS": 2}) as compiled:
        requests = [compiled.create_infer_request() for _ in range(2)]
        for turn in range(24):
            arrays = arrays_of((rows >> turn % 4, 40), turn)
            result = requests[turn // 3 % 2].infer(arrays)
            assert (result[0] == arrays[0] + arrays[1]).all()
            np.testing.assert_allclose(result[1].sum(axis=0), 1, rtol=1e-4)


def test_the_state_of_a_request_is_that_of_the_latest_shape(request_: ov.InferRequest) -> None:
    call = bindings_of(request_).call
    for shape in (*SHAPES, *SHAPES[::-1]):
        arrays = arrays_of(shape)
        request_.infer(arrays)
        assert [array.shape for array in (*call.owned, *call.outputs)] == [shape, shape, shape, shape[::-1]]
        assert all(bound is own for bound, own in zip(call.bound, call.owned))
        assert [list(tensor.shape) for tensor in request_.output_tensors] == [list(shape), list(shape[::-1])]


def test_without_memory_of_its_own_a_request_has_the_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_memory(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cpu_request, "allocate", refuse_memory)
    with ov.compile_model(onnx.parser.parse_model(SUM), "CPU", {"NUM_STREAMS": 1}) as compiled:
        request = compiled.create_infer_request()
        for turn in range(4 * len(SHAPES)):
            arrays = arrays_of(SHAPES[turn % len(SHAPES)], turn)
            check(request.infer(arrays), arrays)
