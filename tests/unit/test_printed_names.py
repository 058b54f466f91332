"""What people see of a model's names: one line that any terminal can show.

At commit 53c12cb names reached the terminal as they stand in the file: with escape sequences, line ends and any length.
"""

from __future__ import annotations

import ast
from itertools import pairwise

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.hostile_names import LONG, assert_readable, hostile
from support.house import ROOT
from support.reader_models import model_of

from cpuruntime.api.model import Model
from cpuruntime.api.ports import Ports, position
from cpuruntime.devices.explanation import Explanation, Row
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import MESSAGE, Error, ModelError, ModelNotFoundError, escaped, listed, nearest, printable
from cpuruntime.frontend.reader import read
from cpuruntime.graph import Graph, Node, Type, Value, verify
from cpuruntime.host.assignment import Holder
from cpuruntime.operators.shape_inference import reshape
from cpuruntime.program.lowerings.catalogue import find_lowering

X, Y, W, NODE = (hostile(name) for name in ("x", "y", "w", "node"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("conv1/weights:0", "conv1/weights:0"),
        ("größe 名", "größe 名"),
        ("a\x1b[31m", "a\\x1b[31m"),
        ("a\nb\0c\x85", "a\\nb\\x00c\\x85"),
        ("\u202eevil\u2028", "\\u202eevil\\u2028"),
        ("\ud800", "\\ud800"),
        ("x" * 80, "x" * 80),
        ("a" * 50 + "b" * 50, "a" * 39 + "..." + "b" * 38),
        ("\n" * 50, "\\n" * 19 + "\\..." + "\\n" * 19),
        ("", ""),
    ],
)
def test_printable(name, shown):
    assert printable(name) == shown
    assert len(shown) <= 80


def test_long_names_are_cut_before_they_are_escaped():
    assert len(printable("\n" * 10**8)) == 80


def test_listed():
    assert listed(["a", "b\n"]) == "'a', 'b\\n'"
    assert listed(map(str, range(23))).endswith("'19' and 3 more")


def test_nearest_does_not_compare_long_names():
    assert nearest("x" * LONG, ["x" * (LONG + 1)] * 100) == ""
    assert nearest("name", ["nane\n"]) == " Did you mean 'nane\\n'?"


@pytest.mark.parametrize("kind", [Error, ModelError, ModelNotFoundError])
def test_errors_of_any_text_are_one_line(kind):
    assert str(kind("a\x1b\nb")) == "a\\x1b\\nb"
    assert escaped("it's") == "it's"


def hostile_model(nodes=None, inputs=None, **more):
    nodes = nodes or [helper.make_node("MatMul", [X, W], [Y], name=NODE)]
    inputs = {X: [2, hostile("dim")]} if inputs is None else inputs
    model = model_of(nodes, inputs, (Y,), {W: np.ones((4, 3), np.float32)}, **more)
    model.graph.name = hostile("graph")
    model.doc_string = model.graph.doc_string = model.producer_name = hostile("doc")
    model.metadata_props.add(key=hostile("key"), value=hostile("value"))
    return model


def test_models_and_graphs_keep_names_and_print_them_readably():
    graph = read(hostile_model())
    model = Model(graph)
    assert model.inputs[0].any_name == X
    assert graph.nodes[0].name == NODE
    node = graph.nodes[0]
    for shown in (model, model.inputs[0], graph, node, node.outputs[0]):
        assert_readable(repr(shown))
        assert_readable(str(shown))
    assert_readable(node.where)


def test_attributes_are_printed_readably():
    node = Node(
        hostile("op"), NODE, [], [Value(Y)], {hostile("a"): hostile("b"), "c": [hostile("d")]}, hostile("domain")
    )
    assert_readable(str(Graph(hostile("g"), [], node.outputs, [node])))


def test_explanations_and_holders_of_processors_are_printed_readably():
    row = Row((NODE, X), hostile("op"), "kernel", notes=hostile("note"))
    text = str(Explanation("CPU", [row], [f"'{printable(X)}' is a decision", "two\nlines"]))
    assert len(text.split("\n")) == 5
    assert_readable(text.replace(escaped(row.notes), ""))
    assert_readable(str(Holder(1, hostile("model"), (0,))))


def _with(change):
    model = hostile_model()
    change(model)
    return model


def _nodes(*nodes, **more):
    return hostile_model([helper.make_node(*args, **kwargs) for args, kwargs in nodes], **more)


def _external(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=hostile("location"))


def _function(model):
    body = [helper.make_node(hostile("f"), ["a"], ["b"], domain=hostile("domain"))]
    model.opset_import.append(helper.make_opsetid(hostile("domain"), 1))
    model.functions.append(
        helper.make_function(hostile("domain"), hostile("f"), ["a"], ["b"], body, list(model.opset_import))
    )


BAD = {
    "operator": _nodes(((hostile("Op"), [X], [Y]), {"name": NODE})),
    "domain": _nodes((("Relu", [X], [Y]), {"name": NODE, "domain": hostile("domain")})),
    "attribute": _nodes((("Relu", [X], [Y]), {"name": NODE, hostile("a"): 1})),
    "two attributes": _with(lambda m: m.graph.node[0].attribute.extend([helper.make_attribute(hostile("a"), 1)] * 2)),
    "missing input": _nodes((("Relu", [hostile("z")], [Y]), {"name": NODE})),
    "wrong shapes": _nodes((("MatMul", [W, W], [Y]), {"name": NODE})),
    "types": _nodes((("Not", [X], [Y]), {"name": NODE})),
    "mode": _nodes((("Conv", [X, W], [Y]), {"name": NODE, "auto_pad": hostile("pad")}), inputs={X: [1, 4, 2, 2]}),
    "cycle": _nodes((("Relu", [Y], [X]), {"name": NODE}), (("Relu", [X], [Y]), {}), inputs={}),
    "output used twice": _nodes((("Relu", [X], [X]), {"name": NODE})),
    "no such output": _with(
        lambda m: m.graph.output.add().CopyFrom(helper.make_tensor_value_info(hostile("o"), 1, []))
    ),
    "two inputs": _with(lambda m: m.graph.input.append(m.graph.input[0])),
    "two initializers": _with(lambda m: m.graph.initializer.append(m.graph.initializer[0])),
    "bytes": _with(lambda m: setattr(m.graph.initializer[0], "raw_data", b"")),
    "external data": _with(_external),
    "function": _with(_function),
}


@pytest.mark.parametrize("kind", BAD)
def test_errors_of_the_reader(kind):
    with pytest.raises(Error) as caught:
        read(BAD[kind])
    assert_readable(str(caught.value))
    assert len(str(caught.value)) < 2000


def test_errors_about_ports():
    graph = read(hostile_model())
    ports = Ports(PortInfo.inputs_of(graph), PortInfo.outputs_of(graph))
    for key in (hostile("other"), 7, None, 1.5):
        with pytest.raises(Error) as caught:
            position(key, ports.input_positions, "input")
        assert_readable(str(caught.value))
    for shapes in ({hostile("other"): [1]}, {X: [1, 7]}):
        with pytest.raises(Error) as caught:
            reshape(graph, shapes)
        assert_readable(str(caught.value))
    with pytest.raises(Error) as caught:
        verify(Graph("g", [Value(X), Value(X)], [], []))
    assert_readable(str(caught.value))


@pytest.mark.parametrize(("op_type", "attribute"), [("GridSample", "mode"), ("GridSample", "padding_mode")])
def test_reasons_of_missing_kernels(op_type, attribute):
    inputs = [Value("x", Type.f32, (1, 1, 4, 4)), Value("grid", Type.f32, (1, 4, 4, 2))]
    node = Node(op_type, "n", inputs, [Value("y", Type.f32, (1, 1, 4, 4))], {attribute: hostile("mode")}, version=16)
    reason = find_lowering(node)
    assert isinstance(reason, str)
    assert reason.isprintable()
    assert len(reason) <= MESSAGE


ROOMS = ("api", "cli", "devices", "frontend", "graph", "hints", "host", "operators", "passes", "program")
# Names that are not the model's: of passes, of ONNX's own schemas, of this package's kernels and devices.
OWN = {"each.name", "formal.name", "operator.input(index).name", "self.name"}


def raw_names(source: str) -> list[str]:
    """The names that `source` writes in quotes, as '{value.name}', without `printable`."""
    found = []
    for text in ast.walk(ast.parse(source)):
        parts = text.values if isinstance(text, ast.JoinedStr) else ()
        for before, part in pairwise(parts):
            if isinstance(part, ast.FormattedValue) and isinstance(before, ast.Constant) and before.value[-1:] == "'":
                spelled = ast.unparse(part.value)
                if spelled.endswith(".name") and spelled not in OWN:
                    found.append(f"line {part.lineno}: '{{{spelled}}}'")
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_names_in_texts_go_through_printable(room):
    files = (ROOT / "cpuruntime" / room).rglob("*.py")
    assert {path.name: found for path in files if (found := raw_names(path.read_text()))} == {}


def test_a_raw_name_in_a_text_is_found():
    assert raw_names("f\"Input '{port.name}' is missing\"") == ["line 1: '{port.name}'"]
    assert raw_names("f\"Input '{printable(port.name)}' is missing\"") == []
