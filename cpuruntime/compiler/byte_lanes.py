"""Vectors of bytes as vectors of float32 and int32. Importing this module loads the compiler."""

from __future__ import annotations

from numba.core import types

from cpuruntime.compiler.simd import BYTES, FLOATS, WORDS, f32s, i32s, operation, pointer


@operation(f32s, types.int64)
def load_bytes(builder, address):
    """LANES unsigned bytes from any address on, as float32."""
    return builder.uitofp(builder.load(pointer(builder, address, BYTES), align=1), FLOATS)


@operation(i32s, types.int64)
def load_words(builder, address):
    """LANES unsigned bytes from any address on, as int32."""
    return builder.zext(builder.load(pointer(builder, address, BYTES), align=1), WORDS)


@operation(types.void, types.int64, i32s)
def store_words(builder, address, value):
    """Writes the lowest bytes of int32 lanes at any address."""
    builder.store(builder.trunc(value, BYTES), pointer(builder, address, BYTES), align=1)
