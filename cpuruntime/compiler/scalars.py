"""Single elements of any type in memory, in the form LLVM turns into vector loops.

An element is named by the address of an array and its index there: LLVM follows an index, but not an address that was
computed as an integer. Importing this module loads the compiler.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import types

from cpuruntime.compiler.simd import F32, I32, I64, call_llvm, operation, pointer

F64 = ir.DoubleType()
FLOATS = {"float32": (F32, types.float32), "float64": (F64, types.float64)}
UNSIGNED = {f"uint{n}": (ir.IntType(n), getattr(types, f"uint{n}")) for n in (8, 16, 32, 64)}
UNSIGNED["bool"] = UNSIGNED["uint8"]
SIGNED = {f"int{n}": (ir.IntType(n), getattr(types, f"int{n}")) for n in (8, 16, 32, 64)}
ELEMENTS: dict[str, tuple[ir.Type, types.Type]] = {**FLOATS, **UNSIGNED, **SIGNED}


def _item(builder: ir.IRBuilder, base: ir.Value, index: ir.Value, element: ir.Type) -> ir.Value:
    return builder.gep(pointer(builder, base, element), [index], inbounds=True)


@cache
def load(dtype: str) -> Any:
    """Element `index` of the array at address `base`; bool as 0 or 1 of uint8."""
    element, kind = ELEMENTS[dtype]

    @operation(kind, types.int64, types.int64)
    def read(builder, base, index):
        return builder.load(_item(builder, base, index, element), align=kind.bitwidth // 8)

    return read


@cache
def store(dtype: str) -> Any:
    """Writes `value`, converted as a Numba cast does, to element `index` of the array at address `base`."""
    element, kind = ELEMENTS[dtype]

    @operation(types.void, types.int64, types.int64, kind)
    def write(builder, base, index, value):
        builder.store(value, _item(builder, base, index, element), align=kind.bitwidth // 8)

    return write


@cache
def as_element(dtype: str) -> Any:
    """The number `value` in the element type, converted as a Numba cast does."""
    _, kind = ELEMENTS[dtype]
    return operation(kind, kind)(lambda builder, value: value)


@cache
def convert(source: str, target: str) -> Any:
    """ONNX Cast of one value: floats to integers saturate (NaN is 0), integers wrap, to bool is "not zero"."""
    (old, old_type), (new, new_type) = ELEMENTS[source], ELEMENTS[target]

    def resized(widen: Any, narrow: Any, value: ir.Value) -> ir.Value:
        if old_type.bitwidth == new_type.bitwidth:
            return value
        return (widen if new_type.bitwidth > old_type.bitwidth else narrow)(value, new)

    @operation(new_type, old_type)
    def converted(builder, value):
        if target == "bool":
            compare = builder.fcmp_unordered if source in FLOATS else builder.icmp_unsigned
            return builder.zext(compare("!=", value, ir.Constant(old, 0)), new)
        if source in FLOATS and target in FLOATS:
            return resized(builder.fpext, builder.fptrunc, value)
        if source in FLOATS:
            sign = "ui" if target in UNSIGNED else "si"
            name = f"llvm.fpto{sign}.sat.i{new_type.bitwidth}.f{old_type.bitwidth}"
            return call_llvm(builder, name, new, [value])
        if target in FLOATS:
            return builder.uitofp(value, new) if source in UNSIGNED else builder.sitofp(value, new)
        return resized(builder.zext if source in UNSIGNED else builder.sext, builder.trunc, value)

    return converted


@operation(types.int32, types.float32)
def bits(builder, value):
    """The bits of a float32 as int32."""
    return builder.bitcast(value, I32)


@operation(types.float32, types.int32)
def from_bits(builder, value):
    """The float32 that has these bits, given as any integer."""
    return builder.bitcast(value, F32)


@operation(types.int64, types.float64)
def bits_of_double(builder, value):
    """The bits of a float64 as int64."""
    return builder.bitcast(value, I64)


@operation(types.float64, types.int64)
def double_of_bits(builder, value):
    """The float64 that has these bits."""
    return builder.bitcast(value, F64)


@operation(types.float64, types.float64)
def square_root(builder, value):
    """The square root of a float64, correctly rounded."""
    return call_llvm(builder, "llvm.sqrt.f64", F64, [value])
