"""What PrePostProcessor makes of a model: inputs, outputs, layouts, names; and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.onnx_models import one_input, two_inputs

import cpuruntime as ov
from cpuruntime import InvalidArgumentError, Layout, Type
from cpuruntime.preprocess import ColorFormat, PaddingMode, PrePostProcessor, ResizeAlgorithm, StepValue

LINEAR = ResizeAlgorithm.RESIZE_LINEAR


def processor(shape: list[Any]) -> PrePostProcessor:
    return PrePostProcessor(ov.Core().read_model(one_input(shape)))


def ports(model: ov.Model) -> list[tuple[str, str, str, str]]:
    """Names, shapes, types and layouts of a model's inputs and outputs."""
    return [
        (port.any_name, str(port.partial_shape), port.element_type.type_name, str(port.node.layout))
        for port in (*model.inputs, *model.outputs)
    ]


def test_the_tensor_is_as_it_is_said_to_be() -> None:
    ppp = processor([1, 3, 8, 6])
    ppp.input().tensor().set_element_type(Type.u8).set_layout("NHWC").set_spatial_static_shape(20, 30)
    ppp.input().model().set_layout(Layout("NCHW"))
    ppp.input().preprocess().resize(LINEAR)
    ppp.output().model().set_layout("NCHW")
    ppp.output().tensor().set_layout("NHWC").set_element_type("f16")
    model = ppp.build()
    assert ports(model) == [("x", "[1,20,30,3]", "u8", "[N,H,W,C]"), ("y", "[1,8,6,3]", "f16", "[N,H,W,C]")]


def test_the_model_is_changed_and_its_ports_follow() -> None:
    model = ov.Core().read_model(one_input([1, 3, 8, 6]))
    port = model.input()
    ppp = PrePostProcessor(model)
    ppp.input("x").tensor().set_element_type(Type.u8)
    assert ppp.build() is model
    assert (port.element_type, model.input() is port) == (Type.u8, True)


def test_nothing_said_changes_nothing() -> None:
    model = ov.Core().read_model(two_inputs())
    before = str(model.graph)
    assert str(PrePostProcessor(model).build().graph) == before
    assert str(PrePostProcessor(model)) == ""


@pytest.mark.parametrize(
    ("color", "names", "shapes"),
    [
        (ColorFormat.NV12_SINGLE_PLANE, ["x"], ["[1,12,6,1]"]),
        (ColorFormat.NV12_TWO_PLANES, ["x/y", "x/uv"], ["[1,8,6,1]", "[1,4,3,2]"]),
        (ColorFormat.I420_SINGLE_PLANE, ["x"], ["[1,12,6,1]"]),
        (ColorFormat.I420_THREE_PLANES, ["x/y", "x/u", "x/v"], ["[1,8,6,1]", "[1,4,3,1]", "[1,4,3,1]"]),
        (ColorFormat.RGBX, ["x"], ["[1,8,6,4]"]),
        (ColorFormat.BGR, ["x"], ["[1,8,6,3]"]),
    ],
)
def test_planes_are_inputs(color: ColorFormat, names: list[str], shapes: list[str]) -> None:
    ppp = processor([1, 3, 8, 6])
    ppp.input().tensor().set_element_type(Type.u8).set_color_format(color)
    ppp.input().preprocess().convert_color(ColorFormat.RGB)
    ppp.input().model().set_layout("NCHW")
    model = ppp.build()
    assert [port.any_name for port in model.inputs] == names
    assert [str(port.partial_shape) for port in model.inputs] == shapes
    assert str(model.output().partial_shape) == "[1,3,8,6]"


def test_planes_have_the_names_that_are_given() -> None:
    ppp = processor([1, 3, 8, 6])
    ppp.input().tensor().set_color_format(ColorFormat.NV12_TWO_PLANES, ["luma", "chroma"])
    ppp.input().preprocess().convert_color(ColorFormat.BGR)
    ppp.input().model().set_layout("NCHW")
    assert [port.any_name for port in ppp.build().inputs] == ["x/luma", "x/chroma"]


@pytest.mark.parametrize(
    ("tensor", "steps", "shape"),
    [
        ("HWC", lambda s: s, "[8,6,3]"),
        ("NHWC", lambda s: s, "[1,8,6,3]"),
        ("NHWC", lambda s: s.convert_layout([0, 3, 1, 2]), "[1,8,6,3]"),
        ("NWHC", lambda s: s.convert_layout("NCWH"), "[1,6,8,3]"),
    ],
)
def test_the_shape_follows_from_layouts(tensor: str, steps: Callable[[Any], Any], shape: str) -> None:
    ppp = processor([1, 3, 8, 6])
    ppp.input().tensor().set_layout(tensor)
    ppp.input().model().set_layout("NCHW")
    steps(ppp.input().preprocess())
    assert str(ppp.build().input().partial_shape) == shape


def test_the_model_s_layout_follows_from_the_tensor_s_and_steps() -> None:
    ppp = processor([1, 3, 8, 6])
    ppp.input().tensor().set_layout("NHWC").set_shape([1, 8, 6, 3])
    ppp.input().preprocess().convert_layout([0, 3, 1, 2])
    model = ppp.build()
    assert [node.op_type for node in model.graph.nodes] == ["Transpose", "Neg"]


def test_bounds_of_shapes_are_kept() -> None:
    ppp = processor(["n", 3, 8, 6])
    ppp.input().tensor().set_shape(ov.PartialShape("1..4,3,?,6")).set_layout("NCHW")
    ppp.input().preprocess().resize(LINEAR)
    assert str(ppp.build().input().partial_shape) == "[1..4,3,?,6]"


def test_names_of_outputs_stay() -> None:
    model = ov.Core().read_model(two_inputs([1, 4]))
    ppp = PrePostProcessor(model)
    ppp.output("sum").postprocess().convert_element_type(Type.i32)
    ppp.build()
    assert [(port.any_name, port.element_type.type_name) for port in model.outputs] == [
        ("sum", "i32"),
        ("result", "f32"),
    ]


def test_a_custom_step_writes_nodes() -> None:
    def positive(value: StepValue) -> StepValue:
        assert (value.element_type, str(value.get_partial_shape())) == (Type.f32, "[2,3]")
        return value.apply("Abs").apply("Max", 1)

    ppp = processor([2, 3])
    ppp.input().preprocess().custom(positive)
    ppp.output().postprocess().custom(lambda value: value.apply("Abs"))
    assert [node.op_type for node in ppp.build().graph.nodes] == ["Abs", "Max", "Neg", "Abs"]


def test_nodes_are_of_the_model_s_operator_set_where_they_can_be(tmp_path: Any) -> None:
    ppp = processor([1, 3, 8, 6])
    ppp.input().tensor().set_element_type(Type.u8).set_layout("NHWC").set_spatial_dynamic_shape()
    ppp.input().model().set_layout("NCHW")
    steps = ppp.input().preprocess().resize(LINEAR, 10, 12).convert_element_type().mean([1, 2, 3])
    steps.pad([0, 0, 0, 0], [0, 1, 1, 0], 0, PaddingMode.SYMMETRIC).crop([0, 3, 7, 0], [1, 11, 13, 3])
    model = ppp.build()
    assert {node.version for node in model.graph.nodes} == {17}
    ov.save_model(model, tmp_path / "with_steps.onnx")
    assert ports(ov.Core().read_model(tmp_path / "with_steps.onnx"))[0][:3] == ("x", "[1,?,?,3]", "u8")


def test_steps_are_shown() -> None:
    ppp = processor([1, 3, 8, 6])
    ppp.input().tensor().set_element_type(Type.u8).set_color_format(ColorFormat.BGR)
    ppp.input().model().set_layout("NCHW")
    ppp.input().preprocess().convert_color(ColorFormat.RGB)
    assert str(ppp).splitlines() == [
        'Input "x" (color BGR):',
        "    User's input tensor: [1,8,6,3], [N,H,W,C], u8",
        "    Model's expected tensor: [1,3,8,6], [N,C,H,W], f32",
        "    Pre-processing steps (1):",
        "      convert color (RGB): ([1,8,6,3], [N,H,W,C], u8, BGR) -> ([1,8,6,3], [N,H,W,C], u8, RGB)",
        "    Implicit pre-processing steps (2):",
        "      convert type (f32): ([1,8,6,3], [N,H,W,C], u8, RGB) -> ([1,8,6,3], [N,H,W,C], f32, RGB)",
        "      convert layout [N,C,H,W]: ([1,8,6,3], [N,H,W,C], f32, RGB) -> ([1,3,8,6], [N,C,H,W], f32, RGB)",
    ]
    ppp.input().preprocess().mean([1, 2])
    assert str(ppp).startswith("Error: Input 'x', mean([1.0, 2.0]): ")


def test_every_step_is_shown_in_openvino_s_words() -> None:
    ppp = processor([1, 3, 8, 6])
    assert str(ppp) == ""
    steps = ppp.input().preprocess().mean([1.5, 2, 3]).scale(4).reverse_channels().convert_layout([0, 2, 3, 1])
    steps.resize(LINEAR).resize(LINEAR, 16, 12).crop([0, 0, 0, 0], [1, 8, 6, 3])
    steps.pad([0, 0, 0, 0], [0] * 4, 0, PaddingMode.CONSTANT).convert_layout("NCHW").custom(lambda v: v)
    ppp.input().tensor().set_layout("NCHW").set_memory_type("buffer")
    ppp.output().tensor().set_element_type(Type.u8)
    ppp.output().postprocess().convert_element_type(Type.f16)
    words = [line.partition(": (")[0].strip() for line in str(ppp).splitlines()]
    assert words[3:14] == [
        "Pre-processing steps (10):", "mean (1.5,2,3)", "scale (4)", "reverse channels", "convert layout (0,2,3,1)",
        "resize to model width/height", "resize to (16, 12)", "Crop ([ 0, 0, 0, 0 ],[ 1, 8, 6, 3 ])",
        "pad(begin (0,0,0,0), end (0,0,0,0), with (0))", "convert layout [N,C,H,W]", "custom",
    ]  # fmt: skip
    assert words[14:] == [
        'Output "y":', "Model's data tensor: [1,3,8,6], <no layout>, f32",
        "Post-processing steps (1):", "convert type (f16)",
        "Post-processing implicit steps (1):", "convert type (u8)",
        "User's output tensor: [1,3,8,6], <no layout>, u8",
    ]  # fmt: skip
    assert ppp.build().input().rt_info["memory_type"] == "buffer"


def tensor(ppp: PrePostProcessor) -> Any:
    return ppp.input().tensor()


def steps(ppp: PrePostProcessor) -> Any:
    return ppp.input().preprocess()


REFUSED: list[tuple[Callable[[PrePostProcessor], Any], str]] = [
    (lambda p: p.input().model().set_layout("NCW"), r"Layout \[N,C,W\] has 3 dimensions; 'x' has 4"),
    (lambda p: tensor(p).set_layout("NC").set_shape([1, 3, 8, 6]), r"Layout \[N,C\] has 2 dimensions"),
    (lambda p: (tensor(p).set_layout("NHWC"), p.input().model().set_layout("NCHD")), r"\[N,C,H,D\] cannot become"),
    (lambda p: (tensor(p).set_layout("NCHW"), steps(p).mean([1, 2])), r"mean\(\[1.0, 2.0\]\): 2 numbers .* 3 channels"),
    (lambda p: steps(p).mean([1, 2, 3]), r"layout \[...\] has no C: set_layout says"),
    (
        lambda p: (tensor(p).set_element_type("u8"), steps(p).scale(2)),
        r"are u8, .* convert_element_type first",
    ),
    (lambda p: steps(p).resize(LINEAR), r"resize\(RESIZE_LINEAR, model\): layout \[...\] has no H"),
    (lambda p: (tensor(p).set_layout("NCHW"), steps(p).resize(LINEAR, 0, 5)), "H must be at least 1, not 0"),
    (lambda p: tensor(p).set_shape([1, 3, 10, 9]), r"make the shape \[1,3,10,9\], .* shape \[1,3,8,6\]"),
    (
        lambda p: tensor(p).set_spatial_static_shape(4, 4),
        r"width are set, and layout \[...\] has no H and W",
    ),
    (lambda p: steps(p).crop([0] * 5, [1] * 5), "5 begins and 5 ends are given for rank 4"),
    (lambda p: steps(p).pad([1, 1], [1, 1], 0, PaddingMode.CONSTANT), "mismatches with rank of input, 4"),
    (lambda p: steps(p).pad([0, 0, 9, 0], [0] * 4, 0, PaddingMode.SYMMETRIC), "9 and 0 elements of axis 2 cannot"),
    (lambda p: steps(p).pad([0, 0, 8, 0], [0] * 4, 0, PaddingMode.REFLECT), "elements cannot be mirrored"),
    (lambda p: steps(p).convert_layout([0, 1, 1, 2]), r"\[0, 1, 1, 2\] is no order"),
    (lambda p: steps(p).convert_color(ColorFormat.RGB), "UNDEFINED is not convertible to RGB. Say by"),
    (lambda p: steps(p).custom(lambda value: 3), "returned 3, not a StepValue"),
    (lambda p: steps(p).custom(lambda value: value.apply("Abss")), "no operator 'Abss'"),
    (lambda p: p.output().postprocess().convert_element_type(), "to which type"),
    (lambda p: p.output().model().set_layout("NC"), r"Layout \[N,C\] has 2 dimensions"),
]


@pytest.mark.parametrize(("say", "message"), REFUSED)
def test_what_does_not_fit_is_refused_and_the_model_stays(say: Callable[[PrePostProcessor], Any], message: str) -> None:
    model = ov.Core().read_model(one_input([1, 3, 8, 6]))
    before = str(model.graph)
    ppp = PrePostProcessor(model)
    say(ppp)
    with pytest.raises(ov.Error, match=message) as caught:
        ppp.build()
    assert "\n" not in str(caught.value)
    assert str(model.graph) == before


COLORS = [
    ([1, 3, 7, 6], ColorFormat.NV12_SINGLE_PLANE, ColorFormat.RGB, "even height and width, not 7 x 6"),
    ([1, 3, 8, 5], ColorFormat.I420_THREE_PLANES, ColorFormat.RGB, "even height and width, not 8 x 5"),
    ([1, 3, 8, 6], ColorFormat.RGBX, ColorFormat.GRAY, "RGBX is not convertible to GRAY"),
    ([1, 3, 8, 6], ColorFormat.RGB, ColorFormat.NV12_SINGLE_PLANE, "RGB is not convertible to NV12_SINGLE_PLANE"),
    ([1, 4, 8, 6], ColorFormat.RGBX, ColorFormat.RGBX, "takes no image of RGBX: add convert_color"),
]


@pytest.mark.parametrize(("shape", "source", "target", "message"), COLORS)
def test_colours_that_are_refused(shape: list[int], source: ColorFormat, target: ColorFormat, message: str) -> None:
    ppp = processor(shape)
    ppp.input().tensor().set_element_type("u8").set_color_format(source)
    ppp.input().preprocess().convert_color(target)
    ppp.input().model().set_layout("NCHW")
    with pytest.raises(InvalidArgumentError, match=message):
        ppp.build()


@pytest.mark.parametrize("source", [ColorFormat.NV12_SINGLE_PLANE, ColorFormat.I420_THREE_PLANES])
def test_an_odd_size_that_is_known_late_names_the_rule(source: ColorFormat) -> None:
    ppp = processor([1, 3, "h", "w"])
    ppp.input().tensor().set_element_type("u8").set_color_format(source)
    ppp.input().preprocess().convert_color(ColorFormat.RGB)
    ppp.input().model().set_layout("NCHW")
    model = ppp.build()
    odd = [[1, 9, 5, 1]] if len(model.inputs) == 1 else [[1, 6, 5, 1], [1, 3, 2, 1], [1, 3, 2, 1]]
    with pytest.raises(ov.Error, match=f"of {source.name}, with even height and width"):
        model.reshape(dict(enumerate(odd)))


def test_planes_are_converted_first() -> None:
    ppp = processor([1, 3, 8, 6])
    ppp.input().tensor().set_color_format(ColorFormat.NV12_TWO_PLANES)
    ppp.input().model().set_layout("NCHW")
    ppp.input().preprocess().resize(LINEAR)
    with pytest.raises(InvalidArgumentError, match=r"NV12_TWO_PLANES has 2 planes, .* convert_color first"):
        ppp.build()


def test_arguments_are_checked_at_once() -> None:
    ppp = processor([1, 3, 8, 6])
    steps, tensor = ppp.input().preprocess(), ppp.input().tensor()
    wrong: list[Callable[[], Any]] = [
        lambda: steps.mean("12"),
        lambda: steps.mean([]),
        lambda: steps.resize(3),
        lambda: steps.crop(1.5, [2]),
        lambda: steps.custom(5),
        lambda: steps.convert_color("RGB"),
        lambda: steps.pad([0], [0], 0, "CONSTANT"),
        lambda: tensor.set_element_type("u9"),
        lambda: tensor.set_layout(3),
        lambda: tensor.set_from([1]),
        lambda: PrePostProcessor(3),
        lambda: ppp.input(1.5),
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()
    with pytest.raises(IndexError):
        ppp.input(4)
    with pytest.raises(InvalidArgumentError, match="Port for tensor name q was not found"):
        ppp.input("q")
    with pytest.raises(InvalidArgumentError, match="give both, or none"):
        steps.resize(LINEAR, 3)
    with pytest.raises(InvalidArgumentError, match="1 names; NV12_TWO_PLANES has 2 planes"):
        tensor.set_color_format(ColorFormat.NV12_TWO_PLANES, ["y"])
    with pytest.raises(InvalidArgumentError, match="give one value"):
        steps.pad([0], [0], [1, 2], PaddingMode.CONSTANT)


def test_enumerations_are_openvino_s() -> None:
    assert [int(one) for one in ColorFormat] == list(range(10))
    assert [int(one) for one in PaddingMode] == [0, 2, 3]
    assert str(ColorFormat.BGR) == "ColorFormat.BGR"
    assert ov.preprocess.get_version() == ov.__version__
