"""The inputs of `cpuruntime benchmark`: layouts, shapes, batches, tables, random values, files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from support.onnx_models import make_model

import cpuruntime as ov
from cpuruntime.cli.benchmark import files, ports, tables
from cpuruntime.cli.inputs import random_array
from cpuruntime.cli.model_options import batched_shapes


def model_of(**inputs: list[int | str]) -> ov.Model:
    """A model that passes each of its inputs through."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in inputs]
    outputs = {f"{name}_out": shape for name, shape in inputs.items()}
    return ov.Core().read_model(make_model(nodes, dict(inputs), dict(outputs)))


def batches(**inputs: list[int | str]) -> list[int]:
    return ports.batches_of(ports.described(model_of(**inputs).inputs, {}))


def test_the_batch_is_what_layouts_call_n_or_the_first_dimension_that_the_inputs_share() -> None:
    assert batches(image=[4, 3, 8, 8], mask=[4, 8], threshold=[1]) == [4]
    assert batches(image=[4, 3, 8, 8], boxes=[100, 4]) == [4]
    assert batches(rows=[4, 8], boxes=[100, 4]) == [1]
    assert batches(image=["n", 3]) == [1]
    assert batches(signal=[16]) == [1]
    with pytest.raises(ov.InvalidArgumentError, match=r"\[2, 4\]"):
        batches(image=[4, 3, 8, 8], other=[2, 3, 8, 8])


def test_a_new_batch_goes_where_layouts_say() -> None:
    model = model_of(x=[8, 1, 5], image=[1, 3, 8, 8], mask=[1, 7], boxes=[100, 4])
    ports.set_layouts(model, "x[CNW]")
    shapes = {name: str(shape) for name, shape in batched_shapes(model, 5).items()}
    assert shapes == {"x": "[8,5,5]", "image": "[5,3,8,8]", "mask": "[5,7]"}


def test_layouts_are_guessed_for_images_and_given_for_others() -> None:
    images = {"a": [1, 3, 224, 224], "b": ["n", 224, 224, 3], "f": ["n", 3, "h", "w"]}
    model = model_of(**images, c=[3, 20, 30], d=[1, 9], e=[2, 8, 8, 8])
    ports.set_layouts(model, "d[NC]")
    layouts = {port.any_name: str(port.node.layout) for port in model.inputs}
    assert layouts == {
        "a": "[N,C,H,W]", "b": "[N,H,W,C]", "c": "[C,H,W]", "d": "[N,C]", "e": "[...]", "f": "[N,C,H,W]"
    }  # fmt: skip
    found = {port.any_name for port in model.inputs if ports.is_image(port.node.layout, port.partial_shape)}
    assert found == {"a", "b", "c", "f"}
    ports.set_layouts(model, "e[N,A,B,C]")
    assert str(model.input("e").node.layout) == "[N,A,B,C]"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x[NCHW]", r"Layout \[N,C,H,W\] has 4 dimensions; 'x' has 2"),
        ("y[NC]", "-layout names 'y', and the model's inputs are 'x'"),
        ("NC", "-layout 'NC' cannot be read"),
        ("x[NN]", r"Layout name is invalid \('NN'\)"),
    ],
)
def test_a_wrong_layout_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ov.InvalidArgumentError, match=complaint):
        ports.set_layouts(model_of(x=[1, 8]), text)


def test_data_shapes() -> None:
    assert ports.parse_data_shapes("a[1,2][3,4], b[]", ["a", "b"]) == {"a": [(1, 2), (3, 4)], "b": [()]}
    assert ports.parse_data_shapes("[1,2]", ["a", "b"]) == {"a": [(1, 2)], "b": [(1, 2)]}
    assert ports.parse_data_shapes("[1][2][3][4]", ["a", "b"]) == {"a": [(1,), (3,)], "b": [(2,), (4,)]}
    (info,) = ports.described(model_of(x=["n", 8]).inputs, {"x": [(2, 8), (5, 8)]})
    assert info.shapes == [(2, 8), (5, 8)]
    assert ports.batches_of([info]) == [2, 5]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a[1,?]", r"\[1,\?\] is no shape of sizes"),
        ("c[1]", "names 'c'"),
        ("[1][2][3]", "3 shapes cannot be shared evenly by 2 inputs"),
        ("a", "cannot be read at 'a'"),
    ],
)
def test_wrong_data_shapes_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ov.InvalidArgumentError, match=complaint):
        ports.parse_data_shapes(text, ["a", "b"])


def test_a_data_shape_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ov.InvalidArgumentError, match=r"shape \[2, 9\] does not fit input 'x', .* \[\?,8\]"):
        ports.described(model_of(x=["n", 8]).inputs, {"x": [(2, 9)]})


node = helper.make_node


def rows_of(*nodes: onnx.NodeProto) -> dict[str, int]:
    """The tables of a model whose int64 inputs `ids` and `mask`, [1, 4], go through nodes; the table is [5, 3]."""
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [1, 4]) for name in ("ids", "mask")]
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    constants = {"zero": [0], "one": [1], "two": [2], "table": np.zeros((5, 3), np.float32)}
    tensors = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "g", ports, [result], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return tables.table_rows(ov.Core().read_model(model))


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Gather", ["table", "ids"], ["y"])], {"ids": 5}),
        ([node("Gather", ["table", "ids"], ["y"], axis=1)], {"ids": 3}),
        ([node("Gather", ["table", "ids"], ["y"], axis=-1)], {"ids": 3}),
        ([node("Cast", ["ids"], ["small"], to=6), node("Gather", ["table", "small"], ["y"])], {"ids": 5}),
        ([node("Add", ["ids", "mask"], ["sum"]), node("Gather", ["table", "sum"], ["y"])], {"ids": 2, "mask": 2}),
        ([node("Cast", ["ids"], ["real"], to=1), node("Relu", ["real"], ["y"])], {}),
        (
            [node("Slice", ["ids", "zero", "two", "one"], ["pair"]), node("GatherND", ["table", "pair"], ["y"])],
            {"ids": 3},
        ),
    ],
)
def test_inputs_that_index_tables_are_found(nodes: list[onnx.NodeProto], expected: dict[str, int]) -> None:
    assert rows_of(*nodes) == expected


def test_random_whole_numbers_stay_below_the_rows() -> None:
    generator = np.random.default_rng(0)
    assert set(random_array((1000,), np.dtype(np.int64), generator, 2).tolist()) == {0, 1}
    assert random_array((10_000,), np.dtype(np.int32), generator, 1000).max() > 255
    assert random_array((1000,), np.dtype(np.int8), generator, 1000).max() <= 127


def info_of(shape: str, layout: str = "...", dtype: type = np.float32, *shapes: tuple[int, ...]) -> ports.InputInfo:
    partial = ov.PartialShape(shape)
    known = [tuple(partial.to_shape())] if partial.is_static else list(shapes)
    return ports.InputInfo("x", np.dtype(dtype), partial, ov.Layout(layout), known)


def read(info: ports.InputInfo, paths: list[Path] | list[files.Source]) -> list[np.ndarray]:
    """The arrays from files."""
    return files.read_arrays(info, [one if isinstance(one, files.Source) else files.Source(one) for one in paths])


def test_files_are_assigned_to_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("a.npy", "b.npy", "folder/d.png", "folder/c.png", "folder/notes.txt", "x:e.bin"):
        (tmp_path / name).touch()
    said: list[str] = []

    def found(*texts: str) -> dict[str, list[str]]:
        said.clear()
        assigned = files.assigned(texts, ["x", "x:0"], said.append)
        return {name: [str(source) for source in sources] for name, sources in assigned.items()}

    assert found("x:a.npy,b.npy", "x:0:folder") == {"x": ["a.npy", "b.npy"], "x:0": ["folder/c.png", "folder/d.png"]}
    assert said == ["1 files of folder are left out: they do not end in one of " + " ".join(
        (*files.IMAGES, *files.ARRAYS)) + "."]  # fmt: skip
    assert found("x:a.npy,x:0:b.npy") == {"x": ["a.npy"], "x:0": ["b.npy"]}
    assert found("a.npy", "b.npy") == {"x": ["a.npy"], "x:0": ["b.npy"]}
    assert "assigned to them in turns" in said[0]
    assert found("x:e.bin") == {"x": ["x:e.bin"]}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("missing.npy", "-i missing.npy: there is no such file or folder."),
        ("imput:a.npy", "'imput' is no input; the model's are 'input'. Did you mean 'input'?"),
        ("text.txt", "-i text.txt: files end in one of .bmp"),
        ("empty", "-i empty: no file of the folder ends in one of"),
        ("wrong.npz", "-i wrong.npz has an array 'other', and the model's inputs are 'input'."),
        ("broken.npz", "-i broken.npz cannot be read"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("a.npy", "text.txt", "broken.npz"):
        (tmp_path / name).write_text("?")
    np.savez(tmp_path / "wrong.npz", other=np.zeros(1))
    with pytest.raises(ov.InvalidArgumentError, match=re.escape(complaint)):
        files.assigned([text], ["input"], print)


def test_arrays_are_whole_or_samples_of_a_batch(tmp_path: Path) -> None:
    whole, sample, raw = tmp_path / "whole.npy", tmp_path / "sample.npy", tmp_path / "raw.bin"
    np.save(whole, np.arange(4.0).reshape(2, 2))
    np.save(sample, np.array([8, 9], np.float32))
    raw.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    info = info_of("2,2", "NC")
    arrays = read(info, [whole, raw])
    assert [array.tolist() for array in arrays] == [[[0, 1], [2, 3]]] * 2
    assert all(array.dtype == np.float32 for array in arrays)
    (doubled,) = read(info, [sample])
    assert doubled.tolist() == [[8, 9], [8, 9]]
    with pytest.raises(ov.InvalidArgumentError, match="input 'x' gets whole batches and single samples"):
        read(info, [sample, whole])


def test_arrays_set_the_shapes_of_dynamic_inputs(tmp_path: Path) -> None:
    paths = [tmp_path / f"{size}.npy" for size in (3, 5)]
    for path in paths:
        np.save(path, np.zeros((1, int(path.stem)), np.int64))
    info = info_of("1,?", "...", np.int64)
    assert [array.shape for array in read(info, paths)] == info.shapes == [(1, 3), (1, 5)]


def test_an_archive_holds_an_array_for_each_input(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.ones((1, 2), np.float32), y=np.zeros((1, 3), np.float32))
    found = files.assigned([str(path)], ["x", "y"], print)
    assert found == {"x": [files.Source(path, "x")], "y": [files.Source(path, "y")]}
    (array,) = read(info_of("1,2"), found["x"])
    assert array.tolist() == [[1, 1]]
    np.savez(path, np.zeros((1, 3), np.float32), np.ones((1, 2), np.float32))
    (array,) = read(info_of("1,2"), files.assigned([str(path)], ["y", "x"], print)["x"])
    assert array.tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.npy", np.zeros((1, 3), np.float32), r"the array's shape \[1, 3\] is not \[1, 2\], that of input 'x'"),
        ("a.npy", np.zeros((1, 2), complex), "the array is complex128, and input 'x' is float32"),
        ("a.npy", np.array([[None, 1]]), "cannot be read: Object arrays"),
        ("a.bin", b"123", r"has 3 bytes; input 'x' is float32 of shape \[1, 2\]"),
        ("a.npy", b"123", "cannot be read"),
        ("a.png", b"123", "needs an input with H and W in its layout; 'x' has the layout"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, name: str, content: object, complaint: str) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(ov.InvalidArgumentError, match=complaint):
        read(info_of("1,2"), [path])


def test_images_are_resized_and_fill_batches_in_the_input_s_layout(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    red, blue = tmp_path / "red.png", tmp_path / "blue.png"
    image.new("RGB", (40, 20), (255, 0, 0)).save(red)
    image.new("RGB", (10, 10), (0, 0, 255)).save(blue)
    planes, again = read(info_of("2,3,4,5", "NCHW"), [red, blue, blue])
    assert planes.shape == (2, 3, 4, 5)
    assert (planes[0, 0] == 255).all()
    assert (planes[1, 2] == 255).all()
    assert not planes[0, 1:].any()
    assert (again[1, 0] == 255).all(), "the images begin again"
    (bytes_,) = read(info_of("1,4,5,3", "NHWC", np.uint8), [blue])
    assert (bytes_.shape, bytes_.dtype, bytes_[0, 3, 4].tolist()) == ((1, 4, 5, 3), np.uint8, [0, 0, 255])
    (grey,) = read(info_of("4,5", "HW"), [red])
    assert grey.shape == (4, 5)
    free = info_of("1,3,?,?", "NCHW")
    read(free, [red, blue])
    assert free.shapes == [(1, 3, 20, 40), (1, 3, 10, 10)]


def test_a_broken_image_is_refused(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "cut.png"
    image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ov.InvalidArgumentError, match=r"cut.png cannot be read as an image"):
        read(info_of("1,3,4,5", "NCHW"), [path])
    with pytest.raises(ov.InvalidArgumentError, match=r"2 channels by its layout \[N,C,H,W\]; images have 1, 3 or 4"):
        read(info_of("1,2,4,5", "NCHW"), [path])
