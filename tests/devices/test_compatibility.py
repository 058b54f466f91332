"""Code written for OpenVINO runs after changing the import: the same function on both, with equal results."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.onnx_models import one_input, two_inputs

import cpuruntime

X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)
Y = np.ones((2, 3), np.float32)


def plain(value: Any) -> Any:
    """What can be compared between the two packages."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value


def refusal(call: Any) -> str:
    """How a call is refused: both packages raise a RuntimeError."""
    with pytest.raises(RuntimeError) as caught:
        call()
    return type(caught.value).__mro__[-3].__name__  # the class below Exception: RuntimeError


def use_models(ov: ModuleType, device: str, folder: Path) -> dict[str, Any]:
    core = ov.Core()
    model = core.read_model(folder / "two.onnx")
    found: dict[str, Any] = {"model": repr(model).partition("inputs")[2], "dynamic": model.is_dynamic()}
    found["ports"] = [
        (port.any_name, port.get_any_name(), port.names, str(port.partial_shape), str(port.element_type), repr(port))
        for port in (*model.inputs, *model.outputs, model.input(0), model.input("y"), model.output("result"))
    ]
    model.reshape({"x": [2, 3], model.input(1): ov.PartialShape([2, 3])})
    found["reshaped"] = (
        repr(model).partition("inputs")[2],
        list(model.input(0).shape),
        list(model.output(1).get_shape()),
    )
    found["is static"] = model.is_dynamic(), model.input(0).partial_shape.is_static
    one = core.read_model(str(folder / "one.onnx"))
    for shape in ([4, 3], (5, 3), "6,3", ov.PartialShape("7,3"), [(1, 9), 3], ["2..4", "?"], [-1, ov.Dimension(3)]):
        one.reshape(shape)
        found[f"shape {shape}"] = str(one.input().partial_shape)
    one.reshape(partial_shapes={"x": [1, 3]})
    one.input(tensor_name="x").node.set_layout(ov.Layout("N...C"))
    found["batch"] = ov.get_batch(one) == 1, str(one.input(0).node.layout)
    ov.set_batch(one, 5)
    found["other batch"] = list(one.input().shape)
    ov.layout_helpers.set_layout(one.output(0), ov.Layout("[n,c]"))
    layout = ov.layout_helpers.get_layout(one.output(0))
    found["layout"] = str(layout), layout.get_index_by_name("C"), ov.layout_helpers.has_width(layout), repr(layout)
    node, result = one.input().get_node(), one.output().node
    found["nodes"] = node.friendly_name, node.get_type_name(), result.get_type_name(), result.get_friendly_name()
    found["source"] = result.input(0).get_source_output().names, [len(one.parameters), len(one.get_results())]
    one.set_rt_info("value", ["a", "b"])
    found["notes"] = one.get_rt_info(["a", "b"]).value, one.has_rt_info("a"), one.has_rt_info("b")
    (port,) = model.add_outputs("sum")
    found["added"] = port.any_name, [sorted(one.names) for one in model.outputs], model.get_output_size()
    one.input().set_names({"other"})
    found["renamed"] = one.input("other").any_name, repr(one.input())
    found["clone"] = [repr(port) for port in one.clone().inputs], one.friendly_name == one.clone().get_friendly_name()
    found["refused"] = [
        refusal(lambda: model.input()),
        refusal(lambda: model.input("nope")),
        refusal(lambda: core.read_model(folder / "two.onnx").input(0).shape),
        refusal(lambda: core.read_model(folder / "nope.onnx")),
        refusal(lambda: model.reshape({"x": [5, 3], "y": [6, 3]})),
        refusal(lambda: core.compile_model(model, "CPUU")),
        refusal(lambda: core.compile_model(model, device, {"PERFORMANCE_HIN": "LATENCY"})),
        refusal(lambda: core.set_property(device, {"PERFORMANCE_HINT": "FAST"})),
        refusal(lambda: core.set_property(device, {"FULL_DEVICE_NAME": "x"})),
        refusal(lambda: core.get_property(device, "NOPE")),
    ]
    return found


def use_properties(ov: ModuleType, device: str, folder: Path) -> dict[str, Any]:
    props = ov.properties
    hints = importlib.import_module(f"{ov.__name__}.properties.hint")
    core = ov.Core()
    assert device in core.available_devices
    found: dict[str, Any] = {"name": hints.performance_mode(), "key": {hints.performance_mode: 1}}
    core.set_property(device, {hints.performance_mode: hints.PerformanceMode.THROUGHPUT})
    core.set_property(device, {props.enable_profiling: True})
    found["hint"] = core.get_property(device, hints.performance_mode).name
    found["profiling"] = core.get_property(device, "PERF_COUNT")
    compiled = core.compile_model(
        str(folder / "one.onnx"),
        device,
        {"PERFORMANCE_HINT": "LATENCY", props.hint.inference_precision: ov.Type.f32, props.num_streams: 1},
    )
    names = "NUM_STREAMS", "OPTIMAL_NUMBER_OF_INFER_REQUESTS", "INFERENCE_PRECISION_HINT"
    found["compiled"] = [str(compiled.get_property(name)) for name in names]
    found["compiled hint"] = compiled.get_property("PERFORMANCE_HINT") == "LATENCY"
    pairs = hints.performance_mode(hints.PerformanceMode.LATENCY), props.enable_profiling(1), hints.num_requests(8)
    found["pairs"] = [(name, isinstance(value, ov.OVAny), str(value.value)) for name, value in pairs]
    for pair in pairs:
        core.set_property(device, pair)
    found["numbers"] = [int(hints.PerformanceMode.THROUGHPUT), int(hints.Priority.DEFAULT), int(props.log.Level.ERR)]
    found["read only"] = compiled.get_property("SUPPORTED_PROPERTIES")["NUM_STREAMS"]
    found["refused"] = [
        refusal(lambda: compiled.set_property({"NUM_STREAMS": 2})),
        refusal(lambda: compiled.get_property("NOPE")),
    ]
    return found


def use_requests(ov: ModuleType, device: str, folder: Path) -> dict[str, Any]:
    core = ov.Core()
    model = core.read_model(folder / "two.onnx")
    model.reshape({"x": [2, 3], "y": [2, 3]})
    compiled = core.compile_model(model, device, {"INFERENCE_PRECISION_HINT": "f32"})
    found: dict[str, Any] = {"compiled": repr(compiled)}
    results = compiled([X.copy(), Y.copy()])
    found["keys"] = [results[0], results["result"], results[compiled.output(1)], results[-1]]
    found["names"], found["tuple"] = results.names(), results.to_tuple()
    found["ports"] = [repr(port) for port in results]
    request = compiled.create_infer_request()
    found["request"] = repr(request), request.latency, request.wait_for(1), request.userdata
    for inputs in ({"x": X, 1: Y}, [X, Y], (X, Y), {compiled.input(0): X}, {"y": ov.Tensor(Y)}, None):
        found[f"infer {type(inputs)}"] = request.infer(inputs).to_tuple()
    found["shared"] = request.infer([X.copy(), Y.copy()], share_inputs=True, share_outputs=True).to_tuple()
    found["tensors"] = [repr(tensor) for tensor in (*request.input_tensors, *request.output_tensors)]
    output = np.zeros((2, 3), np.float32)
    request.set_tensor("result", ov.Tensor(output, shared_memory=True))
    request.set_input_tensor(0, ov.Tensor(X))
    request.get_tensor(compiled.input(1)).data[:] = 5
    seen: list[Any] = []
    request.set_callback(lambda tag: seen.append((tag, request.results["sum"][0, 0])), "tag")
    request.infer()
    request.start_async()
    request.wait()
    request.start_async({"x": Y}, "other")
    request.wait()
    found["callback"], found["output"], found["userdata"] = seen, output, request.userdata
    found["waited"] = request.wait_for(0), request.latency > 0
    found["statuses"] = {row.status.name for row in request.profiling_info}
    found["refused"] = [
        refusal(lambda: request.infer({"q": X})),
        refusal(lambda: request.infer({"x": X[:1]})),
        refusal(lambda: request.start_async({"x": X[0]})),
        refusal(lambda: request.get_tensor("q")),
        refusal(lambda: request.get_input_tensor()),
        refusal(lambda: request.set_tensor("x", ov.Tensor(ov.Type.i32, ov.Shape([2, 3])))),
        refusal(lambda: request.set_tensor("x", ov.Tensor(ov.Type.f32, ov.Shape([3, 3])))),
    ]
    return found


def use_queue(ov: ModuleType, device: str, folder: Path) -> dict[str, Any]:
    one = ov.Core().read_model(folder / "one.onnx")
    one.reshape([2, 3])
    compiled = ov.Core().compile_model(one, device, {"INFERENCE_PRECISION_HINT": "f32"})
    queue = ov.AsyncInferQueue(compiled, 2)
    found: dict[str, Any] = {"queue": repr(queue), "ready": queue.is_ready(), "jobs": len(queue)}
    seen: dict[int, Any] = {}

    def callback(request: Any, tag: int) -> None:
        seen[tag] = request.get_output_tensor().data.copy()

    queue.set_callback(callback)
    for tag in range(6):
        queue.start_async({0: X + tag}, tag)
    queue.wait_all()
    found["seen"] = [seen[tag] for tag in range(6)]
    queue[queue.get_idle_request_id()].set_input_tensor(ov.Tensor(Y))
    queue.start_async(userdata=6)
    queue.wait_all()
    found["seen"].append(seen[6])

    def fail(request: Any, tag: int) -> None:
        raise KeyError(tag)

    queue.set_callback(fail)
    queue.start_async(X, 7)
    with pytest.raises(KeyError, match="7"):
        queue.wait_all()
    return found


def use_tensors(ov: ModuleType, device: str, folder: Path) -> dict[str, Any]:
    array = X.copy()
    copied, shared = ov.Tensor(array), ov.Tensor(array, shared_memory=True)
    array[0, 0] = 9
    empty = ov.Tensor(ov.Type.f32, ov.Shape([2, 3]))
    part = ov.Tensor(copied, [0, 1], [2, 3])
    found: dict[str, Any] = {
        "data": [copied.data, shared.data, part.data],
        "continuous": [part.is_continuous(), copied.is_continuous()],
        "repr": [repr(copied), repr(part), repr(ov.Tensor(np.int64, [1, 2]))],
        "sizes": [copied.size, copied.byte_size, copied.get_size(), copied.get_byte_size(), list(part.strides)],
        "type": str(copied.element_type),
    }
    shared.shape = [1, 2]
    copied.shape = [3, 1]
    found["shrunk"] = [shared.data, copied.data]
    copied.copy_to(empty)
    found["copied"] = [empty.data, list(empty.shape)]
    found["strings"] = ov.Tensor(np.array(["a", "bc"])).str_data
    found["refused"] = [
        refusal(lambda: setattr(shared, "shape", [4, 4])),
        refusal(lambda: ov.Tensor(array.T, shared_memory=True)),
        refusal(lambda: ov.Tensor(ov.Type.i32, [1]).copy_from(empty)),
    ]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "two.onnx").write_bytes(two_inputs(["n", 3]).SerializeToString())
    (tmp_path / "one.onnx").write_bytes(one_input().SerializeToString())
    return tmp_path


@pytest.mark.parametrize("use", [use_models, use_properties, use_requests, use_queue, use_tensors])
def test_the_same_code_gives_the_same_results(use: Any, device: str, folder: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="compares with openvino, which is not installed")
    ours = use(cpuruntime, device, folder)
    theirs = use(openvino, "CPU", folder)
    assert list(ours) == list(theirs)
    for key in ours:
        assert plain(ours[key]) == plain(theirs[key]), key
