"""Records of addresses for what is compiled."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


def record_of(kind: np.dtype, /, **words: Any) -> np.ndarray:
    """A record of words, addresses: of C functions, arrays' data and other objects; numbers are themselves."""
    made = np.zeros(1, kind)
    memory, fields = made.view(np.int64).data, kind.fields
    assert fields is not None
    for name, value in words.items():
        memory[fields[name][1] // 8] = _word(value)
    return made


def _word(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, ctypes._CFuncPtr):
        return ctypes.cast(value, ctypes.c_void_p).value or 0
    return value.ctypes.data if isinstance(value, np.ndarray) else id(value)
