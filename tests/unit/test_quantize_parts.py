"""The parts of `cpuruntime quantize` that compute without a device: ranges, choice, pairs, regions, data, errors."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from support.judge import Net
from support.quantising import bert_like, resnet_like, samples

import cpuruntime as ov
from cpuruntime.cli.main import main
from cpuruntime.cli.quantize import Progress
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.quantize.budget import Limit, choose
from cpuruntime.quantize.check import check
from cpuruntime.quantize.data import Preparation, read_samples
from cpuruntime.quantize.editor import Editor
from cpuruntime.quantize.errors import Difference
from cpuruntime.quantize.form import layers, prepared
from cpuruntime.quantize.histogram import Histogram
from cpuruntime.quantize.regions import Regions
from cpuruntime.quantize.weights import saturating_pairs


def test_a_histogram_that_grew_is_that_of_all_at_once() -> None:
    random = np.random.default_rng(0)
    parts = [(scale * random.standard_normal(1000)).astype(np.float32) for scale in (0.01, 1.0, 30.0)]
    grown, whole = Histogram(), Histogram()
    for part in parts:
        grown.add(part)
    whole.add(np.concatenate([parts[2], parts[1], parts[0]]))
    assert grown.reach == whole.reach
    assert (grown.least, grown.most) == (whole.least, whole.most)
    np.testing.assert_array_equal(grown.counts, whole.counts)


def test_the_range_is_that_of_the_least_error() -> None:
    random = np.random.default_rng(1)
    even, far = Histogram(), Histogram()
    even.add(random.uniform(-1, 3, 20000).astype(np.float32))
    found = even.range()
    assert (found.low, found.high) == pytest.approx((-1, 3), rel=0.02)
    assert found.zero_point == 64
    values = random.standard_normal(1_000_000).astype(np.float32)
    for part in (values, values, values, values, np.array([9], np.float32)):
        far.add(part)
    assert far.range().method != "min-max"
    assert far.range().high < 8
    for low, high in ((-1, 3), (-0.5, 2)):
        step = (high - low) / 255
        data = random.uniform(-1, 3, 20000).astype(np.float32)
        counted = Histogram()
        counted.add(data)
        rounded = np.clip(np.rint(data / step), round(low / step), round(high / step)) * step
        beyond = (data < low) | (data > high)
        square = np.where(beyond, 16, 1) * (rounded - data) ** 2
        assert counted.error(low, high) == pytest.approx(square.mean(), rel=0.05)


def test_zeros_only_have_a_range_that_holds_them() -> None:
    zeros = Histogram()
    zeros.add(np.zeros(5, np.float32))
    assert zeros.range().method == "constant"
    assert zeros.range().scale > 0
    tiny = Histogram()
    tiny.add(np.array([1e-44], np.float32))
    assert np.float32(tiny.range().scale) >= np.finfo(np.float32).tiny


def additive(errors: dict[str, float]) -> Difference:
    """What layers give whose squares of errors add up."""
    return Difference({"y": np.array([sum(error**2 for error in errors.values()), 1.0, 1.0, 0.9])})


def test_layers_are_chosen_by_gain_for_error_within_the_limit() -> None:
    errors = {"cheap": 0.01, "good": 0.02, "bad": 0.5, "slow": 0.0, "small": 0.03}
    gains = {"cheap": 5.0, "good": 50.0, "bad": 60.0, "slow": -1.0, "small": 1.0}

    def difference(chosen: Collection[str]) -> Difference:
        return additive({name: errors[name] for name in chosen})

    assert choose(errors, gains, difference, Limit(error=1.0)) == ["good", "cheap", "small", "bad"]
    assert choose(errors, gains, difference, Limit(error=0.04)) == ["good", "cheap", "small"]
    assert choose(errors, gains, difference, Limit(error=0.031)) == ["good", "cheap"]
    assert choose(errors, gains, difference, Limit(cosine=0.95)) == []


def test_pairs_that_can_saturate_are_counted_by_hand() -> None:
    values = np.array([[127, 2, -128, 0], [127, 1, -127, -2], [64, 64, 100, -100]], np.int8)
    assert saturating_pairs(values, 0) == (2, 6)
    assert saturating_pairs(np.ascontiguousarray(values.T), 1) == (2, 6)
    window = np.zeros((1, 2, 1, 2), np.int8)
    window[0, :, 0, 1] = 100
    assert saturating_pairs(window, 0) == (1, 2)
    assert saturating_pairs(np.full((4, 1, 3, 3), 127, np.int8), 0) == (0, 36)
    assert saturating_pairs(values.astype(np.uint8), 0) == (0, 0)


def test_check_looks_at_every_way_to_write_a_layer() -> None:
    weight = np.array([[127, 2], [127, 1]], np.int8)
    one, zero = np.float32(1), np.int8(0)
    constants = {"w": weight, "wt": weight.T.copy(), "k": weight[..., None, None], "s": one, "z": zero,
                 "u": np.uint8(0)}  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"], "dq"),
        helper.make_node("Gemm", ["x", "wf"], ["y0"], "gemm", transB=1),
        helper.make_node("Transpose", ["wf"], ["wft"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wft"], ["y1"], "product"),
        helper.make_node("MatMulInteger", ["q", "wt"], ["y2"], "integers"),
        helper.make_node("QLinearConv", ["i", "s", "u", "k", "s", "z", "s", "u"], ["y3"], "conv"),
    ]
    tensors = [numpy_helper.from_array(np.array(array), name) for name, array in constants.items()]
    found = check(helper.make_model(helper.make_graph(nodes, "g", [], [], tensors)))
    assert [(one.name, one.saturating, one.pairs) for one in found] == [
        (name, 1, 2) for name in ("gemm", "product", "integers", "conv")
    ]
    with pytest.raises(InvalidArgumentError, match="no layer with constant weights of 8 bits"):
        check(resnet_like())


def test_what_is_stored_in_8_bits_between_layers() -> None:
    editor = Editor(prepared(resnet_like()))
    found = layers(editor)
    regions = Regions(editor, found, [layer.name for layer in found])
    inside = {node.op_type for node in editor.graph.node if node.name in regions.inside}
    assert inside == {"Conv", "Add", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm"}
    assert "BatchNormalization" not in {node.op_type for node in editor.graph.node}
    makers = [editor.producers[name].op_type for name in regions.values if name in editor.producers]
    assert makers == ["Relu", "Relu", "Conv", "Relu", "MaxPool", "Relu", "Conv", "GlobalAveragePool", "Flatten"]
    pooled = next(name for name in regions.values[1:] if editor.producers[name].op_type == "MaxPool")
    assert regions.together[pooled] == editor.producers[pooled].input[0]
    few = Regions(editor, found, [found[-1].name])
    assert [editor.producers[name].op_type for name in few.values] == ["GlobalAveragePool", "Flatten"]


def test_residuals_and_normalisations_of_transformers_stay_float32() -> None:
    editor = Editor(prepared(bert_like()))
    found = layers(editor)
    regions = Regions(editor, found, [layer.name for layer in found])
    inside = {node.op_type for node in editor.graph.node if node.name in regions.inside}
    assert inside == {"MatMul", "Reshape", "Transpose"}
    assert sum(layer.after is not None for layer in found) == 4


@pytest.fixture
def model() -> ov.Model:
    return ov.Core().read_model(resnet_like())


def read(data: Path | str, model: ov.Model, **more: object) -> list[dict[str, np.ndarray]]:
    return read_samples(str(data), model, Preparation(**more), 32)  # type: ignore[arg-type]


def test_samples_come_from_files_folders_images_and_functions(
    tmp_path: Path, model: ov.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = [feeds["x"] for feeds in samples(resnet_like(), 3)]
    np.savez(tmp_path / "stacked.npz", np.stack(arrays))
    np.savez(tmp_path / "one.npz", x=arrays[0])
    for folder in ("plain", "named/x", "photos"):
        (tmp_path / folder).mkdir(parents=True)
    for number, array in enumerate(arrays):
        np.save(tmp_path / "plain" / f"{number}.npy", array)
        np.save(tmp_path / "named" / "x" / f"{number}.npy", array)
    text = "import numpy as np\ndef make():\n    yield from np.load('plain.npy')\n"
    (tmp_path / "yields_samples.py").write_text(text)
    np.save(tmp_path / "plain.npy", np.stack(arrays))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for data, count in (("stacked.npz", 3), ("one.npz", 1), ("plain", 3), ("named", 3), ("yields_samples:make", 3)):
        found = read(data, model)
        assert len(found) == count, data
        for one, array in zip(found, arrays):
            np.testing.assert_array_equal(one["x"], array)
    pixels = np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    (found,) = read("photos", model, mean=(1.0, 2.0, 3.0), scale=(2.0,), bgr=True)
    wanted = ((pixels[..., ::-1].astype(np.float32) - [1, 2, 3]) / 2).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(found["x"], wanted, rtol=1e-6)


GOOD = np.random.default_rng(0).standard_normal((1, 3, 12, 12)).astype(np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((0, 1, 3, 12, 12), np.float32)}, "it has no sample"),
        ({"x": np.full((1, 3, 12, 12), 0.5, np.float32)}, "Input 'x' is 0.5 everywhere in all 1 samples"),
        ({"x": np.where(GOOD > 2, np.nan, GOOD)}, "Sample 0: 'x' has NaN or infinite elements"),
        ({"x": GOOD[..., :7]}, r"Sample 0: 'x' has the shape \[1, 3, 12, 7\]; the model's input has \[1,3,12,12\]"),
        ({"x": GOOD.astype(np.int64)}, "Sample 0: 'x' is int64; the model's input is float32"),
        ({"y": GOOD}, "has an array 'y'; the inputs are 'x'"),
        ({}, "Sample 0 has no array for 'x'"),
    ],
)
def test_bad_samples_are_one_line(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(resnet_like(), tmp_path / "small.onnx")
    np.savez(tmp_path / "data.npz", **arrays)
    assert main(["quantize", str(tmp_path / "small.onnx"), str(tmp_path / "data.npz")]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[ INFO ]")]
    assert re.search(message, line)
    assert not (tmp_path / "small-int8.onnx").exists()


def test_what_cannot_be_quantised_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    n = Net()
    n.output(n("Relu", n.input(1, 3, 12, 12, name="x")))
    onnx.save(n.model(), tmp_path / "relu.onnx")
    n = Net()
    x = n.input(1, 3, name="x")
    n.output(n("DequantizeLinear", n("QuantizeLinear", x, n.constant(1.0)), n.constant(1.0)))
    onnx.save(n.model(), tmp_path / "done.onnx")
    np.savez(tmp_path / "images.npz", x=GOOD)
    np.savez(tmp_path / "rows.npz", x=GOOD[0, 0, :1, :3])
    path = str(tmp_path / "relu.onnx")
    for arguments, message in (
        ([path, str(tmp_path / "images.npz")], "no Conv or Gemm with constant weights and no MatMul"),
        ([str(tmp_path / "done.onnx"), str(tmp_path / "rows.npz")], "QuantizeLinear 'n0_QuantizeLinear': the model is"),
        ([path], "DATA is missing"),
        ([path, "missing.npz"], "DATA missing.npz: there is no such file or folder"),
        ([path, "no_module:here"], "DATA no_module:here: no such file, folder or function"),
        (["--check", path], "has no layer with constant weights of 8 bits"),
        ([path, str(tmp_path / "images.npz"), "--json", "missing/r.json"], "--json missing/r.json: it must be a file"),
    ):
        assert main(["quantize", *arguments]) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("[ INFO ]")]
        assert message in line
    assert main(["quantize", path, "x.npz", "--max-error", "0"]) == 2
    assert "'0' must be a number above 0" in capsys.readouterr().err


def test_an_old_operator_set_is_raised_and_a_first_input_of_8_bits_is_no_layer() -> None:
    n = Net(opset=11)
    n.output(n.conv(n.input(1, 3, 8, 8), 3, 4))
    model = prepared(n.model())
    assert model.opset_import[0].version == 17
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.FLOAT}


def test_progress_has_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    moments = iter([10.0, 10.5, 12.0, 12.1])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    progress = Progress()
    for done in (0, 1, 2):
        progress("layers", done, 10)
    progress("writing", 0, 0)
    assert capsys.readouterr().err.splitlines() == [
        "[ INFO ] layers, 0 of 10", "[ INFO ] layers, 2 of 10, about 8 s left", "[ INFO ] writing"
    ]  # fmt: skip
