"""Weights in files beside the model: read only from inside its folder, and only what is there."""

from __future__ import annotations

import io
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from support.reader_models import dense_model, model_of

from cpuruntime.errors import ModelError
from cpuruntime.frontend.reader import read

SECRET = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def folder(tmp_path):
    """A folder for the model, with a file of 100 bytes before and 48 bytes of weights beside it, and one outside."""
    inside = tmp_path / "model"
    (inside / "deep").mkdir(parents=True)
    (tmp_path / "outside.bin").write_bytes(SECRET.tobytes())
    (inside / "w.bin").write_bytes(bytes(100) + SECRET.tobytes())
    (inside / "deep" / "w.bin").write_bytes(SECRET.tobytes())
    return inside


def save(folder, location="w.bin", **entries):
    """Write m.onnx whose w [4,3] lies in `location`."""
    model = dense_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    path = folder / "m.onnx"
    onnx.save(model, path)
    return path


def weights(path):
    return read(path).nodes[0].inputs[1].constant


@pytest.mark.parametrize(
    ("location", "entries"),
    [
        ("w.bin", {"offset": 100, "length": 48}),
        ("w.bin", {"offset": 100}),
        ("deep/w.bin", {}),
        ("./deep/w.bin", {"length": 48}),
    ],
)
def test_data_inside_the_folder(folder, location, entries):
    np.testing.assert_array_equal(weights(save(folder, location, **entries)), SECRET)


def test_a_path_relative_to_the_working_folder(folder, monkeypatch):
    save(folder, "deep/w.bin")
    monkeypatch.chdir(folder)
    np.testing.assert_array_equal(weights("m.onnx"), SECRET)


@pytest.mark.parametrize(
    "location",
    ["../outside.bin", "deep/../../outside.bin", "deep/../deep/w.bin", "{root}/outside.bin", "..\\outside.bin", ""],
)
def test_data_outside_the_folder_are_refused(folder, location):
    with pytest.raises(ModelError, match=r"initializer 'w' has external data in .* outside the model's folder"):
        read(save(folder, location.format(root=folder.parent)))


def test_a_link_out_of_the_folder_is_refused(folder):
    (folder / "link.bin").symlink_to(folder.parent / "outside.bin")
    (folder / "linked").symlink_to(folder.parent)
    for location in ("link.bin", "linked/outside.bin"):
        with pytest.raises(ModelError, match="outside the model's folder"):
            read(save(folder, location))


def test_a_link_within_the_folder(folder):
    (folder / "link.bin").symlink_to("deep/w.bin")
    np.testing.assert_array_equal(weights(save(folder, "link.bin")), SECRET)


def test_links_as_model_hubs_make_them(folder):
    """Model and data are links in one folder to files of other names in another."""
    save(folder, "data.bin").rename(folder / "deep" / "blob1")
    snapshot = folder.parent / "snapshot"
    snapshot.mkdir()
    (snapshot / "m.onnx").symlink_to(folder / "deep" / "blob1")
    (snapshot / "data.bin").symlink_to(folder / "deep" / "w.bin")
    np.testing.assert_array_equal(weights(snapshot / "m.onnx"), SECRET)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": 101, "length": 48}, "at bytes 101 to 149 of 'w.bin', which has only 148"),
        ({"offset": 1000}, "at bytes 1000 to 1048 of 'w.bin', which has only 148"),
        ({"offset": 0, "length": 10**18}, "1000000000000000000 bytes of data; its shape .* needs 48"),
        ({"offset": 100, "length": 44}, "44 bytes of data; its shape .* needs 48"),
        ({"offset": -4}, "the offset '-4', which is no count"),
        ({"offset": "x"}, "the offset 'x'"),
        ({"length": "1e3"}, "the length '1e3'"),
        ({"offset": "9" * 4000}, "the offset"),
        ({"offset": 2**63 - 1}, "which has only 148"),
        ({"location": "missing.bin"}, "'missing.bin', which does not exist"),
        ({"location": "w\0.bin"}, "outside the model's folder"),
        ({"location": "deep"}, "is a folder"),
        ({"location": None}, "without a location"),
    ],
)
def test_wrong_entries(folder, entries, message):
    with pytest.raises(ModelError, match=message):
        read(save(folder, **entries))


def test_a_pipe_is_refused(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(ModelError, match="not a regular file"):
        read(save(folder, "pipe"))


@pytest.mark.parametrize("form", ["bytes", "file", "proto"])
def test_a_model_without_a_folder_has_no_external_data(folder, form, monkeypatch):
    path = save(folder, "deep/w.bin")
    monkeypatch.chdir(folder)
    proto = onnx.load(path, load_external_data=False)
    source = {"bytes": path.read_bytes(), "file": io.BytesIO(path.read_bytes()), "proto": proto}[form]
    with pytest.raises(ModelError, match="not read from a file"):
        read(source)


def test_large_external_data(folder):
    model = dense_model(700, 700)
    expected = numpy_helper.to_array(model.graph.initializer[0])
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="all.bin")
    np.testing.assert_array_equal(weights(folder / "m.onnx"), expected)


def test_external_data_of_a_subgraph(folder):
    external = TensorProto(name="k", data_type=1, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    external.external_data.add(key="location", value="deep/w.bin")
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["k"], ["t"])],
        "branch",
        [],
        [onnx.helper.make_tensor_value_info("t", 1, [4, 3])],
        [external],
    )
    model = model_of([onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)], {})
    model.graph.input.append(onnx.helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    branch = read(folder / "m.onnx").nodes[0].attributes["then_branch"]
    np.testing.assert_array_equal(branch.constants()[0].data, SECRET)
    external.external_data[0].value = "../outside.bin"
    model.graph.node[0].attribute[0].g.initializer[0].CopyFrom(external)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder"):
        read(folder / "m.onnx")
