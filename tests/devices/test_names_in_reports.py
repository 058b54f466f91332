"""Names of a hostile model in everything that the package prints while it compiles, runs and measures the model.

At commit 53c12cb `explain()`, errors and the command line wrote names as they stand in the file.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from support.hostile_names import assert_readable, hostile
from support.reader_models import model_of

import cpuruntime as ov
from cpuruntime.cli.main import main

X, Z, Y, W = (hostile(name) for name in ("x", "z", "y", "w"))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    nodes = [
        helper.make_node("MatMul", [X, W], [Z], name=hostile("product")),
        helper.make_node("Det", [Z], [Y], name=hostile("fallback")),
    ]
    model = model_of(nodes, {X: [4, 4]}, (Y,), {W: np.ones((4, 4), np.float32)})
    model.graph.name = hostile("graph")
    path = tmp_path_factory.mktemp("names") / "m.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def compiled(path):
    return ov.Core().compile_model(str(path), "CPU", {"PERF_COUNT": True, "ENABLE_CPU_RESERVATION": False})


def test_names_of_the_interface_stay_as_they_are(compiled):
    assert compiled.input(X).any_name == X
    request = compiled.create_infer_request()
    request.infer({X: np.ones((4, 4), np.float32)})
    assert hostile("fallback") in [info.node_name for info in request.profiling_info]
    assert compiled.get_property("NETWORK_NAME") == hostile("graph")


def test_what_is_printed_of_a_compiled_model(compiled):
    assert_readable(str(compiled.explain()))
    assert_readable(repr(compiled))
    assert_readable(repr(compiled.inputs[0]))


@pytest.mark.parametrize(
    "call",
    [
        lambda request: request.infer({hostile("other"): np.ones(1)}),
        lambda request: request.infer({X: np.ones((4, 5), np.float32)}),
        lambda request: request.infer({X: None}),
        lambda request: request.infer({X: np.array(["a"])}),
        lambda request: request.set_tensor(X, 7),
        lambda request: request.set_tensor(X, ov.Tensor(np.ones((4, 4), np.int32))),
        lambda request: request.get_tensor(hostile("other")),
        lambda request: request.infer({X: np.ones((4, 4), np.float32)})[hostile("other")],
    ],
)
def test_errors_of_requests(compiled, call):
    with pytest.raises((ov.Error, KeyError)) as caught:
        call(compiled.create_infer_request())
    assert_readable(str(caught.value))


def test_the_benchmark_command(path, capfd):
    assert main(["benchmark", "-m", str(path), "-niter", "2", "-api", "sync", "-pc"]) == 0
    written = capfd.readouterr()
    assert_readable(written.out)
    assert all(line.isprintable() for line in written.err.split("\n"))


def test_a_command_that_fails(path, tmp_path, capfd):
    model = onnx.load(path)
    model.graph.node[0].input[0] = hostile("other")
    onnx.save(model, tmp_path / "bad.onnx")
    assert main(["benchmark", "-m", str(tmp_path / "bad.onnx")]) == 1
    written = capfd.readouterr()
    assert_readable(written.err)
    assert len(written.err.splitlines()) == 1
