"""Model files that others change while they are read, and sizes in a file that are not true.

Each test names what went wrong at commit 53c12cb, where paths were checked first and opened later, and files were read
before their sizes were compared.
"""

from __future__ import annotations

import os
import resource
import sys
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from support.reader_models import FLOAT, dense_model, model_of

from cpuruntime.errors import ModelError, OutOfMemoryError
from cpuruntime.frontend.reader import read
from cpuruntime.host import memory

INSIDE = np.arange(12, dtype=np.float32).reshape(4, 3)
OUTSIDE = INSIDE + 100
SIZE = 8 << 30


@pytest.fixture
def folder(tmp_path):
    """A model's folder with deep/w.bin, beside a folder of the same files that the model may not read."""
    for name, data in (("model", INSIDE), ("outside", OUTSIDE)):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "w.bin").write_bytes(data.tobytes())
        (tmp_path / name / "w.bin").write_bytes(data.tobytes())
    return tmp_path / "model"


def external(name, dims, location, **entries):
    tensor = TensorProto(name=name, data_type=FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def save(folder, location="w.bin", **entries):
    model = dense_model()
    model.graph.initializer[0].CopyFrom(external("w", [4, 3], location, **entries))
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def weights(path):
    return read(path).nodes[0].inputs[1].constant


def before_reading(monkeypatch, name, change):
    """Call `change` once, right before a file called `name` is opened to be read."""
    done = []
    real = os.open

    def hooked(path, flags, *args, **more):
        if os.path.basename(path) == name and not flags & os.O_PATH and not done:
            done.append(True)
            change()
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", hooked)
    return done


def replace_by_link(path, target):
    path.rename(path.with_name(f"{path.name}.old"))
    path.symlink_to(target)


def test_a_file_replaced_by_a_link_right_before_it_is_opened(folder, monkeypatch):
    """It was opened by a path that had been checked before, so the outside file's bytes became the weights."""
    path = save(folder)
    done = before_reading(
        monkeypatch, "w.bin", lambda: replace_by_link(folder / "w.bin", folder.parent / "outside" / "w.bin")
    )
    with pytest.raises(ModelError, match="cannot be opened"):
        weights(path)
    assert done


def test_a_folder_replaced_by_a_link_right_before_a_file_in_it_is_opened(folder, monkeypatch):
    """The outside folder's file was read."""
    path = save(folder, "deep/w.bin")
    done = before_reading(
        monkeypatch, "w.bin", lambda: replace_by_link(folder / "deep", folder.parent / "outside" / "deep")
    )
    np.testing.assert_array_equal(weights(path), INSIDE)
    assert done


def test_the_models_own_folder_replaced_while_the_model_is_read(folder, monkeypatch):
    """The folder was looked up by its path again after the model was read."""
    path = save(folder)
    before = (lambda real: lambda *args: (swap(), real(*args))[1])(os.preadv)
    swapped = []

    def swap():
        if not swapped:
            swapped.append(True)
            replace_by_link(folder, folder.parent / "outside")

    monkeypatch.setattr(os, "preadv", before)
    np.testing.assert_array_equal(weights(path), INSIDE)
    assert swapped


def test_a_model_replaced_by_a_link_while_it_is_read(folder, monkeypatch):
    """The folder that the new link leads to was then allowed, too."""
    (folder / "w.bin").unlink()
    (folder / "w.bin").symlink_to(folder.parent / "outside" / "w.bin")
    path = save(folder)
    (folder.parent / "outside" / "m.onnx").write_bytes(path.read_bytes())
    real, swapped = os.preadv, []

    def hooked(*args):
        if not swapped:
            swapped.append(True)
            replace_by_link(path, folder.parent / "outside" / "m.onnx")
        return real(*args)

    monkeypatch.setattr(os, "preadv", hooked)
    with pytest.raises(ModelError, match="outside the model's folder"):
        weights(path)
    assert swapped


def test_links_swapped_by_another_thread(folder):
    """683 of 10546 reads gave the outside file's bytes."""
    path = save(folder, "deep/w.bin")
    link, file, target = folder / "link", folder / "file", folder / "deep" / "w.bin"
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            link.symlink_to(folder.parent / "outside" / "w.bin")
            os.replace(link, target)
            file.write_bytes(INSIDE.tobytes())
            os.replace(file, target)

    thread = threading.Thread(target=swap)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        seen = {_first_weight(path) for _ in range(1000)}
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert seen <= {0.0, None}


def _first_weight(path):
    try:
        return float(weights(path)[0, 0])
    except ModelError:
        return None


@pytest.mark.parametrize(
    ("target", "inside"),
    [
        ("deep/w.bin", True),
        ("deep/../w.bin", True),
        ("deep/.././../model/w.bin", True),
        ("{root}/model/w.bin", True),
        ("{root}/outside/../model/deep/../w.bin", True),
        ("../outside/w.bin", False),
        ("deep/../../outside/w.bin", False),
        ("{root}/outside/w.bin", False),
        ("/proc/self/root{root}/outside/w.bin", False),
        ("../missing", False),
        ("/dev/zero", False),
    ],
)
def test_where_links_may_lead(folder, target, inside):
    (folder / "link").symlink_to(target.format(root=folder.parent))
    path = save(folder, "link")
    if inside:
        np.testing.assert_array_equal(weights(path), INSIDE)
    else:
        with pytest.raises(ModelError, match="outside the model's folder"):
            weights(path)


def test_links_in_a_circle(folder):
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    with pytest.raises(ModelError, match="cannot be opened: Too many levels of symbolic links"):
        weights(save(folder, "a"))


def test_relative_links_as_model_hubs_make_them(folder):
    snapshot = folder / "snapshots" / "1" / "onnx"
    snapshot.mkdir(parents=True)
    save(folder, "model.onnx_data").rename(folder / "deep" / "blob")
    (snapshot / "model.onnx").symlink_to("../../../deep/blob")
    (snapshot / "model.onnx_data").symlink_to("../../../deep/w.bin")
    np.testing.assert_array_equal(weights(snapshot / "model.onnx"), INSIDE)
    (snapshot / "model.onnx_data").unlink()
    (snapshot / "model.onnx_data").symlink_to("../../../w.bin")
    with pytest.raises(ModelError, match="outside the model's folder"):
        weights(snapshot / "model.onnx")


def test_a_model_in_a_descriptor_without_a_path(folder):
    descriptor = os.memfd_create("model")
    try:
        os.write(descriptor, dense_model().SerializeToString())
        assert len(read(f"/proc/self/fd/{descriptor}").nodes) > 0
    finally:
        os.close(descriptor)


def test_no_descriptor_stays_open(folder):
    (folder / "out").symlink_to("../outside/w.bin")
    before = os.listdir("/proc/self/fd")
    for location in ("w.bin", "deep/w.bin", "out", "missing", "deep", "w.bin/x", "../x"):
        _first_weight(save(folder, location))
    for path in (folder, folder / "missing.onnx", folder / "deep" / "w.bin"):
        with pytest.raises(ModelError):
            read(path)
    assert os.listdir("/proc/self/fd") == before


def test_more_external_files_than_a_process_may_open(folder):
    """Each file stayed open until the model was read."""
    names = [f"w{index}" for index in range(200)]
    for name in names:
        (folder / name).write_bytes(INSIDE.tobytes())
    model = model_of([onnx.helper.make_node("Sum", names, ["y"])], {})
    model.graph.initializer.extend(external(name, [4, 3], name) for name in names)
    onnx.save(model, folder / "m.onnx")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 50, limits[1]))
    try:
        assert len(read(folder / "m.onnx").nodes[0].inputs) == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def bytes_read(monkeypatch):
    """The lengths of all reads by descriptor, as they are asked for."""
    asked: list[int] = []
    pread, preadv = os.pread, os.preadv
    monkeypatch.setattr(os, "pread", lambda file, size, at: (asked.append(size), pread(file, size, at))[1])
    monkeypatch.setattr(
        os, "preadv", lambda file, parts, at: (asked.append(sum(map(len, parts))), preadv(file, parts, at))[1]
    )
    return asked


def test_a_large_file_without_a_length(folder, bytes_read):
    """A file of 8 GiB for 48 bytes of weights was read whole, in 61 s and 8.3 GB, and then refused."""
    os.truncate(folder / "w.bin", SIZE)
    np.testing.assert_array_equal(weights(save(folder)), INSIDE)
    assert sum(bytes_read) < 1 << 16


@pytest.mark.parametrize(
    ("entries", "message"), [({"length": SIZE}, f"has {SIZE} bytes .* needs 48"), ({"offset": SIZE}, "has only")]
)
def test_a_large_file_with_a_wrong_place(folder, bytes_read, entries, message):
    """The length was read before it was compared with what the tensor needs."""
    os.truncate(folder / "w.bin", SIZE)
    with pytest.raises(ModelError, match=message):
        weights(save(folder, **entries))
    assert sum(bytes_read) < 1 << 16


def _varint(value):
    data = []
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def _with_hole(path, fields, data):
    """Write messages inside each other, (number of the field, what stands before it), that end with a hole of SIZE."""
    size = SIZE
    for number, before in reversed(fields):
        data = before + _varint(number << 3 | 2) + _varint(size) + data
        size = len(data) + SIZE
    path.write_bytes(data)
    os.truncate(path, len(data) + SIZE)


def test_raw_data_that_are_a_hole_in_the_model(folder, bytes_read):
    """All 8 GiB were read before they were compared with the 48 bytes of the shape."""
    model = dense_model()
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[4, 3])
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    del graph.initializer[0]
    model.ClearField("graph")
    fields = [(7, model.SerializeToString()), (5, graph.SerializeToString()), (9, tensor.SerializeToString())]
    _with_hole(folder / "m.onnx", fields, b"")
    with pytest.raises(ModelError, match=f"'w' has {SIZE} bytes of data; its shape .* needs 48"):
        read(folder / "m.onnx")
    assert sum(bytes_read) < 1 << 20


def test_text_that_is_a_hole_in_the_model(folder, bytes_read):
    """It was read whole and given to protobuf, which refuses messages of 2 GiB."""
    _with_hole(folder / "m.onnx", [(6, dense_model().SerializeToString())], b"")
    with pytest.raises(ModelError, match="is not an ONNX model"):
        read(folder / "m.onnx")
    assert sum(bytes_read) < 1 << 20


def test_external_data_of_more_than_the_machine_has(folder, monkeypatch):
    """Tensors that share one sparse file took any amount of memory, and the system killed the process."""
    model = model_of([onnx.helper.make_node("Sum", ["a", "b"], ["y"])], {})
    model.graph.initializer.extend(external(name, [4, 3], "w.bin") for name in "ab")
    onnx.save(model, folder / "m.onnx")
    assert len(read(folder / "m.onnx").nodes) == 1
    monkeypatch.setattr(memory, "machine_memory", lambda: 95)
    with pytest.raises(OutOfMemoryError, match="the model's external and sparse data"):
        read(folder / "m.onnx")


def test_a_file_that_is_cut_while_it_is_read(folder, monkeypatch):
    real = os.preadv

    def hooked(file, parts, at):
        if sum(map(len, parts)) == INSIDE.nbytes:
            os.truncate(folder / "w.bin", 8)
        return real(file, parts, at)

    monkeypatch.setattr(os, "preadv", hooked)
    with pytest.raises(ModelError, match="ended at byte 8 while it was read"):
        weights(save(folder))


def test_a_shape_of_many_extents(folder):
    """The product of 200,000 extents was computed in full, for minutes."""
    model = dense_model()
    model.graph.initializer[0].dims[:] = [2**62] * 200_000
    with pytest.raises(ModelError, match="overflows 64 bits") as caught:
        read(model)
    assert len(str(caught.value)) < 300
