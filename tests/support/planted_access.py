"""Reads or writes one byte beyond an array between guard pages, at its end or start: `planted_access.py end read`."""

from __future__ import annotations

import ctypes
import sys

import numpy as np
from support.guard_pages import between_pages, say

if __name__ == "__main__":
    side, access = sys.argv[1:]
    array = between_pages(np.zeros(100, np.uint8), side == "end")
    array[:] += 1
    say(f"one {access} beyond")
    address = array.ctypes.data + (array.nbytes if side == "end" else -1)
    if access == "read":
        ctypes.string_at(address, 1)
    else:
        ctypes.memset(address, 0, 1)
