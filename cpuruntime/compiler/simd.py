"""The SIMD vector as a Numba type, so that kernels read as plain arithmetic.

`load`, `store` and the rest take byte addresses as int64. +, -, *, / and comparisons work lane by lane, with scalars
broadcast; each lowers to one machine instruction. Vectors have `isa.LANES` lanes; kernels reach this module through
`lazy("cpuruntime.compiler.simd")`, because importing it loads the compiler.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model

from cpuruntime.compiler.isa import LANES

I1, I8, I32, I64, F32 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
FLOATS, WORDS, BITS, BYTES = (ir.VectorType(element, LANES) for element in (F32, I32, I1, I8))


class Vector(types.Type):
    """LANES elements of one LLVM type."""

    def __init__(self, name: str, llvm_type: ir.VectorType):
        self.llvm_type = llvm_type
        super().__init__(name)


f32s, i32s, mask = Vector("f32s", FLOATS), Vector("i32s", WORDS), Vector("mask", BITS)


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector.llvm_type)


def operation(result: types.Type, *operands: types.Type) -> Callable[[Callable[..., Any]], Any]:
    """Declares an intrinsic of these types: the function makes its LLVM code from a builder and the operands."""

    def declare(build: Callable[..., Any]) -> Any:
        @wraps(build)
        def typed(typingctx, *args):
            def codegen(context, builder, sig, args):
                value = build(builder, *args)
                return context.get_dummy_value() if result is types.void else value

            return result(*operands), codegen

        return intrinsic(typed)

    return declare


def splat(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    """The LLVM vector with `scalar` in every lane."""
    vector = ir.VectorType(scalar.type, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(WORDS, [0] * LANES))


def call_llvm(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: list[ir.Value]) -> ir.Value:
    """A call of the LLVM intrinsic `name`."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def pointer(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(address, kind.as_pointer())


def first_lanes(builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
    """The LLVM mask of the lanes below `count` (int64)."""
    lanes = ir.Constant(WORDS, list(range(LANES)))
    return builder.icmp_signed("<", lanes, splat(builder, builder.trunc(count, I32)))


def masked_load(builder: ir.IRBuilder, address: ir.Value, vector: ir.VectorType, lanes: ir.Value) -> ir.Value:
    """The `lanes` (a mask) of `vector` at an address aligned to its elements, the others zero; reads nothing else."""
    kind = vector.element.intrinsic_name
    align = ir.Constant(I32, int(kind[1:]) // 8)
    arguments = [pointer(builder, address, vector), align, lanes, ir.Constant(vector, None)]
    return call_llvm(builder, f"llvm.masked.load.v{LANES}{kind}.p0", vector, arguments)


def masked_store(builder: ir.IRBuilder, address: ir.Value, value: ir.Value, lanes: ir.Value) -> None:
    """Writes the `lanes` (a mask) of `value` at an address aligned to its elements; touches no other memory."""
    kind = value.type.element.intrinsic_name
    arguments = [value, pointer(builder, address, value.type), ir.Constant(I32, int(kind[1:]) // 8), lanes]
    call_llvm(builder, f"llvm.masked.store.v{LANES}{kind}.p0", ir.VoidType(), arguments)


def _binary(op: Any, result: Vector | None, **methods: Any) -> None:
    """Registers `op` on vectors; `methods` has the builder call per vector type, `result` None means the operands'."""

    @infer_global(op)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            vectors = {t for t in args if isinstance(t, Vector)}
            if len(args) != 2 or len(vectors) != 1:
                return None
            vector = vectors.pop()
            if vector.name not in methods or not all(isinstance(t, Vector | types.Number) for t in args):
                return None
            return signature(result or vector, *args)

    def lower(context, builder, sig, args):
        vector = next(t for t in sig.args if isinstance(t, Vector))
        element = types.float32 if vector is f32s else types.int32
        operands = (
            value if isinstance(t, Vector) else splat(builder, context.cast(builder, value, t, element))
            for t, value in zip(sig.args, args)
        )
        return methods[vector.name](builder, *operands)

    for pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(op, *pair)(lower)


def _float(build: Any) -> Any:
    return partial(build, flags=["contract"])


_Builder = ir.IRBuilder
_binary(operator.add, None, f32s=_float(_Builder.fadd), i32s=_Builder.add)
_binary(operator.sub, None, f32s=_float(_Builder.fsub), i32s=_Builder.sub)
_binary(operator.mul, None, f32s=_float(_Builder.fmul), i32s=_Builder.mul)
_binary(operator.truediv, None, f32s=_Builder.fdiv)
_binary(operator.and_, None, i32s=_Builder.and_, mask=_Builder.and_)
_binary(operator.or_, None, i32s=_Builder.or_, mask=_Builder.or_)
_binary(operator.xor, None, i32s=_Builder.xor, mask=_Builder.xor)
_binary(operator.lshift, None, i32s=_Builder.shl)
_binary(operator.rshift, None, i32s=_Builder.ashr)


def _compare(op: Any, text: str) -> None:
    # As in Python, a NaN differs from everything and compares in no other way.
    floats = _Builder.fcmp_unordered if text == "!=" else _Builder.fcmp_ordered
    _binary(
        op,
        mask,
        f32s=lambda builder, a, b: floats(builder, text, a, b),
        i32s=lambda builder, a, b: builder.icmp_signed(text, a, b),
    )


_compare(operator.lt, "<")
_compare(operator.le, "<=")
_compare(operator.gt, ">")
_compare(operator.ge, ">=")
_compare(operator.eq, "==")
_compare(operator.ne, "!=")


@operation(f32s, types.int64)
def load(builder, address):
    """One vector of float32 at any 4-byte aligned address."""
    return builder.load(pointer(builder, address, FLOATS), align=4)


@operation(types.void, types.int64, f32s)
def store(builder, address, value):
    """Writes the float32 vector `value` at any 4-byte aligned address."""
    builder.store(value, pointer(builder, address, FLOATS), align=4)


@operation(f32s, types.int64, types.int64)
def load_first(builder, address, count):
    """A vector whose first `count` lanes (0..LANES) come from `address`, the others zero; no other memory is read."""
    return masked_load(builder, address, FLOATS, first_lanes(builder, count))


@operation(types.void, types.int64, f32s, types.int64)
def store_first(builder, address, value, count):
    """Writes the first `count` lanes (0..LANES) of `value`; no other memory is touched."""
    masked_store(builder, address, value, first_lanes(builder, count))


def _flags(builder: ir.IRBuilder, bools: ir.Value) -> ir.Value:
    return builder.icmp_unsigned("!=", bools, ir.Constant(BYTES, None))


@operation(mask, types.int64)
def load_flags(builder, address):
    """The mask of LANES bools from `address` on. (This and the next three stand in generated kernels.)"""
    return _flags(builder, builder.load(pointer(builder, address, BYTES), align=1))


@operation(mask, types.int64, types.int64)
def load_first_flags(builder, address, count):
    """A mask whose first `count` lanes (0..LANES) are bools from `address` on; no other memory is read."""
    return _flags(builder, masked_load(builder, address, BYTES, first_lanes(builder, count)))


@operation(types.void, types.int64, mask)
def store_flags(builder, address, flags):
    """Writes the lanes of a mask as bools."""
    builder.store(builder.zext(flags, BYTES), pointer(builder, address, BYTES), align=1)


@operation(types.void, types.int64, mask, types.int64)
def store_first_flags(builder, address, flags, count):
    """Writes the first `count` lanes (0..LANES) of a mask as bools; no other memory is touched."""
    masked_store(builder, address, builder.zext(flags, BYTES), first_lanes(builder, count))


lanes_below = operation(mask, types.int64)(first_lanes)
broadcast = operation(f32s, types.float32)(splat)
words = operation(i32s, types.int32)(splat)


@operation(f32s, f32s, f32s, f32s)
def fma(builder, a, b, c):
    """a * b + c; one rounding where the processor has it."""
    return call_llvm(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS, [a, b, c])


def _larger(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The larger of a and b lane by lane; b where either is NaN, so maximum(limit, x) keeps a NaN of x."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


maximum = operation(f32s, f32s, f32s)(_larger)


@operation(f32s, f32s, f32s)
def minimum(builder, a, b):
    """The smaller of a and b lane by lane; b where either is NaN, so minimum(limit, x) keeps a NaN of x."""
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


@intrinsic
def select(typingctx, condition, a, b):
    """a where the mask is set, else b; a and b are vectors of one type."""
    return a(mask, a, a), lambda context, builder, sig, args: builder.select(*args)


def _unary(name: str) -> Any:
    @operation(f32s, f32s)
    def call(builder, a):
        return call_llvm(builder, f"llvm.{name}.v{LANES}f32", FLOATS, [a])

    return call


sqrt, absolute, floor, ceil = map(_unary, ("sqrt", "fabs", "floor", "ceil"))
rint = _unary("roundeven")  # ties to even


@operation(f32s, i32s)
def to_floats(builder, a):
    """int32 to float32, rounded to nearest."""
    return builder.sitofp(a, FLOATS)


@operation(i32s, f32s)
def to_words(builder, a):
    """float32 to int32, without the fraction; numbers that int32 cannot hold give any."""
    return builder.fptosi(a, WORDS)


@operation(f32s, f32s, f32s)
def times(builder, a, b):
    """a * b, rounded by itself: it is never the product of a fused multiply-add."""
    return builder.fmul(a, b)


@operation(i32s, f32s)
def as_words(builder, a):
    """The bits of float32 lanes as int32."""
    return builder.bitcast(a, WORDS)


@operation(f32s, i32s)
def as_floats(builder, a):
    """The bits of int32 lanes as float32."""
    return builder.bitcast(a, FLOATS)


@intrinsic(prefer_literal=True)
def rotate(typingctx, a, lanes):
    """Lane i of the result is lane (i + lanes) mod LANES of a; `lanes` is a literal number."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    order = [(i + lanes.literal_value) % LANES for i in range(LANES)]

    def codegen(context, builder, sig, args):
        return builder.shuffle_vector(args[0], ir.Constant(FLOATS, ir.Undefined), ir.Constant(WORDS, order))

    return f32s(f32s, lanes), codegen


def _halves(builder: ir.IRBuilder, vector: ir.Value, combine: Any) -> ir.Value:
    """Combines lanes pairwise until one is left: the same order for every call, so results repeat."""
    undefined, width = ir.Constant(vector.type, ir.Undefined), LANES
    while width > 1:
        width //= 2
        lanes = [width + i if i < width else i for i in range(LANES)]
        vector = combine(builder, vector, builder.shuffle_vector(vector, undefined, ir.Constant(WORDS, lanes)))
    return builder.extract_element(vector, ir.Constant(I32, 0))


@operation(types.float32, f32s)
def sum_lanes(builder, a):
    """Sum of all lanes, in a fixed pairwise order."""
    return _halves(builder, a, _Builder.fadd)


@operation(types.float32, f32s)
def max_lanes(builder, a):
    """Largest lane."""
    return _halves(builder, a, _larger)


def _read(element: ir.Type, kind: types.Type) -> Any:
    @operation(kind, types.int64)
    def read(builder, address):
        return builder.load(pointer(builder, address, element), align=kind.bitwidth // 8)

    return read


def _write(element: ir.Type, kind: types.Type) -> Any:
    @operation(types.void, types.int64, kind)
    def write(builder, address, value):
        builder.store(value, pointer(builder, address, element), align=kind.bitwidth // 8)

    return write


load_f32, store_f32 = _read(F32, types.float32), _write(F32, types.float32)
load_i64, store_i64 = _read(I64, types.int64), _write(I64, types.int64)
load_u8, store_u8 = _read(I8, types.uint8), _write(I8, types.uint8)
load_i32, store_i32 = _read(I32, types.int32), _write(I32, types.int32)


@operation(types.void, types.int64)
def prefetch(builder, address):
    """Asks for the cache line at `address`; any address is allowed."""
    arguments = [pointer(builder, address, I8), *(ir.Constant(I32, n) for n in (0, 3, 1))]
    call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), arguments)
