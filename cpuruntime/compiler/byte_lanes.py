"""Vectors of bytes as vectors of float32. Importing this module loads the compiler."""

from __future__ import annotations

from numba.core import types

from cpuruntime.compiler.simd import BYTES, FLOATS, f32s, operation, pointer


@operation(f32s, types.int64)
def load_bytes(builder, address):
    """LANES unsigned bytes from any address on, as float32."""
    return builder.uitofp(builder.load(pointer(builder, address, BYTES), align=1), FLOATS)
