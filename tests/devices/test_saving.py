"""Models written as ONNX, and the executed graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_models import chain, one_input, two_inputs

import cpuruntime as ov
from cpuruntime import UnsupportedError
from cpuruntime.exceptions import OVError, OVTypeError
from cpuruntime.helpers import pack_data
from cpuruntime.utils.types import get_dtype, get_element_type, get_element_type_str, get_ndarray, get_shape

X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)


def branching() -> onnx.ModelProto:
    """y = x + 1 where the sum of x is above 0, else x * [2, 2, 2], which are read by branches alone."""
    info = helper.make_tensor_value_info
    numbers = {"one": 1, "two": [2, 2, 2], "zero": 0}
    constants = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in numbers.items()]
    branches = {}
    for name, op, other in (("then_branch", "Add", "one"), ("else_branch", "Mul", "two")):
        output = info(f"{name}_y", TensorProto.FLOAT, [2, 3])
        branches[name] = helper.make_graph([helper.make_node(op, ["x", other], [output.name])], name, [], [output])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], **branches),
    ]
    ports = [info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "branching", ports[:1], ports[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("make", [lambda: one_input(), lambda: two_inputs([2, 3]), branching])
@pytest.mark.parametrize("save", [ov.save_model, ov.serialize])
def test_a_saved_model_computes_the_same(tmp_path: Path, make: Any, save: Any) -> None:
    core = ov.Core()
    model = core.read_model(make())
    path = tmp_path / "saved.onnx"
    save(model, path)
    onnx.checker.check_model(path, full_check=True)
    again = core.read_model(path)
    assert repr(again) == repr(model)
    for x in (X, X + 5):
        inputs = [x] * len(model.inputs)
        expected = core.compile_model(model, "REFERENCE")(inputs).to_tuple()
        found = core.compile_model(again, "REFERENCE")(inputs).to_tuple()
        assert [one.tolist() for one in found] == [one.tolist() for one in expected]


def test_what_was_changed_is_saved(tmp_path: Path) -> None:
    core = ov.Core()
    model = core.read_model(two_inputs(["n", 3]))
    model.remove_result(model.get_results()[0])
    model.reshape({"x": [(1, 4), 3], "y": [(1, 4), 3]})
    model.get_ops()[2].rt_info["note"] = 5
    ov.save_model(model, str(tmp_path / "saved.onnx"), compress_to_fp16=False)
    saved = onnx.load(tmp_path / "saved.onnx")
    assert [(one.key, one.value) for one in saved.graph.node[0].metadata_props] == [("note", "5")]
    again = core.read_model(saved)
    assert [port.any_name for port in again.outputs] == ["result"]
    assert str(again.input(0).partial_shape) == "[?,3]"


def test_what_is_not_written(tmp_path: Path) -> None:
    model = ov.Core().read_model(one_input())
    with pytest.raises(UnsupportedError, match=r"give a name that ends in \.onnx"):
        ov.serialize(model, "model.xml", "model.bin")
    with pytest.raises(OSError, match="nope"):
        ov.save_model(model, tmp_path / "nope" / "model.onnx")


def test_the_executed_graph_has_the_steps_and_how_they_run(tmp_path: Path, device: str) -> None:
    compiled = ov.compile_model(two_inputs([2, 3]), device)
    executed = compiled.get_runtime_model()
    assert [port.any_name for port in (*executed.inputs, *executed.outputs)] == ["x", "y", "sum", "result"]
    steps = [node for node in executed.get_ordered_ops() if node.get_rt_info()]
    assert len(steps) == len(compiled.explain().rows)
    for order, (node, row) in enumerate(zip(steps, compiled.explain().rows)):
        notes = {name: value.value for name, value in node.get_rt_info().items()}
        assert notes["execOrder"] == str(order)
        assert notes["execTimeMcs"] == "not_executed" or int(notes["execTimeMcs"]) >= 0
        assert (notes["layerType"], notes["primitiveType"]) == (row.op_type, row.kernel)
        assert notes["originalLayersNames"] == ",".join(row.nodes)
        assert (notes["outputPrecisions"].split(",")[0], notes["runtimePrecision"]) == ("f32", "f32")
    ov.serialize(executed, tmp_path / "executed.onnx")
    saved = onnx.load(tmp_path / "executed.onnx")
    assert {prop.key for prop in saved.graph.node[0].metadata_props} >= {"execOrder", "layerType", "outputLayouts"}


def test_the_executed_graph_as_xml(tmp_path: Path) -> None:
    compiled = ov.Core().compile_model(two_inputs(["n", 3]), "REFERENCE")
    ov.serialize(compiled.get_runtime_model(), tmp_path / "graph.xml")
    net = ElementTree.parse(tmp_path / "graph.xml").getroot()
    layers = {layer.attrib["id"]: layer.attrib["name"] for layer in net.iter("layer")}
    kinds = [(layer.attrib["name"], layer.attrib["type"]) for layer in net.iter("layer")]
    assert kinds[:4] == [("x", "Parameter"), ("y", "Parameter"), ("add", "Add"), ("relu", "Relu")]
    edges = [(layers[one.attrib["from-layer"]], layers[one.attrib["to-layer"]]) for one in net.iter("edge")]
    assert {("x", "add"), ("y", "add"), ("add", "relu"), ("relu", "result/sink_port_0")} <= set(edges)
    (add,) = [layer for layer in net.iter("layer") if layer.attrib["name"] == "add"]
    data = add.find("data")
    assert data is not None
    assert data.attrib["originalLayersNames"] == "add"
    ports = [(port.attrib["id"], [dim.text for dim in port]) for port in add.iter("port")]
    assert ports == [(str(number), ["-1", "3"]) for number in range(3)]


def test_the_executed_graph_as_xml_names_weights(tmp_path: Path) -> None:
    compiled = ov.Core().compile_model(chain(2, 4), "REFERENCE")
    ov.serialize(compiled.get_runtime_model(), tmp_path / "graph.xml")
    net = ElementTree.parse(tmp_path / "graph.xml").getroot()
    (weights,) = [one.attrib["id"] for one in net.iter("layer") if one.attrib["name"] == "w"]
    assert sum(one.attrib["from-layer"] == weights for one in net.iter("edge")) == 2


def test_the_executed_graph_keeps_no_weights() -> None:
    weights = numpy_helper.from_array(np.ones((3, 3), np.float32), "w")
    info = helper.make_tensor_value_info
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, [2, 3])], [info("y", TensorProto.FLOAT, [2, 3])], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    executed = ov.compile_model(model, "CPU").get_runtime_model()
    assert not executed.graph.constants()
    assert [port.any_name for port in executed.outputs] == ["y"]
    read = {port.any_name for node in executed.get_ordered_ops() for port in node.input_values()}
    assert {"x", "y"} <= read


def test_calls_that_are_not_here_say_why() -> None:
    core = ov.Core()
    for call, message in (
        (ov.convert_model, "only ONNX models are read"),
        (core.add_extension, "not built or edited"),
        (lambda _: core.create_context("CPU"), "memory of its own"),
        (core.register_plugin, "entry points"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            call("x")
    core.unload_plugin("CPU")
    with pytest.raises(ov.InvalidArgumentError, match="Unknown device 'CUP'"):
        core.unload_plugin("CUP")


def test_openvino_s_modules_of_helpers() -> None:
    assert (get_dtype(ov.Type.f32), get_dtype(ov.Type.string).kind) == (np.float32, "U")
    assert [get_element_type(kind) for kind in (int, float, np.int8, bool)] == [
        ov.Type.i32, ov.Type.f32, ov.Type.i8, ov.Type.boolean,
    ]  # fmt: skip
    assert get_element_type_str(np.float64) == "f64"
    assert (get_shape([1, 2]), get_shape(X), get_shape(5), get_ndarray(5).shape) == ([2], [2, 3], [], ())
    with pytest.raises(OVTypeError):
        get_element_type(complex)
    assert issubclass(OVTypeError, OVError)
    assert pack_data(np.array([1, 2]), ov.Type.u4).tolist() == [0x12]
    assert ov.helpers.pack_data is pack_data
    assert ov.utils.types.get_dtype is get_dtype
    assert ov.exceptions.OVTypeError is OVTypeError
    ov.shutdown()
