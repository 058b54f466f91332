"""The nodes of models: names, neighbours, notes; outputs that are added and removed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from support.onnx_models import two_inputs

import cpuruntime as ov
from cpuruntime import InvalidArgumentError, UnsupportedError

X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)


@pytest.fixture
def model() -> ov.Model:
    """sum = x + y by 'add', result = relu(sum) by 'relu', all [?,3]."""
    return ov.Core().read_model(two_inputs(["n", 3]))


def test_the_nodes_of_inputs_and_outputs(model: ov.Model) -> None:
    node, result = model.input("x").node, model.output("result").get_node()
    assert (node.friendly_name, node.get_type_name(), result.get_type_name()) == ("x", "Parameter", "Result")
    assert (node.element_type, str(node.partial_shape)) == (ov.Type.f32, "[?,3]")
    assert node is model.inputs[0].node is model.get_parameters()[0] is model.parameters[0]
    assert node.output(0) is model.input("x")
    assert repr(node) == "<Parameter: 'x' (f32[?,3])>"
    assert result.friendly_name == "result/sink_port_0"
    assert result.input(0).get_source_output().any_name == "result"
    assert result.input_value(0).get_node().friendly_name == "relu"
    assert (model.get_parameter_index(node), model.get_result_index(result)) == (0, 1)
    assert model.get_result_index(model.output(0)) == model.get_results().index(model.output(0).node) == 0
    assert (model.get_parameter_index(result), model.get_result_index(node)) == (-1, -1)
    with pytest.raises(InvalidArgumentError, match="Which output"):
        model.get_result()
    with pytest.raises(IndexError):
        node.output(1)


def test_nodes_lead_to_each_other(model: ov.Model) -> None:
    names = [(node.friendly_name, node.get_type_name()) for node in model.get_ordered_ops()]
    assert names[:4] == [("x", "Parameter"), ("y", "Parameter"), ("add", "Add"), ("relu", "Relu")]
    add = model.get_ops()[2]
    assert [port.any_name for port in add.input_values()] == ["x", "y"]
    assert add.input_value(0) is model.input("x")
    readers = add.output(0).get_target_inputs()
    assert sorted(one.get_node().get_type_name() for one in readers) == ["Relu", "Result"]
    assert model.input("x").target_inputs == {add.input(0)}
    assert add.input(1).get_source_output() is model.input("y")
    assert (add.get_input_size(), add.get_output_size(), add.name) == (2, 1, "add")
    assert add.get_type_info() == add.type_info == ov.DiscreteTypeInfo("Add")
    assert (add.get_input_element_type(1), str(add.get_input_partial_shape(1))) == (ov.Type.f32, "[?,3]")
    assert add.input(0).get_tensor().any_name == "x"
    add.set_rt_info(5, "note")
    assert add.rt_info["note"] == 5
    model.reshape({"x": [2, 3], "y": [2, 3]})
    assert add.shape == add.get_output_shape(0) == add.get_input_shape(0) == add.input(1).shape == [2, 3]
    assert repr(add) == "<Add: 'add' (f32[2,3])>"
    with pytest.raises(UnsupportedError, match="has no layout"):
        add.set_layout("NC")


def test_names_and_notes_can_be_changed(model: ov.Model) -> None:
    port = model.input("x")
    port.node.friendly_name = "left"
    port.node.rt_info["note"] = 5
    port.add_names({"first", "one"})
    assert port.names == {"x", "first", "one"}
    assert model.input("one") is model.input(tensor_name="x") is port
    port.get_tensor().set_names({"a"})
    assert (port.names, port.any_name) == ({"a"}, "a")
    assert repr(port) == "<Output: names[a] shape[?,3] type: f32>"
    model.reshape({"a": [2, 3], "y": [2, 3]})
    compiled = ov.compile_model(model, "REFERENCE")
    assert (compiled.input("a").node.friendly_name, compiled.input(0).get_rt_info()) == ("left", {"note": 5})
    assert compiled({"a": X, "y": X})["sum"].tolist() == (2 * X).tolist()
    clone = copy.deepcopy(model)
    clone.input("a").set_names(["b"])
    assert model.input("a").any_name == "a"
    assert copy.copy(port) is copy.deepcopy(port) is port


def test_notes_of_the_model(model: ov.Model) -> None:
    model.set_rt_info("v", "a")
    model.set_rt_info(5, ["b", "c"])
    assert (model.get_rt_info("a").value, model.get_rt_info(["b", "c"]).value) == ("v", 5)
    assert [model.has_rt_info(path) for path in ("a", ["b", "c"], "c", ["a", "b"])] == [True, True, False, False]
    assert model.rt_info["a"].value == "v"
    assert model.get_rt_info() is model.rt_info
    with pytest.raises(InvalidArgumentError, match="no rt_info c"):
        model.get_rt_info("c")
    clone = model.clone()
    clone.set_rt_info("w", "a")
    assert model.get_rt_info("a") == "v"


def test_what_openvino_s_models_answer(model: ov.Model) -> None:
    assert model.name == model.get_name() == model.friendly_name
    assert model.dynamic
    assert (model.get_variables(), model.variables, model.sinks, model.get_variable_by_id("a")) == ([], [], [], None)
    assert (model.get_output_size(), str(model.get_output_partial_shape(1))) == (2, "[?,3]")
    assert model.get_output_element_type(0) is ov.Type.f32
    assert model.get_output_op(0) is model.results[0]
    model.validate_nodes_and_infer_types()
    with pytest.raises(InvalidArgumentError, match="no single shape"):
        model.get_output_shape(0)
    for name in ("add_parameters", "add_results", "add_sinks", "remove_parameter", "replace_parameter"):
        with pytest.raises(UnsupportedError, match=f"Model.{name}: graphs are not built or edited here"):
            getattr(model, name)([])
    with pytest.raises(InvalidArgumentError, match="no variables"):
        model.reshape({"x": [1, 3]}, {"v": [1]})


@pytest.mark.parametrize(
    "given", ["sum", ("add", 0), ["sum"], [("add", 0)], lambda model: model.get_ordered_ops()[2].output(0)]
)
def test_outputs_are_added(given: Any) -> None:
    model = ov.Core().read_model(two_inputs([2, 3]))
    model.remove_result(model.get_results()[0])
    assert [port.any_name for port in model.outputs] == ["result"]
    kept = model.output(0)
    (added,) = model.add_outputs(given(model) if callable(given) else given)
    assert (model.outputs, added.any_name) == ([kept, added], "sum")
    assert model.add_outputs("sum") == [added], "it is one already"
    found = ov.compile_model(model, "REFERENCE")([X, X])
    assert found["sum"].tolist() == (2 * X).tolist()
    model.reshape({"x": [4, 3], "y": [4, 3]})
    assert added.shape == [4, 3]


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ("som", InvalidArgumentError, "called 'som'. Did you mean 'sum'"),
        (("add", 3), InvalidArgumentError, "No node 'add' with an output 3"),
        (("nope", 0), InvalidArgumentError, "No node 'nope'"),
        (5, TypeError, "value to add as output. It is 5"),
        (["sum", 5], TypeError, "value to add as output at index 1: 5"),
    ],
)
def test_outputs_that_cannot_be_added(model: ov.Model, given: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        model.add_outputs(given)
    assert len(model.outputs) == 2


def test_a_model_evaluates_without_a_device(model: ov.Model) -> None:
    outputs = [ov.Tensor(ov.Type.f32, [0]), ov.Tensor(ov.Type.f32, [0])]
    assert model.evaluate(outputs, [ov.Tensor(X), ov.Tensor(X)]) is True
    assert outputs[0].data.tolist() == (2 * X).tolist()
    assert outputs[1].data.tolist() == np.maximum(2 * X, 0).tolist()
