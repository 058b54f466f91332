"""Bad input through the public interface: the right error, which names the value and the rule, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from support.judge import Net
from support.onnx_models import make_model

import cpuruntime as ov


def convolution(**attributes: Any) -> onnx.ModelProto:
    """x [1,3,8,8] -> Conv 'c3' -> y."""
    model = make_model(
        [helper.make_node("Conv", ["x", "w"], ["y"], "c3", **attributes)], {"x": [1, 3, 8, 8]}, {"y": []}
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w"))
    return model


def one_node(op_type: str, opset: int = 17, **attributes: Any) -> onnx.ModelProto:
    model = make_model([helper.make_node(op_type, ["x"], ["y"], "n", **attributes)], {"x": [2, 3]}, {"y": [2, 3]})
    model.opset_import[0].version = opset
    return model


def external(location: str) -> onnx.ModelProto:
    model = convolution()
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    return model


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


SOURCES: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "missing file": (lambda folder: folder / "none.onnx", ov.ModelNotFoundError, r"no model file.*none\.onnx"),
    "a folder": (lambda folder: folder, ov.ModelError, "is a folder"),
    "not ONNX": (lambda folder: written(folder, "a.onnx", b"hello, world\n" * 9), ov.ModelError, "not an ONNX model"),
    "empty": (lambda folder: written(folder, "a.onnx", b""), ov.ModelError, r"a\.onnx.*is empty"),
    "truncated": (
        lambda folder: written(folder, "a.onnx", convolution().SerializeToString()[:-200]),
        ov.ModelError,
        r"a\.onnx.*(truncated|ends)",
    ),
    "unknown operator": (lambda folder: one_node("Reluu"), ov.UnsupportedError, r"Reluu 'n'.*Did you mean 'Relu'\?"),
    "operator of a later opset": (
        lambda folder: one_node("Mish"),
        ov.UnsupportedError,
        r"Mish 'n' \(opset 17\).*later",
    ),
    "opset too old": (lambda folder: one_node("Relu", 0), ov.UnsupportedError, r"opset.* 0\b.*1 to"),
    "opset too new": (lambda folder: one_node("Relu", 999), ov.UnsupportedError, r"opset.* 999\b"),
    "unknown domain": (
        lambda folder: make_model(
            [helper.make_node("Relu", ["x"], ["y"], "n", domain="com.example")], {"x": [1]}, {"y": [1]}
        ),
        ov.ModelError,
        r"Relu 'n'.*'com\.example'",
    ),
    "weights that do not fit": (
        lambda folder: convolution(group=3),
        ov.ModelError,
        r"Conv 'c3' \(opset 17\): .*3.*(groups|group) 3",
    ),
    "a stride of zero": (lambda folder: convolution(strides=[0, 1]), ov.ModelError, r"'c3'.*'strides'.*\[0, 1\]"),
    "a negative dilation": (lambda folder: convolution(dilations=[1, -1]), ov.ModelError, r"'c3'.*'dilations'.*-1"),
    "too few pads": (
        lambda folder: convolution(kernel_shape=[3, 3], pads=[1, 1]),
        ov.ModelError,
        r"'c3'.*'pads' is \[1, 1\].*4 values",
    ),
    "an unknown auto_pad": (lambda folder: convolution(auto_pad="SAME"), ov.ModelError, r"'c3'.*auto_pad.*'SAME'"),
    "a kernel beyond the image": (lambda folder: convolution(dilations=[9, 9]), ov.ModelError, r"'c3' .*\b8\b"),
    "an attribute that is not a number": (
        lambda folder: one_node("LeakyRelu", alpha=float("nan")),
        ov.ModelError,
        r"LeakyRelu 'n'.*'alpha'.*nan",
    ),
    "an attribute of another type": (
        lambda folder: one_node("LeakyRelu", alpha="much"),
        ov.ModelError,
        r"LeakyRelu 'n'.*'alpha'",
    ),
    "an unknown attribute": (
        lambda folder: one_node("LeakyRelu", alfa=1.0),
        ov.ModelError,
        r"LeakyRelu 'n'.*'alfa'.*Did you mean 'alpha'\?",
    ),
    "external data outside": (
        lambda folder: saved(external("../secret.bin"), folder),
        ov.ModelError,
        r"'w'.*\.\./secret\.bin.*folder",
    ),
    "external data by an absolute path": (
        lambda folder: saved(external("/etc/passwd"), folder),
        ov.ModelError,
        r"'w'.*/etc/passwd",
    ),
    "external data that is missing": (
        lambda folder: saved(external("w.bin"), folder),
        ov.ModelError,
        r"'w'.*w\.bin",
    ),
    "a number": (lambda folder: 42, ov.InvalidArgumentError, r"42|int"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_models_that_are_refused(case: str, tmp_path: Path) -> None:
    make, kind, message = SOURCES[case]
    source = make(tmp_path)
    for refuse in (ov.Core().read_model, ov.Core().compile_model):
        with pytest.raises(kind, match=message) as caught:
            refuse(source)
        assert isinstance(caught.value, ov.Error)
        assert str(caught.value).endswith((".", "?"))


SETTINGS: dict[str, tuple[Any, type[Exception], str]] = {
    "unknown device": (("CPUU", {}), ov.InvalidArgumentError, r"'CPUU'.*Did you mean 'CPU'\?"),
    "unknown property": (
        ("CPU", {"NUM_STREAM": 2}),
        ov.InvalidArgumentError,
        r"'NUM_STREAM'.*Did you mean 'NUM_STREAMS'\?",
    ),
    "a value of another type": (("CPU", {"NUM_STREAMS": "many"}), ov.InvalidArgumentError, r"NUM_STREAMS.*'many'"),
    "a value out of range": (("CPU", {"INFERENCE_NUM_THREADS": -3}), ov.InvalidArgumentError, "NUM_THREADS.*-3"),
    "a value that does not exist": (
        ("CPU", {"PERFORMANCE_HINT": "LATENCI"}),
        ov.InvalidArgumentError,
        r"PERFORMANCE_HINT.*'LATENCI'.*LATENCY",
    ),
    "a property to read only": (
        ("CPU", {"FULL_DEVICE_NAME": "mine"}),
        ov.InvalidArgumentError,
        r"FULL_DEVICE_NAME.*read",
    ),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_are_refused(case: str) -> None:
    (device, config), kind, message = SETTINGS[case]
    with pytest.raises(kind, match=message):
        ov.Core().compile_model(convolution(), device, config)


FEEDS: dict[str, tuple[Any, str]] = {
    "unknown name": ({"X": np.ones((1, 3, 8, 8), np.float32)}, r"name X .*Did you mean 'x'\?"),
    "unknown index": ({1: np.ones((1, 3, 8, 8), np.float32)}, r"\b1\b"),
    "too many": ([np.ones((1, 3, 8, 8), np.float32)] * 2, r"\b2\b.*\b1\b"),
    "dtype": ({"x": np.ones((1, 3, 8, 8), np.complex64)}, r"'x'.*complex64.*(f32|float32)"),
    "rank": ({"x": np.ones((3, 8, 8), np.float32)}, r"'x'.*\[3,8,8\].*\[1,3,8,8\]"),
    "shape": ({"x": np.ones((1, 3, 8, 9), np.float32)}, r"'x'.*\[1,3,8,9\].*\[1,3,8,8\]"),
    "batch": (np.ones((2, 3, 8, 8), np.float32), r"\[2,3,8,8\].*\[1,3,8,8\]"),
    "text": ({"x": "an image"}, r"'x'"),
    "nothing": ({"x": None}, r"'x'"),
}


@pytest.mark.parametrize("case", FEEDS)
def test_inputs_that_are_refused(case: str) -> None:
    feeds, message = FEEDS[case]
    compiled = ov.Core().compile_model(convolution(), "CPU")
    request = compiled.create_infer_request()
    image = np.full((1, 3, 8, 8), 2, np.float32)
    right = request.infer({"x": image})["y"]
    for refuse in (request.infer, request.start_async, compiled):
        with pytest.raises(ov.InvalidArgumentError, match=message):
            refuse(feeds)
    request.wait()
    np.testing.assert_array_equal(request.infer()["y"], right)


def test_tensors_that_are_refused() -> None:
    request = ov.Core().compile_model(convolution(), "CPU").create_infer_request()
    with pytest.raises(ov.InvalidArgumentError, match=r"'x'.*\[1,3,8,9\].*\[1,3,8,8\]"):
        request.set_tensor("x", ov.Tensor(np.ones((1, 3, 8, 9), np.float32)))
    with pytest.raises(ov.InvalidArgumentError, match=r"'y'.*i64.*f32"):
        request.set_tensor("y", ov.Tensor(np.ones((1, 4, 6, 6), np.int64)))
    with pytest.raises(ov.InvalidArgumentError, match=r"name yy .*Did you mean 'y'\?"):
        request.get_tensor("yy")


@pytest.mark.parametrize("index", [-6, 5])
def test_an_index_beyond_what_is_gathered_from(index: int) -> None:
    net = Net()
    net.output(net("Gather", net.input(5, 3, name="table"), net.input(2, dtype=np.int64, name="indices")))
    request = ov.Core().compile_model(net.model(), "CPU").create_infer_request()
    table = np.arange(15, dtype=np.float32).reshape(5, 3)
    rule = r"Gather 'n0_Gather'.*index in 'indices' is out of range; each must be between -5 and 4"
    for _ in range(2):
        with pytest.raises(ov.InvalidArgumentError, match=rule):
            request.infer({"table": table, "indices": np.array([1, index])})
        np.testing.assert_array_equal(request.infer({"table": table, "indices": np.array([-5, 4])})[0], table[[0, 4]])
    request.start_async({"table": table, "indices": np.array([index, 1])})
    with pytest.raises(ov.InvalidArgumentError, match=rule):
        request.wait()


def test_a_request_that_is_busy() -> None:
    """Every other start is refused while a request is queued behind a long one."""
    n = Net()
    x = n.conv(n.input(1, 3, 300, 300), 3, 64, 3)
    for _ in range(8):
        x = n.conv(x, 64, 64, 3, pads=[1] * 4)
    n.output(x)
    compiled = ov.Core().compile_model(n.model(), "CPU", {"NUM_STREAMS": 1})
    first, second = compiled.create_infer_request(), compiled.create_infer_request()
    first.start_async(np.ones((1, 3, 300, 300), np.float32))
    second.start_async(np.ones((1, 3, 300, 300), np.float32))
    for call in (second.infer, second.start_async, lambda: second.results, second.get_input_tensor):
        with pytest.raises(ov.BusyError, match=r"busy.*wait\(\)"):
            call()
    first.wait()
    second.wait()
    np.testing.assert_array_equal(first.results[0], second.results[0])


def test_shapes_that_a_model_cannot_take() -> None:
    core = ov.Core()
    model = core.read_model(convolution())
    with pytest.raises(ov.InvalidArgumentError, match=r"'x' with shape \[1,4,8,8\]: Conv 'c3' .*3 != input channels 4"):
        model.reshape([1, 4, 8, 8])
    with pytest.raises(ov.InvalidArgumentError, match=r"name image .*'x'"):
        model.reshape({"image": [1, 3, 8, 8]})
    assert model.input().partial_shape == ov.PartialShape([1, 3, 8, 8])


BIG = 10**7


@pytest.mark.parametrize("inner", [True, False])
def test_more_memory_than_the_machine_has(inner: bool) -> None:
    """Refused before the system grants it and kills the process for using it."""
    n = Net()
    y = n("Expand", n.input(1, 1), n.integers(BIG, BIG))
    n.output(n("ReduceSum", y, keepdims=0) if inner else y)
    with pytest.raises(ov.OutOfMemoryError, match=r"need 372529\.0 GiB; this machine has [0-9.]+ GiB") as caught:
        ov.Core().compile_model(n.model(), "CPU").create_infer_request()
    assert isinstance(caught.value, MemoryError)


def test_constants_and_tensors_beyond_the_memory() -> None:
    n = Net()
    zeros = n("ReduceSum", n("ConstantOfShape", n.integers(BIG, BIG)), keepdims=0)
    n.output(n("Add", n.input(1), zeros))
    with pytest.raises(ov.OutOfMemoryError, match="372529"):
        ov.Core().compile_model(n.model(), "CPU")
    with pytest.raises(ov.OutOfMemoryError, match="372529"):
        ov.Tensor(ov.Type.f32, [BIG, BIG])
    n = Net()
    n.output(n("Neg", n.input("rows", "columns")))
    compiled = ov.Core().compile_model(n.model(), "CPU")
    with pytest.raises(ov.OutOfMemoryError, match="372529"):
        compiled(np.broadcast_to(np.float32(1), (BIG, BIG)))
    assert compiled(np.ones((2, 2), np.float32))[0].tolist() == [[-1, -1], [-1, -1]]
