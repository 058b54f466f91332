"""Packing of elements narrower than a byte, in OpenVINO's order of bits."""

from __future__ import annotations

import numpy as np
import pytest

from cpuruntime import InvalidArgumentError, Type
from cpuruntime.api.packing import pack_data, unpack_data

# What openvino.helpers.pack_data of 2026.4 gives.
PACKED = [
    ("u1", [1, 0, 1, 1, 0, 0, 0, 1, 1], [0b10110001, 0b10000000]),
    ("u2", [1, 2, 3, 0, 3], [0b01101100, 0b11000000]),
    ("u4", [7, 8, 15], [0x78, 0xF0]),
    ("i4", [-1, 7, -8], [0xF7, 0x80]),
    ("nf4", [1, 2], [0x12]),
    ("f4e2m1", [3, 4], [0x34]),
    ("u3", [1, 2, 3, 4, 5, 6, 7, 0, 4], [0b01101100, 0b01101100, 0b00011110, 0, 0, 0b10000000]),
    ("u6", [1, 63, 32, 16, 17], [0x1F, 0x00, 0b00111001, 0x10, 0, 0b01000000]),
]


@pytest.mark.parametrize(("name", "values", "packed"), PACKED)
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_values_are_packed_and_unpacked(name: str, values: list[int], packed: list[int], dtype: type) -> None:
    element_type = Type(name)
    found = pack_data(np.array(values, dtype), element_type)
    assert found.dtype == np.uint8
    assert found.tolist() == packed
    for shape in ([len(values)], (len(values), 1)):
        back = unpack_data(found, element_type, shape)
        assert back.shape == tuple(shape)
        assert back.dtype == (np.int8 if name == "i4" else np.uint8)
        assert back.reshape(-1).tolist() == values


def test_what_cannot_be_packed() -> None:
    with pytest.raises(InvalidArgumentError, match="not all whole numbers of u4"):
        pack_data(np.array([1.5]), Type.u4)
    for call in (lambda: pack_data(np.array([1]), Type.u8), lambda: unpack_data(np.zeros(1, np.uint8), Type.f32, [1])):
        with pytest.raises(InvalidArgumentError, match="is not packed; types are u1, u2"):
            call()
    with pytest.raises(InvalidArgumentError, match="1 bytes hold no 3 elements of u4"):
        unpack_data(np.zeros(1, np.uint8), Type.u4, [3])
