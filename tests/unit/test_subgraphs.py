"""Graphs in attributes: how they are read, typed, checked and evaluated."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cpuruntime.errors import InternalError, InvalidArgumentError, ModelError
from cpuruntime.frontend.reader import read
from cpuruntime.graph import Graph, Kind, verify
from cpuruntime.operators.shape_inference import evaluate

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
info, make = helper.make_tensor_value_info, helper.make_node


def model_of(nodes, inputs, outputs, constants=None, functions=(), opset=17) -> Graph:
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, [info(name, FLOAT, None) for name in outputs], tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("my", 1)]
    return read(helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=8))


def body_of(nodes, inputs, outputs, constants=None) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    untyped = onnx.TypeProto()
    ports = [[helper.make_value_info(name, untyped) for name in names] for names in (inputs, outputs)]
    return helper.make_graph(nodes, "body", *ports, tensors)


def loop(nodes, outputs, inputs=("i", "c", "v"), count="n", states=("x",), results=("y",), **more) -> Graph:
    """A Loop with the state "v" from x; "c" goes on."""
    body = body_of([*nodes, make("Identity", ["c"], ["go_on"])], inputs, ["go_on", *outputs])
    return model_of(
        [make("Loop", [count, "yes", *states], results, name="loop", body=body)],
        [info("x", FLOAT, [2]), info("n", INT, [])], results, {"yes": np.array(True)}, **more,
    )  # fmt: skip


def run(graph: Graph, *inputs) -> list:
    arrays = dict(zip(graph.inputs, inputs))
    for node in graph.nodes:
        values = [None if v is None else arrays[v] if v.constant is None else v.constant for v in node.inputs]
        arrays.update(zip(node.outputs, evaluate(node, values)))
    return [arrays[value] for value in graph.outputs]


def test_a_loop_keeps_the_shape_of_its_state_and_counts_iterations_first() -> None:
    graph = loop([make("Add", ["v", "v"], ["w"]), make("Neg", ["w"], ["seen"])], ["w", "seen"], results=("y", "all"))
    assert [str(value) for value in graph.outputs] == ["y: f32[2]", "all: f32[?,2]"]
    x = np.array([1, 2], np.float32)
    last, all_of_them = run(graph, x, np.int64(3))
    np.testing.assert_array_equal(last, x * 8)
    np.testing.assert_array_equal(all_of_them, [-x * 2, -x * 4, -x * 8])
    last, all_of_them = run(graph, x, np.int64(0))
    assert all_of_them.shape == (0, 2)
    np.testing.assert_array_equal(last, x)


def test_the_extent_of_a_state_that_grows_is_unknown() -> None:
    graph = loop([make("Concat", ["v", "x"], ["w"], axis=0)], ["w"])
    assert str(graph.outputs[0]) == "y: f32[?]"
    assert str(graph.nodes[0].bodies["body"].outputs[1]) == "w: f32[?]"
    (y,) = run(graph, np.array([1, 2], np.float32), np.int64(2))
    np.testing.assert_array_equal(y, [1, 2, 1, 2, 1, 2])


def test_a_state_that_changes_its_rank_has_no_known_shape() -> None:
    graph = loop([make("Unsqueeze", ["v", "zero"], ["w"]), make("Constant", [], ["zero"], value_ints=[0])], ["w"])
    assert str(graph.outputs[0]) == "y: f32[...]"


def test_a_state_that_changes_its_type_is_an_error_that_names_it() -> None:
    with pytest.raises(ModelError, match=r"Loop 'loop' .*state variable 0 \('x'\) is f32 and i64; it must have one"):
        loop([make("Cast", ["v"], ["w"], to=INT)], ["w"])


def test_a_body_with_other_inputs_than_flow_into_it() -> None:
    with pytest.raises(ModelError, match="its body has 4 inputs; 3 flow into it"):
        loop([make("Neg", ["v"], ["w"])], ["w"], inputs=("i", "c", "v", "u"))


def test_scan_outputs_of_several_shapes() -> None:
    nodes = [make("Unsqueeze", ["i", "zero"], ["n1"]), make("Expand", ["x0", "n1"], ["seen"])]
    nodes += [make("Constant", [], ["zero"], value_ints=[0]), make("Constant", [], ["x0"], value_floats=[1.0])]
    graph = loop([*nodes, make("Neg", ["v"], ["w"])], ["w", "seen"], results=("y", "all"))
    with pytest.raises(InvalidArgumentError, match=r"Loop 'loop' .* in the shapes"):
        run(graph, np.zeros(2, np.float32), np.int64(3))


@pytest.mark.parametrize("taken", [True, False])
def test_a_branch_that_does_not_fit_may_stay_untaken(taken) -> None:
    squeeze = body_of([make("Squeeze", ["x", "axis"], ["a"])], [], ["a"], {"axis": np.array([0])})
    keep = body_of([make("Identity", ["x"], ["b"])], [], ["b"])
    graph = model_of(
        [make("If", ["c"], ["y"], then_branch=squeeze, else_branch=keep)],
        [info("x", FLOAT, [2]), info("c", BOOL, [])], ["y"],
    )  # fmt: skip
    x = np.array([1, 2], np.float32)
    if taken:
        with pytest.raises(ModelError, match="Squeeze"):
            run(graph, x, np.array(True))
    else:
        np.testing.assert_array_equal(run(graph, x, np.array(False))[0], x)


def test_branches_of_two_shapes_and_a_name_that_one_reads_and_the_other_makes() -> None:
    then_branch = body_of([make("Neg", ["x"], ["t"])], [], ["t"])
    else_branch = body_of([make("Concat", ["t", "x"], ["e"], axis=0)], [], ["e"])
    graph = model_of(
        [make("Abs", ["x"], ["t"]), make("If", ["c"], ["y"], then_branch=then_branch, else_branch=else_branch)],
        [info("x", FLOAT, [2]), info("c", BOOL, [])], ["y"],
    )  # fmt: skip
    assert str(graph.outputs[0]) == "y: f32[?]"
    x = np.array([-1, 2], np.float32)
    np.testing.assert_array_equal(run(graph, x, np.array(True))[0], -x)
    np.testing.assert_array_equal(run(graph, x, np.array(False))[0], [1, 2, -1, 2])


def test_a_body_within_a_body_reads_from_the_outermost_graph() -> None:
    inner = body_of([make("Add", ["v", "x"], ["s"])], [], ["s"])
    other = body_of([make("Identity", ["v"], ["o"])], [], ["o"])
    graph = loop([make("If", ["c"], ["w"], then_branch=inner, else_branch=other)], ["w"])
    assert graph.nodes[0].attributes["captures"] == ["x"]
    assert graph.nodes[0].bodies["body"].nodes[0].attributes["captures"] == ["v", "x"]
    np.testing.assert_array_equal(run(graph, np.array([1, 2], np.float32), np.int64(2))[0], [3, 6])


def test_a_clone_has_bodies_of_its_own_and_the_printer_shows_them() -> None:
    graph = loop([make("Neg", ["v"], ["w"])], ["w"])
    copy = graph.clone()
    body = copy.nodes[0].bodies["body"]
    assert body is not graph.nodes[0].bodies["body"]
    body.nodes[0].op_type = "Abs"
    assert "Neg" in str(graph)
    assert "Abs" in str(copy)
    body.nodes.reverse()
    body.nodes[0].inputs = [graph.inputs[0]]
    with pytest.raises(InternalError):
        verify(copy)


def test_functions_keep_their_operator_set_and_get_attributes() -> None:
    """In opset 12 Softmax works on a matrix; the branch of the function's If reads a name of the function's."""
    softmax = make("Softmax", ["a"], ["s"])
    softmax.attribute.add(name="axis", ref_attr_name="axis", type=onnx.AttributeProto.INT)
    branch = body_of([make("Add", ["s", "a"], ["t"])], [], ["t"])
    nodes = [softmax, make("If", ["flag"], ["b"], then_branch=branch, else_branch=branch)]
    function = helper.make_function(
        "my", "F", ["a", "flag"], ["b"], nodes, [helper.make_opsetid("", 12)], attributes=["axis"]
    )
    graph = model_of(
        [make("F", ["s", "c"], ["t"], domain="my", axis=1), make("Relu", ["t"], ["y"])],
        [info("s", FLOAT, [2, 2, 2]), info("c", BOOL, [])], ["y"], functions=[function],
    )  # fmt: skip
    assert [(node.op_type, node.version) for node in graph.nodes] == [("Softmax", 12), ("If", 12), ("Relu", 17)]
    assert graph.nodes[0].attributes == {"axis": 1}
    s = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    matrix = np.exp(s.reshape(2, 4) - s.reshape(2, 4).max(1, keepdims=True))
    wanted = (matrix / matrix.sum(1, keepdims=True)).reshape(2, 2, 2) + s
    np.testing.assert_allclose(run(graph, s, np.array(True))[0], wanted, rtol=1e-6)


def test_functions_that_return_an_input_and_default_attributes() -> None:
    leaky = make("LeakyRelu", ["a"], ["b"])
    leaky.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    function = helper.make_function(
        "my", "F", ["a"], ["a", "b"], [leaky], [helper.make_opsetid("", 16)],
        attribute_protos=[helper.make_attribute("slope", 0.5)],
    )  # fmt: skip
    graph = model_of(
        [make("F", ["x"], ["same", "y"], domain="my")], [info("x", FLOAT, [2])], ["same", "y"], functions=[function]
    )
    x = np.array([-2, 2], np.float32)
    same, y = run(graph, x)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(y, [-1, 2])


def test_sequences_have_kinds() -> None:
    graph = model_of(
        [make("SequenceConstruct", ["x", "x"], ["s"]), make("SequenceAt", ["s", "i"], ["y"])],
        [info("x", FLOAT, [2]), info("i", INT, [])], ["y"],
    )  # fmt: skip
    made = graph.nodes[0].outputs[0]
    assert made.kind is Kind.SEQUENCE
    assert str(made) == "s: sequence of f32"
    assert graph.outputs[0].kind is Kind.TENSOR
    with pytest.raises(ModelError, match="input 's' is a sequence of f32"):
        model_of([make("SequenceConstruct", ["x"], ["s"]), make("Relu", ["s"], ["y"])], [info("x", FLOAT, [2])], ["y"])


def scan(axis: int = 0, backwards: int = 0, out_axis: int = 0) -> Graph:
    """Cumulative sums along an axis."""
    body = body_of([make("Add", ["s", "row"], ["t"]), make("Identity", ["t"], ["seen"])], ["s", "row"], ["t", "seen"])
    node = make(
        "Scan", ["first", "x"], ["last", "y"], body=body, num_scan_inputs=1, scan_input_axes=[axis],
        scan_input_directions=[backwards], scan_output_axes=[out_axis],
    )  # fmt: skip
    shape = [2, 3] if axis else [3, 2]
    return model_of([node], [info("first", FLOAT, [2]), info("x", FLOAT, shape)], ["last", "y"])


def test_scans_along_axes_in_both_directions() -> None:
    x, first = np.arange(6, dtype=np.float32).reshape(3, 2), np.zeros(2, np.float32)
    graph = scan()
    assert [str(value) for value in graph.outputs] == ["last: f32[2]", "y: f32[3,2]"]
    last, y = run(graph, first, x)
    np.testing.assert_array_equal(y, x.cumsum(0))
    np.testing.assert_array_equal(last, x.sum(0))
    graph = scan(axis=1, backwards=1, out_axis=-1)
    assert str(graph.outputs[1]) == "y: f32[2,3]"
    np.testing.assert_array_equal(run(graph, first, x.T)[1], x[::-1].cumsum(0).T)


