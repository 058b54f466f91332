"""Compiled models in files: exported, imported, and refused where they are damaged or of others."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import stored_mutants
from support.stored_models import CONFIG, STORED, convolutional, feeds, indexed, is_loaded, results

import cpuruntime as ov
from cpuruntime.errors import ModelError, WrongTypeError
from cpuruntime.store import SectionFile, written


@pytest.mark.parametrize("name", STORED)
def test_an_exported_model_computes_the_same_bits(name: str) -> None:
    model = STORED[name]()
    compiled = ov.Core().compile_model(model, "CPU", CONFIG)
    inputs = feeds(model)
    expected = results(compiled, inputs)
    stream = compiled.export_model()
    assert isinstance(stream, BytesIO)
    content = stream.getvalue()
    for source in (stream, content, bytearray(content), ov.Tensor(np.frombuffer(content, np.uint8))):
        imported = ov.Core().import_model(source, "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})
        assert results(imported, inputs) == expected
        assert is_loaded(imported)
        assert not is_loaded(compiled)
        assert [str(port) for port in imported.outputs] == [str(port) for port in compiled.outputs]
    again = imported.export_model().getvalue()
    assert results(ov.Core().import_model(again, "CPU", CONFIG), inputs) == expected


def test_an_imported_model_explains_itself_as_the_first_one_did() -> None:
    model = convolutional()
    compiled = ov.Core().compile_model(model, "CPU", {**CONFIG, "PERF_COUNT": True})
    imported = ov.Core().import_model(compiled.export_model(), "CPU", {**CONFIG, "PERF_COUNT": True})
    assert imported.explain().rows == compiled.explain().rows
    assert str(imported.get_runtime_model().graph) == str(compiled.get_runtime_model().graph)
    request = imported.create_infer_request()
    request.infer(feeds(model))
    first = compiled.create_infer_request()
    first.infer(feeds(model))
    assert [row.exec_type for row in request.profiling_info] == [row.exec_type for row in first.profiling_info]
    assert all(row.status.name == "EXECUTED" for row in request.profiling_info)
    assert any(row.gflops for row in imported.explain(measure=True).rows)


def test_faults_are_reported_as_before() -> None:
    model = indexed()
    compiled = ov.Core().compile_model(model, "CPU", CONFIG)
    imported = ov.Core().import_model(compiled.export_model(), "CPU", CONFIG)
    said = []
    for one in (compiled, imported):
        with pytest.raises(ov.Error) as raised:
            one([feeds(model)[0], np.array([0, 9, 0])])
        said.append(str(raised.value))
    assert said[0] == said[1]


def test_names_and_layouts_of_ports_are_stored() -> None:
    model = ov.Core().read_model(convolutional())
    model.input(0).get_node().set_friendly_name("picture")
    model.input(0).tensor.set_names({"p", "q"})
    model.input(0).get_node().layout = ov.Layout("NCHW")
    compiled = ov.Core().compile_model(model, "CPU", CONFIG)
    imported = ov.Core().import_model(compiled.export_model(), "CPU", CONFIG)
    port = imported.input("p")
    assert (port.get_node().get_friendly_name(), port.names) == ("picture", {"p", "q"})
    assert port.get_node().layout == ov.Layout("NCHW")


def test_a_file_is_mapped(tmp_path: Path) -> None:
    model = convolutional()
    compiled = ov.Core().compile_model(model, "CPU", CONFIG)
    path = tmp_path / "stored"
    path.write_bytes(compiled.export_model().getvalue())
    imported = ov.Core().import_model(path, "CPU", CONFIG)
    assert str(path) in Path("/proc/self/maps").read_text()
    assert results(imported, feeds(model)) == results(compiled, feeds(model))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "truncated or damaged|is no model"),
        (b"x" * 10_000, "is no model"),
        (convolutional().SerializeToString(), "is no model"),
        ("/nowhere/at/all", "There is no compiled model"),
        ("/", "cannot be imported"),
    ],
)
def test_what_is_no_compiled_model_is_refused(source: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ov.Core().import_model(source, "CPU")


def test_sources_of_other_types_are_refused() -> None:
    with pytest.raises(WrongTypeError, match="a compiled model is a path"):
        ov.Core().import_model(7, "CPU")


@pytest.mark.parametrize(
    "settings",
    [{"NUM_STREAMS": 2, "INFERENCE_NUM_THREADS": 2}, {"PERFORMANCE_HINT": "THROUGHPUT"}, {"NUM_STREAMS": 1}, {}],
    ids=str,
)
def test_streams_are_as_in_the_model_that_was_exported(settings: dict[str, Any]) -> None:
    names = ("NUM_STREAMS", "INFERENCE_NUM_THREADS", "PERFORMANCE_HINT")
    exported = ov.Core().compile_model(convolutional(), "CPU", settings)
    stored = exported.export_model()
    for imported in (ov.Core().import_model(stored), ov.Core().import_model(stored, "CPU", {"PERF_COUNT": True})):
        assert [imported.get_property(name) for name in names] == [exported.get_property(name) for name in names]
        assert imported.export_model().getvalue() == stored.getvalue()
    one = ov.Core().import_model(stored, "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})
    assert (one.get_property("NUM_STREAMS"), one.get_property("INFERENCE_NUM_THREADS")) == (1, 1)


def test_a_model_for_more_threads_is_refused() -> None:
    content = ov.Core().compile_model(convolutional(), "CPU", CONFIG).export_model()
    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two processors")
    with pytest.raises(ModelError, match="streams of 1 thread at most"):
        ov.Core().import_model(content, "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 2})


def changed(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A file with other facts, and right checksums."""
    file = SectionFile(memoryview(content))
    change(file.facts)
    return b"".join(written(file.facts, {name: [file[name]] for name in ("interface", *SECTIONS)}))


SECTIONS = "program 0 words", "program 0 relocations", "program 0 steps", "weights"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.update(format=0, made_by="0.0.1"), "made for CPU by cpuruntime 0.0.1"),
        (lambda facts: facts.update(device="REFERENCE"), "made for REFERENCE"),
        (lambda facts: facts["own"].update(sources="other"), "by other sources"),
        (lambda facts: facts["own"].update(environment="other", isa="avx512"), "for avx512"),
        (lambda facts: facts["own"]["program"]["kernels"].append(["cpuruntime_gone", None, ""]), "is not compiled"),
        (lambda facts: facts["own"]["program"]["kernels"][0].__setitem__(2, "+later"), "its kernels need .later"),
        (lambda facts: facts["own"]["program"].update(weights=[1]), "do not fit together"),
        (lambda facts: facts["own"].pop("program"), "program"),
    ],
)
def test_files_of_others_are_refused(change: Callable[[dict[str, Any]], None], message: str) -> None:
    content = ov.Core().compile_model(convolutional(), "CPU", CONFIG).export_model().getvalue()
    with pytest.raises(ModelError, match=message):
        ov.Core().import_model(changed(content, change), "CPU", CONFIG)


def test_no_mutation_of_a_file_is_used() -> None:
    """10,000 by `python tests/support/stored_mutants.py 10000`."""
    assert stored_mutants.check(convolutional(), 300) == 300
