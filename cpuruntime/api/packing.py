"""Elements narrower than a byte, packed in bytes."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

from cpuruntime.errors import InvalidArgumentError, UnsupportedError
from cpuruntime.graph import Type

_SPLIT = {"u3": 2, "u6": 4}
"""Types whose values are stored as their low bits, so many, in two bytes, and their high bits in a third."""


def is_packed(element_type: Type) -> bool:
    """Whether a `Tensor` of this type holds packed bytes, as OpenVINO's does."""
    return 0 < element_type.bitwidth < 8 and element_type not in (Type.f6e2m3, Type.f6e3m2)


def packed_size(count: int, element_type: Type) -> int:
    """The bytes that `count` elements take."""
    if element_type.type_name in _SPLIT:
        return 3 * -(-count * element_type.bitwidth // 24)
    return -(-count * element_type.bitwidth // 8)


def packed_dtype(element_type: Type) -> np.dtype:
    """That of the array of bytes."""
    return np.dtype(np.int8 if element_type is Type.i4 else np.uint8)


def elements(data: np.ndarray, element_type: Type, shape: tuple[int, ...]) -> np.ndarray:
    """The elements in packed bytes, those in low bits first as OpenVINO's kernels and ONNX have it.

    Raises UnsupportedError for a type that no model's input has.
    """
    if element_type.to_onnx() < 0:
        raise UnsupportedError(f"Elements of type {element_type.type_name} are not computed with.")
    bits = element_type.bitwidth
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = (data.view(np.uint8)[:, None] >> shifts & (1 << bits) - 1).reshape(-1)[: prod(shape)].reshape(shape)
    dtype = element_type.to_dtype()
    if element_type.is_real():
        return codes.view(dtype)
    signed = codes.astype(np.int8)
    if element_type.is_signed():
        signed -= (signed >> bits - 1) << bits
    return signed.astype(dtype)


def pack_data(array: np.ndarray, type: Type) -> np.ndarray:
    """Values of an array in the bytes of a type narrower than a byte, the first in the highest bits.

    Args:
        array: whole numbers of any dtype and shape; codes of nf4 and f4e2m1.
        type: u1, u2, u3, u4, u6, i4, nf4 or f4e2m1.

    Returns:
        uint8 [bytes]; the last byte is filled up with zeros. Of u3 and u6 two bytes hold low bits, the third high ones.

    Raises:
        InvalidArgumentError: another type, or values that are not whole.
    """
    _check(type)
    whole = array.astype(np.int8 if type is Type.i4 else np.uint8)
    if not np.array_equal(whole, array):
        raise InvalidArgumentError(f"Values of type {array.dtype} are not all whole numbers of {type.type_name}.")
    bits, low = type.bitwidth, _SPLIT.get(type.type_name, type.bitwidth)
    codes = np.zeros(packed_size(array.size, type) * 8 // bits, np.uint8)
    codes[: array.size] = whole.reshape(-1).view(np.uint8)
    planes = np.unpackbits(codes[:, None], axis=1)
    lower = np.packbits(planes[:, 8 - low :])
    if low == bits:
        return lower
    higher = np.packbits(planes[:, 8 - bits : 8 - low])
    return np.concatenate([lower.reshape(-1, 2), higher.reshape(-1, 1)], axis=1).reshape(-1)


def unpack_data(array: np.ndarray, type: Type, shape: Iterable[int]) -> np.ndarray:
    """What `pack_data` packed: uint8, or int8 for i4, of this shape. Raises InvalidArgumentError for other types."""
    _check(type)
    lengths, data = tuple(shape), array.reshape(-1).view(np.uint8)
    bits, low = type.bitwidth, _SPLIT.get(type.type_name, type.bitwidth)
    if low == bits:
        planes = np.unpackbits(data).reshape(-1, bits)
    else:
        groups = data[: data.size // 3 * 3].reshape(-1, 3)
        lower, higher = np.unpackbits(groups[:, :2].reshape(-1)), np.unpackbits(groups[:, 2].copy())
        planes = np.concatenate([higher.reshape(-1, bits - low), lower.reshape(-1, low)], axis=1)
    codes = np.packbits(np.pad(planes, ((0, 0), (8 - bits, 0))), axis=1).reshape(-1)[: prod(lengths)]
    if codes.size < prod(lengths):
        raise InvalidArgumentError(f"{data.size} bytes hold no {prod(lengths)} elements of {type.type_name}.")
    if type is Type.i4:
        codes = codes.view(np.int8)
        codes = codes - ((codes >> 3) << 4)
    return codes.reshape(lengths)


def _check(element_type: Type) -> None:
    names = ("u1", "u2", "u3", "u4", "u6", "i4", "nf4", "f4e2m1")
    if element_type.type_name not in names:
        raise InvalidArgumentError(f"{element_type.type_name} is not packed; types are {', '.join(names)}.")
