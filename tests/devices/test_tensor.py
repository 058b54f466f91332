"""Tensors: making them, sharing and copying memory, shapes, parts, strings."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from support.onnx_models import one_input

import cpuruntime as ov
from cpuruntime import InvalidArgumentError, Tensor, Type


@pytest.fixture
def array() -> np.ndarray:
    return np.arange(6, dtype=np.float32).reshape(2, 3)


def test_an_array_is_copied_unless_it_is_to_be_shared(array: np.ndarray) -> None:
    copied, shared = Tensor(array), Tensor(array, shared_memory=True)
    array[0, 0] = 9
    assert copied.data[0, 0] == 0
    assert shared.data[0, 0] == 9
    assert shared.data.shape == (2, 3)
    np.testing.assert_array_equal(Tensor(array.T).data, array.T)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tensor(np.ones((3, 5), np.float32)),
        lambda: Tensor(Type.f32, [3, 5]),
        lambda: Tensor(np.float32, ov.Shape([3, 5])),
        lambda: Tensor(type=Type.f32, shape=[3, 5]),
        lambda: Tensor(np.dtype("float32"), (3, 5)),
    ],
)
def test_memory_of_its_own_is_aligned(make: Any) -> None:
    tensor = make()
    assert tensor.data.ctypes.data % 64 == 0
    assert (tensor.shape, tensor.element_type, tensor.size, tensor.byte_size) == ([3, 5], Type.f32, 15, 60)


def test_an_array_can_be_seen_with_another_shape_and_type(array: np.ndarray) -> None:
    seen = Tensor(array, [3, 2], Type.f32)
    seen.data[0, 1] = 7
    assert array[0, 1] == 7
    assert Tensor(array, [6]).element_type is Type.f32
    assert Tensor(array.view(np.uint8), [2, 3], Type.f32).data[0, 1] == 7
    with pytest.raises(InvalidArgumentError, match=r"6 float32 elements cannot be seen as f32\[4,2\]"):
        Tensor(array, [4, 2], Type.f32)
    assert Tensor(array, [2, 2]).data.tolist() == [[0, 7], [2, 3]]
    assert Tensor(type=Type.f32, shape=[1]).shape == Tensor("float32", [1]).shape == Tensor(np.float32, [1]).shape


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [("u1", 9, 2), ("u2", 5, 2), *((name, 5, 3) for name in ("u4", "i4", "nf4", "f4e2m1")), ("u3", 9, 6), ("u6", 5, 6)],
)
def test_types_narrower_than_a_byte_are_packed(name: str, count: int, size: int) -> None:
    element_type = Type(name)
    memory = np.arange(size, dtype=np.uint8)
    tensor = Tensor(memory, [count], element_type)
    assert (tensor.shape, tensor.size, tensor.byte_size) == ([count], count, size)
    tensor.data[0] = 100
    assert memory.tolist() == tensor.data.tolist() == [100, *range(1, size)]
    assert tensor.data.dtype == (np.int8 if name == "i4" else np.uint8)
    own = Tensor(element_type, [1, count])
    own.copy_from(tensor)
    assert (own.shape, own.data.tolist()) == ([count], tensor.data.tolist())
    own.shape = [100]
    assert own.data.size == own.byte_size > 12
    with pytest.raises(InvalidArgumentError, match=f"cannot be seen as {name}"):
        Tensor(memory, [100], element_type)
    for refused in (lambda: tensor.strides, lambda: Tensor(tensor, [0], [1])):
        with pytest.raises(ov.UnsupportedError, match=name):
            refused()


def test_an_array_for_a_port_may_be_larger(array: np.ndarray) -> None:
    port = ov.Core().read_model(one_input([1, 3])).input()
    with pytest.warns(RuntimeWarning, match="more elements"):
        assert Tensor(port, array).data.tolist() == [[0, 1, 2]]
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        Tensor(port, array[:, :1].copy())


def test_wrong_kinds_are_type_errors(array: np.ndarray) -> None:
    for call in (
        Tensor,
        lambda: Tensor(None),
        lambda: Tensor("nope", [1]),
        lambda: Tensor(Type.f32, [-1]),
        lambda: Tensor(array).copy_from(5),
        lambda: Tensor(array).copy_to(array),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert isinstance(caught.value, InvalidArgumentError)


def test_lists_and_scalars_become_arrays() -> None:
    assert Tensor([1.5, 2]).data.tolist() == [1.5, 2]
    assert Tensor(3).shape == []


def test_a_part_shares_the_memory(array: np.ndarray) -> None:
    whole = Tensor(array)
    part = Tensor(whole, [0, 1], [2, 3])
    part.data[...] = -1
    assert whole.data.tolist() == [[0, -1, -1], [3, -1, -1]]
    assert (part.is_continuous(), whole.is_continuous()) == (False, True)
    assert part.strides == (12, 4)
    with pytest.raises(InvalidArgumentError, match="part of another"):
        part.shape = [1, 1]
    for begin, end in ([[0, 0], [3, 3]], [[1, 1], [0, 2]], [[0], [1]], [[-1, 0], [1, 1]]):
        with pytest.raises(InvalidArgumentError, match="does not lie in"):
            Tensor(whole, begin, end)


def test_sharing_needs_contiguous_memory(array: np.ndarray) -> None:
    with pytest.raises(InvalidArgumentError, match="C-contiguous"):
        Tensor(array.T, shared_memory=True)
    with pytest.raises(InvalidArgumentError, match="C-contiguous"):
        Tensor([1.0], [1], Type.f32)  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [(), (np.ones(2), 1.5), (Type.f32,), (Type.f32, [1], 2), (1, 2, 3, 4)])
def test_other_arguments_are_refused_with_the_forms_there_are(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Tensor\(array, shared_memory=False\)|ints >= 0"):
        Tensor(*arguments)


def test_types_without_arrays_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="complex128"):
        Tensor(np.ones(2, complex))
    with pytest.raises(InvalidArgumentError, match="dynamic"):
        Tensor(Type.dynamic, [2])


def test_own_memory_grows_and_shared_memory_does_not(array: np.ndarray) -> None:
    own = Tensor(array)
    own.shape = [1, 4]
    assert own.data.tolist() == [[0, 1, 2, 3]]
    own.set_shape([4, 4])
    assert own.get_shape() == [4, 4]
    assert own.data.ctypes.data % 64 == 0
    shared = Tensor(array, shared_memory=True)
    shared.shape = [1, 2]
    shared.shape = [2, 3]
    assert shared.data.tolist() == array.tolist()
    with pytest.raises(InvalidArgumentError, match=r"\[4, 4\] failed: it has 16 elements; .* memory has 6"):
        shared.shape = [4, 4]
    with pytest.raises(InvalidArgumentError):
        shared.shape = [-1, 2]


def test_copying_takes_on_the_shape_and_keeps_the_type(array: np.ndarray) -> None:
    target = Tensor(Type.f32, [1])
    Tensor(array).copy_to(target)
    assert target.data.tolist() == array.tolist()
    with pytest.raises(InvalidArgumentError, match="f32 cannot be copied to one of type i32"):
        Tensor(Type.i32, [2, 3]).copy_from(Tensor(array))
    for source in (2 * array, array.T, (3 * array)[:1]):
        target.copy_from(source)
        assert target.data.tolist() == source.tolist()
    target.copy_from(source=array)
    assert target.data.tolist() == array.tolist()
    strings = Tensor(["a"])
    for given in (["x", "yy"], np.array([b"x", b"yy"]), np.array([["x"], ["yy"]])):
        strings.copy_from(given)
        assert strings.str_data.tolist() == np.array(given).astype(str).tolist()
    with pytest.raises(InvalidArgumentError, match="f64 cannot be copied to one of type f32"):
        target.copy_from(array.astype(np.float64))


def test_strings_as_objects_as_text_and_as_bytes() -> None:
    tensor = Tensor(np.array(["a", "dörf"]))
    assert (tensor.element_type, tensor.data.tolist()) == (Type.string, ["a", "dörf"])
    assert tensor.str_data.tolist() == ["a", "dörf"]
    assert tensor.bytes_data.tolist() == [b"a", "dörf".encode()]
    tensor.bytes_data = np.array([b"x", b"y"])
    assert tensor.data.tolist() == ["x", "y"]
    tensor.str_data = [["long"], ["enough"]]
    assert (tensor.shape, tensor.data.tolist()) == ([2], ["long", "enough"])
    for wrong in (["x"], ["x", "y", "z"], "x", [1, 2], np.array([1, 2])):
        with pytest.raises(InvalidArgumentError, match=r"strings given for|holds str or bytes, not"):
            tensor.str_data = wrong
    with pytest.raises(InvalidArgumentError, match="holds str or bytes, not NoneType"):
        Tensor(np.array(["x", None], object))
    assert Tensor(Type.string, [2]).data.tolist() == ["", ""]
    with pytest.raises(InvalidArgumentError, match="holds no strings"):
        _ = Tensor([1.0]).str_data


def test_getters_and_conversions_agree_with_the_properties(array: np.ndarray) -> None:
    tensor = Tensor(array)
    assert tensor.get_element_type() is tensor.element_type
    assert (tensor.get_size(), tensor.get_byte_size(), tensor.get_strides()) == (6, 24, (12, 4))
    assert repr(tensor) == "<Tensor: shape[2,3] type: f32>"
    np.testing.assert_array_equal(np.asarray(tensor), array)
    assert not np.shares_memory(copy.deepcopy(tensor).data, tensor.data)


def test_types_that_numpy_lacks() -> None:
    assert Tensor(Type.bf16, [2, 2]).byte_size == 8
    assert Tensor(Type.f32, [0, 3]).data.shape == (0, 3)
