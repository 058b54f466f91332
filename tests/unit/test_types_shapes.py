"""Element types, dimensions, shapes."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import ml_dtypes
import numpy as np
import onnx
import pytest

from cpuruntime.errors import InvalidArgumentError, UnsupportedError
from cpuruntime.graph import Dimension, PartialShape, Shape, Type

NUMPY = {
    "boolean": np.bool_,
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
    "i4": ml_dtypes.int4,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "u4": ml_dtypes.uint4,
    "u8": np.uint8,
    "u16": np.uint16,
    "u32": np.uint32,
    "u64": np.uint64,
}


@pytest.mark.parametrize(("name", "dtype"), NUMPY.items())
def test_a_type_and_its_numpy_type(name, dtype):
    element_type = getattr(Type, name)
    assert Type(dtype) is Type(np.dtype(dtype)) is Type(name) is Type(element_type) is element_type
    assert element_type.to_dtype() == dtype
    assert element_type == dtype
    assert element_type == np.dtype(dtype)
    assert element_type.size == np.dtype(dtype).itemsize
    assert element_type.get_type_name() == element_type.to_string() == name


def test_types_differ():
    assert Type.f32 != np.float64
    assert Type.f32 != Type.f16
    assert Type.f32 != None  # noqa: E711  np.dtype(None) is float64
    assert Type.f64 != None  # noqa: E711
    assert Type.f32 != "nonsense"
    assert len(set(Type.members())) == len(list(Type.members()))


def test_text_is_as_in_openvino():
    assert repr(Type.f32) == str(Type.f32) == "<Type: 'float32'>"
    assert repr(Type.i64) == "<Type: 'int64_t'>"
    assert repr(Type.boolean) == "<Type: 'char'>"


def test_python_types_and_strings():
    assert Type(float) is Type.f64
    assert Type(bool) is Type.boolean
    assert Type("float32") is Type.f32
    assert Type(str) is Type(object) is Type("<U5") is Type.string
    assert Type.string.to_dtype().char == "O"


def test_kinds():
    assert Type.bf16.is_real()
    assert not Type.bf16.is_integral()
    assert Type.boolean.is_integral()
    assert not Type.boolean.is_integral_number()
    assert Type.i8.is_signed()
    assert not Type.u8.is_signed()
    assert Type.i4.bitwidth == 4
    assert Type.i4.size == 1
    assert Type.dynamic.is_dynamic()
    assert Type.dynamic.size == 0
    assert Type.dynamic.compatible(Type.f32)
    assert not Type.f32.compatible(Type.f16)


def test_dynamic_has_no_numpy_type():
    with pytest.raises(InvalidArgumentError, match="not known") as caught:
        Type.dynamic.to_dtype()
    assert isinstance(caught.value, IndexError)


def test_unknown_type_suggests_the_nearest():
    with pytest.raises(InvalidArgumentError, match="Did you mean 'float32'"):
        Type("flaot32")
    with pytest.raises(InvalidArgumentError, match="not an element type"):
        Type(np.complex64)


def test_onnx_numbers_round_trip():
    assert Type.from_onnx(onnx.TensorProto.BFLOAT16) is Type.bf16
    for element_type in Type.members():
        assert Type.from_onnx(element_type.to_onnx()) is element_type
        if element_type.is_static() and element_type is not Type.string:
            assert onnx.helper.tensor_dtype_to_np_dtype(element_type.to_onnx()) == element_type.to_dtype()
    with pytest.raises(UnsupportedError, match="complex64"):
        Type.from_onnx(onnx.TensorProto.COMPLEX64)
    with pytest.raises(UnsupportedError, match="999"):
        Type.from_onnx(999)


def test_copies_are_the_same_type():
    assert copy.deepcopy(Type.f16) is Type.f16
    assert pickle.loads(pickle.dumps(Type.u4)) is Type.u4


@pytest.mark.parametrize(
    ("arguments", "text", "low", "high"),
    [
        ((), "?", 0, -1),
        ((-1,), "?", 0, -1),
        (("?",), "?", 0, -1),
        ((5,), "5", 5, 5),
        (("5",), "5", 5, 5),
        ((np.int64(5),), "5", 5, 5),
        ((1, 8), "1..8", 1, 8),
        (("1..8",), "1..8", 1, 8),
        (((1, 8),), "1..8", 1, 8),
        ((0, 8), "..8", 0, 8),
        (("..8",), "..8", 0, 8),
        ((1, -1), "1..", 1, -1),
        (("1..",), "1..", 1, -1),
        ((3, 3), "3", 3, 3),
        ((-1, 100), "..100", 0, 100),
        ((-1, -1), "?", 0, -1),
        (("-1..5",), "..5", 0, 5),
        (("..",), "?", 0, -1),
        (("",), "0", 0, 0),
    ],
)
def test_dimension(arguments, text, low, high):
    dimension = Dimension(*arguments)
    assert str(dimension) == dimension.to_string() == text
    assert repr(dimension) == f"<Dimension: {text}>"
    assert (dimension.min_length, dimension.max_length) == (low, high)
    assert (dimension.get_min_length(), dimension.get_max_length()) == (low, high)
    assert dimension.is_static == (low == high)
    assert dimension.is_dynamic == (low != high)


def test_dimensions_by_keyword_as_in_openvino():
    assert Dimension(dimension=3) == Dimension(str="3") == 3
    assert Dimension(min_dimension=1, max_dimension=3) == Dimension(str="1..3") == Dimension(1, 3)
    assert Dimension(3).compatible(dim=Dimension(3))
    assert Shape(shape="[1,2]") == Shape(axis_lengths=[1, 2]) == [1, 2]
    assert len(Dimension(3)) == 3
    assert bool(Dimension(0))
    assert Dimension() == -1
    assert hash(Dimension()) == hash(-1)
    assert Dimension(1, -1) != -1


@pytest.mark.parametrize(
    "call",
    [
        lambda: Dimension(1.5),
        lambda: Dimension(None),
        lambda: PartialShape([1.5]),
        lambda: PartialShape([[1]]),
        lambda: PartialShape([["a", 2]]),
        lambda: PartialShape(5),
        lambda: PartialShape.dynamic() == [1],
        lambda: Shape(5),
        lambda: Shape([-1]),
        lambda: Type(5),
        lambda: Type.f32.merge(1),
    ],
)
def test_wrong_kinds_are_type_errors(call):
    with pytest.raises(TypeError) as caught:
        call()
    assert isinstance(caught.value, InvalidArgumentError)


def test_types_have_openvino_s_names():
    assert (Type.i4.get_size(), Type.i4.get_bitwidth()) == (1, 4)
    assert [t.type_name for t in Type.members() if t.is_quantized()] == [
        "i4", "i8", "i32", "u8", "f4e2m1", "f8e4m3", "f8e5m2", "f8e8m0",
    ]  # fmt: skip
    assert Type.nf4.quantized
    assert Type.i8.integral_number
    assert Type.boolean.signed
    assert Type.f32.merge(Type.dynamic) is Type.dynamic.merge(Type.f32) is Type.f32
    assert Type.f32.merge(Type.f16) is None
    assert repr(Type.u1) == "<Type: 'uint1_t'>"
    assert Type.u3 is Type("u3")
    assert Type.u6.to_dtype() == np.uint8
    assert Type(np.uint8) is Type.u8


@pytest.mark.parametrize("value", ["bad", "1...8", "8..1", (8, 1), -5, 2.5, None, (1, 2, 3), [1], "１"])
def test_wrong_dimension(value):
    with pytest.raises(InvalidArgumentError, match=r"no dimension|Cannot parse|Incorrect (type|pair)|Two elements"):
        Dimension(value)


def test_dimension_comparisons():
    bounded = Dimension(1, 8)
    assert bounded == Dimension("1..8")
    assert bounded != 5
    assert Dimension(5) == 5
    assert hash(Dimension(5)) == hash(5)
    assert bounded.compatible(3)
    assert not bounded.compatible(9)
    assert bounded.compatible((8, 20))
    assert not bounded.compatible((9, -1))
    assert bounded.relaxes(3)
    assert bounded.relaxes((2, 8))
    assert not bounded.relaxes(Dimension())
    assert Dimension(3).refines(bounded)
    assert Dimension().same_scheme(bounded)
    assert bounded.contains(8)
    assert not bounded.contains(9)
    assert Dimension(2, -1).contains(10**9)


def test_length_of_a_dynamic_dimension():
    assert Dimension(7).get_length() == 7
    assert list(range(9))[Dimension(7)] == 7
    with pytest.raises(InvalidArgumentError, match=r"1\.\.8"):
        Dimension(1, 8).get_length()


def test_shape():
    shape = Shape([1, 3, 224])
    assert str(shape) == shape.to_string() == "[1,3,224]"
    assert repr(shape) == "<Shape: [1,3,224]>"
    assert shape == [1, 3, 224]
    assert list.__eq__([1, 3, 224], shape)
    assert shape == (1, 3, 224)
    assert shape == PartialShape([1, 3, 224])
    assert shape != [1, 3]
    assert isinstance(shape[1:], Shape)
    assert shape[-1] == 224
    assert len(shape) == 3
    assert np.zeros(shape).shape == tuple(shape)
    assert Shape("[1,3]") == Shape("1,3") == [1, 3]
    assert Shape() == []
    shape[0] = 4
    assert shape == [4, 3, 224]
    with pytest.raises(TypeError):
        hash(shape)


@pytest.mark.parametrize("value", [[1, -1], [1.5], 5, "1,?", ["a"]])
def test_wrong_shape(value):
    with pytest.raises(InvalidArgumentError):
        Shape(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, 3], "[1,3]"),
        ((1, -1), "[1,?]"),
        ("[1,3,224..448,?]", "[1,3,224..448,?]"),
        ("1,3,?", "[1,3,?]"),
        ("[1, 3 , 1..]", "[1,3,1..]"),
        ("...", "[...]"),
        ("[...]", "[...]"),
        ("?", "[?]"),
        ("[]", "[]"),
        ("", "[]"),
        ([1, (1, 8)], "[1,1..8]"),
        ([1, "1..8"], "[1,1..8]"),
        ([[1, 8], 2], "[1..8,2]"),
        ([Dimension(1, 8), 2], "[1..8,2]"),
        (Shape([1, 2]), "[1,2]"),
        (PartialShape("[...]"), "[...]"),
        ("[-1,..5]", "[?,..5]"),
        ([(1, -1)], "[1..]"),
    ],
)
def test_partial_shape(value, text):
    shape = PartialShape(value)
    assert str(shape) == shape.to_string() == text
    assert repr(shape) == f"<PartialShape: {text}>"
    assert PartialShape(text) == shape


@pytest.mark.parametrize(
    "value", ["bad", "[1,x]", "[1,3", "1,3]", "{1,2}", [1, -2], [1.5], 5, None, [[1]], "1,,2"]
)
def test_wrong_partial_shape(value):
    with pytest.raises(InvalidArgumentError, match=r"no dimension|no shape|Cannot (parse|get)|Incorrect|Two el"):
        PartialShape(value)


def test_static_and_dynamic():
    static = PartialShape([1, 3])
    assert static.is_static
    assert not static.is_dynamic
    assert static.to_shape() == static.get_shape() == Shape([1, 3])
    assert isinstance(static.to_shape(), Shape)
    dynamic = PartialShape("[1,2..8,?]")
    assert dynamic.is_dynamic
    assert dynamic.rank == 3
    assert dynamic.get_min_shape() == [1, 2, 0]
    assert dynamic.get_max_shape() == [1, 8, 2**63 - 1]
    with pytest.raises(InvalidArgumentError, match=r"\[1,2\.\.8,\?\] is dynamic"):
        dynamic.to_shape()


def test_unknown_rank():
    shape = PartialShape.dynamic()
    assert shape.rank.is_dynamic
    assert shape.is_dynamic
    assert shape == PartialShape("...")
    assert shape != PartialShape([])
    assert shape.get_min_shape() == []
    assert PartialShape.dynamic(3) == PartialShape("?,?,?")
    for use in (len, list, lambda s: s[0]):
        with pytest.raises(InvalidArgumentError, match="rank"):
            use(shape)


def test_dimensions_of_a_partial_shape():
    shape = PartialShape("[1,2..8,?]")
    assert shape[1] == shape.get_dimension(1) == Dimension(2, 8)
    assert shape[-1].is_dynamic
    assert shape[:2] == PartialShape("[1,2..8]")
    assert [str(dimension) for dimension in shape] == ["1", "2..8", "?"]
    assert len(shape) == 3
    shape[1] = 4
    assert str(shape) == "[1,4,?]"
    with pytest.raises(IndexError):
        shape[3]


def test_a_copy_is_independent():
    first = PartialShape([1, 2])
    second = PartialShape(first)
    second[0] = 9
    assert first == [1, 2]
    assert PartialShape.dynamic(2)[0].is_dynamic


def test_partial_shape_comparisons():
    shape = PartialShape("[1,2..8,?]")
    assert shape.compatible([1, 3, 7])
    assert shape.compatible(Shape([1, 2, 0]))
    assert not shape.compatible([1, 9, 7])
    assert not shape.compatible([1, 3])
    assert shape.compatible("...")
    assert shape.contains([1, 3, 7])
    assert not shape.contains([1, 9, 7])
    assert not shape.contains([1, 3])
    assert PartialShape.dynamic().contains([1, 3])
    assert PartialShape.dynamic().relaxes(shape)
    assert shape.refines("...")
    assert not shape.relaxes("...")
    assert shape.relaxes([1, 3, 4])
    assert shape.same_scheme("[1,?,?]")
    assert not shape.same_scheme("[2,?,?]")
    assert PartialShape([1, 2]) == (1, 2)
    assert PartialShape("[1,?]") != [1, 2]


@pytest.mark.parametrize("expression", [
    "Type.bf16.to_dtype().name == 'bfloat16'", "Type('bfloat16') is Type.bf16", "Type.bf16 != 'f32'",
    "len({Type.i4, Type.u4, Type.i4}) == 2", "Type(Type.f8e4m3.to_dtype()) is Type.f8e4m3",
])  # fmt: skip
def test_types_that_numpy_lacks_are_there_when_they_are_used(expression: str) -> None:
    program = f"import sys; from cpuruntime.graph import Type; print('ml_dtypes' in sys.modules, {expression})"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "False True\n"
