"""Single elements of any type in memory, in the form LLVM turns into vector loops.

An element is named by the address of an array and its index there: LLVM follows an index, but not an address that was
computed as an integer. Importing this module loads the compiler.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from cpuruntime.compiler.simd import call_llvm, pointer

FLOATS = {"float32": (ir.FloatType(), types.float32), "float64": (ir.DoubleType(), types.float64)}
UNSIGNED = {
    "bool": (ir.IntType(8), types.uint8),
    **{f"uint{n}": (ir.IntType(n), getattr(types, f"uint{n}")) for n in (8, 16, 32, 64)},
}
SIGNED = {f"int{n}": (ir.IntType(n), getattr(types, f"int{n}")) for n in (8, 16, 32, 64)}
ELEMENTS: dict[str, tuple[ir.Type, types.Type]] = {**FLOATS, **UNSIGNED, **SIGNED}


def _item(builder: ir.IRBuilder, base: ir.Value, index: ir.Value, element: ir.Type) -> ir.Value:
    return builder.gep(pointer(builder, base, element), [index], inbounds=True)


def _size(element: ir.Type) -> int:
    return element.width // 8 if isinstance(element, ir.IntType) else (4 if isinstance(element, ir.FloatType) else 8)


@cache
def load(dtype: str) -> Any:
    """Element `index` of the array at address `base`; bool as 0 or 1 of uint8."""
    element, result = ELEMENTS[dtype]

    @intrinsic
    def read(typingctx, base, index):
        def codegen(context, builder, sig, args):
            return builder.load(_item(builder, *args, element), align=_size(element))

        return result(types.int64, types.int64), codegen

    return read


@cache
def store(dtype: str) -> Any:
    """Writes `value`, converted as a Numba cast does, to element `index` of the array at address `base`."""
    element, stored = ELEMENTS[dtype]

    @intrinsic
    def write(typingctx, base, index, value):
        def codegen(context, builder, sig, args):
            converted = context.cast(builder, args[2], sig.args[2], stored)
            builder.store(converted, _item(builder, *args[:2], element), align=_size(element))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, value), codegen

    return write


@cache
def as_element(dtype: str) -> Any:
    """The number `value` in the element type, converted as a Numba cast does."""
    _, result = ELEMENTS[dtype]

    @intrinsic
    def cast(typingctx, value):
        def codegen(context, builder, sig, args):
            return context.cast(builder, args[0], sig.args[0], result)

        return result(value), codegen

    return cast


@cache
def convert(source: str, target: str) -> Any:
    """ONNX Cast of one value: floats to integers saturate (NaN is 0), integers wrap, to bool is "not zero"."""
    (old, old_type), (new, new_type) = ELEMENTS[source], ELEMENTS[target]

    def lower(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
        if target == "bool":
            compare = builder.fcmp_unordered if source in FLOATS else builder.icmp_unsigned
            return builder.zext(compare("!=", value, ir.Constant(old, 0)), new)
        if source in FLOATS and target in FLOATS:
            return _resize(builder.fpext, builder.fptrunc, value, new)
        if source in FLOATS:
            sign = "ui" if target in UNSIGNED else "si"
            name = f"llvm.fpto{sign}.sat.i{new.width}.f{8 * _size(old)}"
            return call_llvm(builder, name, new, [value])
        if target in FLOATS:
            return builder.uitofp(value, new) if source in UNSIGNED else builder.sitofp(value, new)
        return _resize(builder.zext if source in UNSIGNED else builder.sext, builder.trunc, value, new)

    @intrinsic
    def converted(typingctx, value):
        def codegen(context, builder, sig, args):
            return lower(builder, args[0])

        return new_type(old_type), codegen

    return converted


def _resize(widen: Any, narrow: Any, value: ir.Value, new: ir.Type) -> ir.Value:
    old_size, new_size = _size(value.type), _size(new)
    if old_size == new_size:
        return value
    return (widen if new_size > old_size else narrow)(value, new)


@intrinsic
def bits(typingctx, value):
    """The bits of a float32 as int32."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic
def from_bits(typingctx, value):
    """The float32 that has these bits, given as any integer."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(context.cast(builder, args[0], sig.args[0], types.int32), ir.FloatType())

    return types.float32(value), codegen


@intrinsic
def square_root(typingctx, value):
    """The square root of a float64, correctly rounded."""

    def codegen(context, builder, sig, args):
        return call_llvm(builder, "llvm.sqrt.f64", ir.DoubleType(), list(args))

    return types.float64(types.float64), codegen
