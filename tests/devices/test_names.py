"""The names of OpenVINO's classes and modules are here, or say why they are not; vectors, symbols, order of ports."""

from __future__ import annotations

import copy
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.onnx_models import two_inputs

import cpuruntime as ov
from cpuruntime import WrongTypeError

LINES = (Path(__file__).resolve().parents[1] / "data/openvino_names.txt").read_text().splitlines()[1:]
OWNERS = dict(line.split(": ") for line in LINES)


@pytest.mark.parametrize("owner", OWNERS)
def test_names_of_openvino_are_here(owner: str) -> None:
    holder = ov if owner == "-" else attrgetter(owner)(ov)
    missing = []
    for name in OWNERS[owner].split():
        try:
            getattr(holder, name)
        except AttributeError as error:
            if ": " not in str(error):  # the reason
                missing.append(name)
    assert missing == []


@pytest.mark.parametrize(
    ("name", "reason"), [("opset13", "graphs are not built here"), ("tools", "only ONNX models"), ("nonsense", None)]
)
def test_a_missing_module_says_why(name: str, reason: str | None) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{name}'{f': {reason}' if reason else '$'}"):
        getattr(ov, name)


def test_dir_lists_what_is_public() -> None:
    assert {name for name in dir(ov) if not name.startswith("_")} == set(ov.__all__) - {"__version__"}
    request = {name for name in dir(ov.InferRequest) if not name.startswith("_")}
    assert request - set(OWNERS["InferRequest"].split()) == {"is_busy", "latency_anatomy"}
    queue = {name for name in dir(ov.AsyncInferQueue) if not name.startswith("_")}
    assert queue == set(OWNERS["AsyncInferQueue"].split())


@pytest.mark.parametrize("kind", [ov.Op, ov.OpExtension, ov.Extension, ov.RemoteTensor, ov.RemoteContext])
def test_classes_that_are_not_here_are_refused_when_an_object_is_made(kind: Any) -> None:
    class Own(kind):
        """As programs define custom operators."""

    with pytest.raises(ov.UnsupportedError, match=f"^{kind.__name__}: "):
        kind()
    with pytest.raises(ov.UnsupportedError, match=r"^Own: "):
        Own(3)


@pytest.mark.parametrize("kind", [ov.Strides, ov.Coordinate, ov.CoordinateDiff, ov.AxisVector])
def test_vectors_of_integers(kind: Any) -> None:
    vector = kind((1, np.int64(2)))
    assert (list(vector), len(vector), vector[1], 2 in vector) == ([1, 2], 2, 2, True)
    assert vector == [1, 2] == kind(vector)
    assert vector != (2, 1)
    vector[0] = 5
    assert (str(vector), repr(vector)) == ("5, 2", f"<{kind.__name__}: (5, 2)>")
    for wrong in ("12", [0.5], 3, [None]):
        with pytest.raises(WrongTypeError, match=kind.__name__):
            kind(wrong)
    if kind is ov.CoordinateDiff:
        assert list(kind([-1])) == [-1]
    else:
        with pytest.raises(WrongTypeError, match="-1"):
            kind([-1])


def test_a_set_of_axes() -> None:
    assert ov.AxisSet([2, 1, 2]) == {1, 2}
    assert list(ov.AxisSet({3})) == [3]
    with pytest.raises(WrongTypeError):
        ov.AxisSet([-1])


def test_a_vector_of_tensors() -> None:
    tensors = [ov.Tensor(np.full((1, 3), value, np.float32)) for value in (1, 2)]
    vector = ov.TensorVector(tensors[:1])
    vector.append(tensors[1])
    assert (len(vector), vector[1], list(vector), vector.pop()) == (2, tensors[1], tensors, tensors[1])
    for wrong in (lambda: vector.append(3), lambda: ov.TensorVector([3]), lambda: vector.insert(0, "x")):
        with pytest.raises(WrongTypeError, match="holds tensors"):
            wrong()


def test_the_samples_of_a_batch_in_a_vector() -> None:
    compiled = ov.Core().compile_model(two_inputs([2, 3]), "REFERENCE")
    request = compiled.create_infer_request()
    samples = [ov.Tensor(np.full((1, 3), value, np.float32)) for value in (1, 2)]
    request.set_input_tensors(0, ov.TensorVector(samples))
    request.set_input_tensor(1, ov.Tensor(np.zeros((2, 3), np.float32)))
    np.testing.assert_array_equal(request.infer()["sum"], [[1] * 3, [2] * 3])


def test_symbols_of_dimensions() -> None:
    dimension, symbol = ov.Dimension(-1), ov.Symbol()
    assert not dimension.has_symbol()
    assert dimension.get_symbol() is None
    dimension.set_symbol(symbol)
    assert dimension.has_symbol()
    assert dimension.get_symbol() == symbol != ov.Symbol()
    assert dimension == ov.Dimension()


def test_a_copy_of_a_partial_shape_is_its_own() -> None:
    shape = ov.PartialShape([1, -1])
    other = copy.copy(shape)
    other[0] = 5
    assert (str(shape), str(other)) == ("[1,?]", "[5,?]")


def test_ports_are_in_the_order_of_the_model() -> None:
    model = ov.Core().read_model(two_inputs(["n", 3]))
    compiled = ov.Core().compile_model(model, "REFERENCE")
    for holder in (model, compiled):
        ports = [*holder.inputs, *holder.outputs]
        assert sorted([ports[-1], *ports[:-1]]) == ports
        assert max(ports) is holder.outputs[-1]
        assert ports[0] < ports[1]
        assert not ports[0] < ports[0]
        assert ports[0] <= ports[0]
    with pytest.raises(TypeError):
        _ = model.inputs[0] < 3
