"""Texts of errors, and small things beside the main calls, that code written for OpenVINO looks for."""

from __future__ import annotations

import io
import sys
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
from support.onnx_models import one_input, two_inputs

import cpuruntime as ov
import cpuruntime.properties.intel_gpu.hint as gpu_hints
from cpuruntime import Dimension, PartialShape, Tensor, Type
from cpuruntime.properties import hint, intel_npu
from cpuruntime.utils.data_helpers import OVDict
from cpuruntime.utils.decorators import custom_preprocess_function

X = np.ones((2, 3), np.float32)


@pytest.fixture(scope="module")
def compiled() -> Any:
    core = ov.Core()
    with core.compile_model(core.read_model(two_inputs())) as model:
        yield model


@pytest.fixture
def model() -> ov.Model:
    return ov.Core().read_model(two_inputs())


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda m: m({"nope": X}), RuntimeError, "Port for tensor name nope was not found"),
        (lambda m: m({0.5: X}), TypeError, "Incompatible key type for input: 0.5"),
        (lambda m: m(object()), TypeError, "Incompatible inputs of type: <class 'object'>"),
        (lambda m: m([X, X])[1.5], TypeError, "Unknown key type: <class 'float'>"),
        (lambda m: Tensor(m.input(0), X[:1]), RuntimeError, "Shape of the port exceeds shape of the array"),
        (lambda m: hint.num_requests("many"), TypeError, "incompatible function arguments"),
    ],
)
def test_texts_about_inputs(compiled: ov.CompiledModel, call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        call(compiled)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: Tensor(X.T, shared_memory=True), RuntimeError, "SHARED MEMORY MODE FOR THIS TENSOR IS NOT APPLICABLE"),
        (lambda: Tensor(np.array(["a"]), shared_memory=True), RuntimeError, "String types can be only copied"),
        (lambda: Tensor(Tensor(Type.u4, [2]), [0], [1]), RuntimeError, "for types with bitwidths less then 8 bit"),
        (lambda: Tensor(Type.u4, [2]).strides, RuntimeError, "for types with bitwidths less then 8 bit"),
        (lambda: Dimension("C"), RuntimeError, 'Cannot parse dimension: "C"'),
        (lambda: Dimension("?..5"), RuntimeError, 'Cannot parse min bound: "?"'),
        (lambda: Dimension("5..?"), RuntimeError, 'Cannot parse max bound: "?"'),
        (lambda: PartialShape("[?,,3]"), RuntimeError, 'Cannot get vector of dimensions! "[?,,3]" is incorrect'),
        (lambda: PartialShape([(1, 2, 3)]), TypeError, "Two elements are expected in tuple(lower, upper)"),
        (lambda: PartialShape([("?", "?")]), TypeError, "Incorrect pair of types (<class 'str'>, <class 'str'>)"),
        (lambda: PartialShape([range(3)]), TypeError, "Incorrect type <class 'range'> for dimension"),
        (lambda: PartialShape.dynamic() == [], TypeError, "Cannot compare dynamic shape with <class 'list'>"),
        (lambda: ov.Layout("1-2"), RuntimeError, "Layout name is invalid"),
    ],
)
def test_texts_about_tensors_and_shapes(call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert text in str(caught.value)


@pytest.mark.parametrize("name", ["str_data", "bytes_data"])
def test_texts_about_strings(name: str) -> None:
    tensor = Tensor(Type.string, [3])
    with pytest.raises(RuntimeError, match="Passed array must have the same size"):
        setattr(tensor, name, ["a", "b"])
    with pytest.raises(RuntimeError, match="Unknown string kind passed to fill the Tensor's data!"):
        setattr(tensor, name, [1, 2, 3])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: m.reshape({m.input(0).node: [1, 3]}), "Incorrect key type <class 'cpuruntime.api.node.Node'> to"),
        (lambda m: m.reshape({0: range(3)}), "Incorrect value type <class 'range'> to reshape a model"),
        (lambda m: m.add_outputs(0), "Incorrect type of a value to add as output."),
        (lambda m: m.add_outputs(["sum", 0]), "Incorrect type of a value to add as output at index 1"),
    ],
)
def test_texts_about_models(model: ov.Model, call: Any, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        call(model)
    assert text in str(caught.value)


def test_an_array_for_a_port_of_another_type_is_seen_as_that(compiled: ov.CompiledModel) -> None:
    longs = np.arange(3, dtype=np.int64).reshape(1, 3)
    with pytest.warns(RuntimeWarning, match="is seen as that of"):
        tensor = Tensor(compiled.input(0), longs)
    assert tensor.data.tolist() == longs.view(np.float32).reshape(2, 3).tolist()
    with pytest.warns(RuntimeWarning), pytest.raises(RuntimeError, match="cannot be seen as"):
        Tensor(compiled.input(0), X.astype(np.int8))


def test_a_tensor_holds_an_array_once() -> None:
    array = np.ones(4, np.float32)
    before = sys.getrefcount(array)
    tensor = Tensor(array, shared_memory=True)
    assert sys.getrefcount(array) == before + 1
    tensor.shape = [2]
    tensor.shape = [2, 2]
    assert np.shares_memory(tensor.data, array)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint64])
def test_packed_elements_are_bytes_of_any_integers(dtype: type) -> None:
    buffer = np.arange(1, 5, dtype=dtype)
    tensor = Tensor(buffer, [buffer.nbytes * 2], Type.u4)
    assert tensor.data.view(dtype).tolist() == [1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="cannot be seen as"):
        Tensor(buffer, [buffer.nbytes * 2 + 1], Type.u4)


def test_a_model_is_exported_to_a_file_of_the_users() -> None:
    core, stream = ov.Core(), io.BytesIO()
    with core.compile_model(one_input()) as first:
        assert first.export_model(stream) is None
        with core.import_model(stream, "CPU") as second:  # the position is at the end
            assert second(X)[0].tolist() == first(X)[0].tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda m: ov.AsyncInferQueue(5),
        lambda m: m.get_property(5),
        lambda m: ov.Core().read_model(3, weights=3),
        lambda m: ov.save_model(5, "x.onnx"),
        lambda m: ov.serialize(5, "x.onnx"),
        lambda m: ov.get_batch(5),
        lambda m: ov.set_batch(5, 1),
        lambda m: ov.Layout("NC").get_index_by_name(5),
        lambda m: m.create_infer_request().set_input_tensors(5),
    ],
)
def test_wrong_kinds_of_arguments_raise_type_errors(compiled: ov.CompiledModel, call: Any) -> None:
    with pytest.raises(ov.WrongTypeError):
        call(compiled)


def test_the_cache_folder_of_all_devices_is_shown(tmp_path: Any) -> None:
    core = ov.Core()
    assert core.get_property("CACHE_DIR") == ""
    core.set_property({"CACHE_DIR": str(tmp_path)})
    assert core.get_property("CACHE_DIR") == str(tmp_path)


def test_what_describes_a_tensor(model: ov.Model) -> None:
    tensor = model.output("sum").tensor
    tensor.names = {"total", "all"}
    assert model.output("total").names == {"total", "all"}
    assert model.input(0).get_tensor().size == 24
    model.reshape({"x": [-1, 3], "y": [-1, 3]})
    with pytest.raises(ov.InvalidArgumentError, match="no single shape"):
        _ = tensor.size


def test_names_beside_the_main_ones(compiled: ov.CompiledModel) -> None:
    assert type(compiled([X, X])).__name__ == "OVDict" == OVDict.__name__
    own_request = attrgetter("_infer_request")(compiled)  # private in OpenVINO, and used
    assert own_request.get_input_tensor(0).data.tolist() == X.tolist()
    assert gpu_hints.queue_throttle(gpu_hints.ThrottleLevel.LOW) == ("GPU_QUEUE_THROTTLE", hint.Priority.LOW)
    assert intel_npu.turbo(True) == ("NPU_TURBO", True)
    assert intel_npu.driver_version == "NPU_DRIVER_VERSION"
    with pytest.raises(ov.InvalidArgumentError, match="NPU_TURBO"):
        ov.Core().set_property("CPU", intel_npu.turbo(True))
    step = custom_preprocess_function(abs)
    assert step(-1) == 1
    assert Type.dynamic.integral
