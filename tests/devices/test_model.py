"""Models: ports, reshape, clone, representation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from support.onnx_models import one_input, two_inputs

import cpuruntime as ov
from cpuruntime import InvalidArgumentError


@pytest.fixture
def model() -> ov.Model:
    return ov.Core().read_model(two_inputs(["n", 3]))


def shapes(model: ov.Model) -> list[str]:
    return [str(port.partial_shape) for port in (*model.inputs, *model.outputs)]


def test_ports_tell_name_type_and_shape(model: ov.Model) -> None:
    x, result = model.input("x"), model.output(1)
    assert (x.any_name, x.names, x.index) == ("x", {"x"}, 0)
    assert (x.get_any_name(), x.get_names(), x.get_index()) == ("x", {"x"}, 0)
    assert x.element_type is x.get_element_type() is ov.Type.f32
    assert str(x.partial_shape) == str(x.get_partial_shape()) == "[?,3]"
    assert (result.any_name, result.index) == ("result", 1)
    assert [port.any_name for port in model.inputs] == ["x", "y"]


def test_a_dynamic_port_has_no_shape(model: ov.Model) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'x' has no single shape but \[\?,3\]"):
        _ = model.input(0).shape
    model.reshape({"x": [2, 3], "y": [2, 3]})
    assert model.input(0).shape == model.input(0).get_shape() == [2, 3]


def test_a_partial_shape_handed_out_is_a_copy(model: ov.Model) -> None:
    model.input(0).partial_shape[0] = 7
    assert str(model.input(0).partial_shape) == "[?,3]"


def test_ports_are_the_same_objects_each_time_and_serve_as_keys(model: ov.Model) -> None:
    assert model.input(0) is model.inputs[0]
    assert {model.input("x"): 1}[model.inputs[0]] == 1
    assert model.input(0) != model.input(1)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "Which input? The model has: 'x', 'y'."),
        ("sun", "Port for tensor name sun was not found. The model has: 'x', 'y'."),
        (2, "No input has index 2: indexes go from 0 to 1."),
        (-1, "No input has index -1"),
        (1.0, "Incompatible key type for input: 1.0"),
        (True, "Incompatible key type for input: True"),
    ],
)
def test_a_port_that_is_not_there(model: ov.Model, key: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        model.input(key)
    assert message in str(caught.value)


def test_a_misspelt_port_suggests_the_nearest(model: ov.Model) -> None:
    with pytest.raises(InvalidArgumentError, match="Did you mean 'result'"):
        model.output("resutl")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"x": [2, 3], "y": "2,3"}, ["[2,3]"] * 4),
        ({0: (4, 3), 1: ov.PartialShape("4,3")}, ["[4,3]"] * 4),
        ({0: ["1..5", 3], 1: [ov.Dimension(1, 5), 3]}, ["[1..5,3]", "[1..5,3]", "[?,3]", "[?,3]"]),
        ({"x": [(2, 8), -1], "y": "?,3"}, ["[2..8,?]", "[?,3]", "[?,3]", "[?,3]"]),
    ],
)
def test_reshape_takes_shapes_by_name_and_index(model: ov.Model, given: dict, expected: list[str]) -> None:
    model.reshape(given)
    assert shapes(model) == expected


def test_reshape_takes_ports_and_they_follow(model: ov.Model) -> None:
    x, result = model.input("x"), model.output("result")
    model.reshape({x: [6, 3], model.input("y"): [6, 3]})
    assert (x.shape, result.shape) == ([6, 3], [6, 3])
    assert not model.is_dynamic()


@pytest.mark.parametrize("given", [[7, 3], (7, 3), "7,3", "[7,3]", ov.PartialShape([7, 3]), ov.Shape([7, 3])])
def test_reshape_of_the_only_input(given: Any) -> None:
    model = ov.Core().read_model(one_input(["n", 3]))
    model.reshape(given)
    assert shapes(model) == ["[7,3]", "[7,3]"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": [5, 3], "y": [6, 3]}, "add"),
        ({"q": [5, 3]}, "Port for tensor name q was not found"),
        ({7: [5, 3]}, "No input has index 7"),
        ({"x": [5]}, "x"),
        ({"x": [-5, 3]}, "-5"),
        ({"x": "5;3"}, "5;3"),
        ({"x": [5, 3], 0: [5, 3]}, "two shapes"),
        ([5, 3], "Which input?"),
    ],
)
def test_a_wrong_reshape_is_refused_and_changes_nothing(model: ov.Model, given: Any, message: str) -> None:
    if given == {"x": [5]}:
        model.reshape({"x": [2, 3], "y": [2, 3]})
        given = {"x": [5], "y": [2, 3]}
    before = shapes(model)
    with pytest.raises(InvalidArgumentError, match=message):
        model.reshape(given)
    assert shapes(model) == before


def test_is_dynamic(model: ov.Model) -> None:
    assert model.is_dynamic()
    assert not ov.Core().read_model(one_input()).is_dynamic()


def test_a_clone_is_independent(model: ov.Model) -> None:
    for twin in (model.clone(), copy.deepcopy(model)):
        twin.reshape({"x": [5, 3], "y": [5, 3]})
        assert shapes(twin) == ["[5,3]"] * 4
        assert twin.friendly_name == "small"
    assert shapes(model) == ["[?,3]"] * 4
    with pytest.raises(TypeError, match=r"use clone\(\)"):
        copy.copy(model)


def test_the_name_can_be_changed(model: ov.Model) -> None:
    assert model.get_friendly_name() == model.friendly_name == "small"
    model.set_friendly_name("renamed")
    assert model.friendly_name == "renamed"


def test_representations_are_openvino_s(model: ov.Model) -> None:
    assert repr(model.input(0)) == "<Output: names[x] shape[?,3] type: f32>"
    assert repr(model) == (
        "<Model: 'small'\n"
        "inputs[\n"
        "<ConstOutput: names[x] shape[?,3] type: f32>,\n"
        "<ConstOutput: names[y] shape[?,3] type: f32>\n"
        "]\n"
        "outputs[\n"
        "<ConstOutput: names[sum] shape[?,3] type: f32>,\n"
        "<ConstOutput: names[result] shape[?,3] type: f32>\n"
        "]>"
    )


def test_a_with_statement_drops_the_model(model: ov.Model) -> None:
    with model as inside:
        assert inside is model
    assert (model.inputs, model.outputs) == ([], [])
