"""The SIMD vector as a Numba type, so that kernels read as plain arithmetic.

`load`, `store` and the rest take byte addresses as int64. +, -, *, / and comparisons work lane by lane, with scalars
broadcast; each lowers to one machine instruction. Vectors have `isa.LANES` lanes; kernels reach this module through
`lazy("cpuruntime.compiler.simd")`, because importing it loads the compiler.
"""

from __future__ import annotations

import operator
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model

from cpuruntime.compiler.isa import LANES

I1, I8, I32, I64, F32 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
FLOATS, WORDS, BITS = (ir.VectorType(element, LANES) for element in (F32, I32, I1))


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


def _operands(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> list[ir.Value]:
    """Both operands as vectors; a scalar beside a vector is converted to its element type and broadcast."""
    vector = next(t for t in sig.args if isinstance(t, Vector))
    element = types.float32 if vector is f32s else types.int32
    return [
        value if isinstance(t, Vector) else splat(builder, context.cast(builder, value, t, element))
        for t, value in zip(sig.args, args)
    ]


def _binary(op: Any, result: Vector | None, **methods: Any) -> None:
    """Registers `op` on vectors; `methods` has the builder call per vector type, `result` None means theirs."""

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
        return methods[vector.name](builder, *_operands(context, builder, sig, args))

    for pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(op, *pair)(lower)


def _float(name: str) -> Any:
    return lambda builder, a, b: getattr(builder, name)(a, b, flags=["contract"])


def _plain(name: str) -> Any:
    return lambda builder, a, b: getattr(builder, name)(a, b)


def _compare(op: str) -> dict[str, Any]:
    # As in Python, a NaN differs from everything and compares in no other way.
    compare = "fcmp_unordered" if op == "!=" else "fcmp_ordered"
    return {
        "f32s": lambda builder, a, b: getattr(builder, compare)(op, a, b),
        "i32s": lambda builder, a, b: builder.icmp_signed(op, a, b),
    }


_binary(operator.add, None, f32s=_float("fadd"), i32s=_plain("add"))
_binary(operator.sub, None, f32s=_float("fsub"), i32s=_plain("sub"))
_binary(operator.mul, None, f32s=_float("fmul"), i32s=_plain("mul"))
_binary(operator.truediv, None, f32s=lambda builder, a, b: builder.fdiv(a, b))
_binary(operator.and_, None, i32s=_plain("and_"), mask=_plain("and_"))
_binary(operator.or_, None, i32s=_plain("or_"), mask=_plain("or_"))
_binary(operator.xor, None, i32s=_plain("xor"), mask=_plain("xor"))
_binary(operator.lshift, None, i32s=_plain("shl"))
_binary(operator.rshift, None, i32s=_plain("ashr"))
for _op, _text in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
    (operator.ne, "!="),
):
    _binary(_op, mask, **_compare(_text))


@intrinsic
def load(typingctx, address):
    """One vector of float32 at any 4-byte aligned address."""

    def codegen(context, builder, sig, args):
        return builder.load(pointer(builder, args[0], FLOATS), align=4)

    return f32s(types.int64), codegen


@intrinsic
def store(typingctx, address, value):
    """Writes the float32 vector `value` at any 4-byte aligned address."""

    def codegen(context, builder, sig, args):
        builder.store(args[1], pointer(builder, args[0], FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, f32s), codegen


def first_lanes(builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
    """The LLVM mask of the lanes below `count` (int64)."""
    lanes = ir.Constant(WORDS, list(range(LANES)))
    return builder.icmp_signed("<", lanes, splat(builder, builder.trunc(count, I32)))


@intrinsic
def load_first(typingctx, address, count):
    """A vector whose first `count` lanes (0..LANES) come from `address`, the others zero; no other memory is read."""

    def codegen(context, builder, sig, args):
        target = pointer(builder, args[0], FLOATS)
        arguments = [target, ir.Constant(I32, 4), first_lanes(builder, args[1]), ir.Constant(FLOATS, [0.0] * LANES)]
        return call_llvm(builder, f"llvm.masked.load.v{LANES}f32.p0", FLOATS, arguments)

    return f32s(types.int64, types.int64), codegen


@intrinsic
def store_first(typingctx, address, value, count):
    """Writes the first `count` lanes (0..LANES) of `value`; no other memory is touched."""

    def codegen(context, builder, sig, args):
        target = pointer(builder, args[0], FLOATS)
        arguments = [args[1], target, ir.Constant(I32, 4), first_lanes(builder, args[2])]
        call_llvm(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), arguments)
        return context.get_dummy_value()

    return types.void(types.int64, f32s, types.int64), codegen


BYTES = ir.VectorType(I8, LANES)


@intrinsic
def load_flags(typingctx, address):
    """The mask of LANES bools from `address` on."""

    def codegen(context, builder, sig, args):
        bytes_ = builder.load(pointer(builder, args[0], BYTES), align=1)
        return builder.icmp_unsigned("!=", bytes_, ir.Constant(BYTES, [0] * LANES))

    return mask(types.int64), codegen


@intrinsic
def load_first_flags(typingctx, address, count):
    """A mask whose first `count` lanes (0..LANES) are bools from `address` on; no other memory is read."""

    def codegen(context, builder, sig, args):
        none = ir.Constant(BYTES, [0] * LANES)
        source = pointer(builder, args[0], BYTES)
        arguments = [source, ir.Constant(I32, 1), first_lanes(builder, args[1]), none]
        bytes_ = call_llvm(builder, f"llvm.masked.load.v{LANES}i8.p0", BYTES, arguments)
        return builder.icmp_unsigned("!=", bytes_, none)

    return mask(types.int64, types.int64), codegen


@intrinsic
def store_flags(typingctx, address, flags):
    """Writes the lanes of a mask as bools."""

    def codegen(context, builder, sig, args):
        builder.store(builder.zext(args[1], BYTES), pointer(builder, args[0], BYTES), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, mask), codegen


@intrinsic
def store_first_flags(typingctx, address, flags, count):
    """Writes the first `count` lanes (0..LANES) of a mask as bools; no other memory is touched."""

    def codegen(context, builder, sig, args):
        target = pointer(builder, args[0], BYTES)
        arguments = [builder.zext(args[1], BYTES), target, ir.Constant(I32, 1), first_lanes(builder, args[2])]
        call_llvm(builder, f"llvm.masked.store.v{LANES}i8.p0", ir.VoidType(), arguments)
        return context.get_dummy_value()

    return types.void(types.int64, mask, types.int64), codegen


@intrinsic
def lanes_below(typingctx, count):
    """The mask of the first `count` lanes (0..LANES)."""

    def codegen(context, builder, sig, args):
        return first_lanes(builder, args[0])

    return mask(types.int64), codegen


@intrinsic
def broadcast(typingctx, scalar):
    """The scalar as float32 in every lane."""

    def codegen(context, builder, sig, args):
        return splat(builder, context.cast(builder, args[0], sig.args[0], types.float32))

    return f32s(scalar), codegen


@intrinsic
def words(typingctx, scalar):
    """The scalar as int32 in every lane."""

    def codegen(context, builder, sig, args):
        return splat(builder, context.cast(builder, args[0], sig.args[0], types.int32))

    return i32s(scalar), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c; one rounding where the processor has it."""

    def codegen(context, builder, sig, args):
        return call_llvm(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS, list(args))

    return f32s(f32s, f32s, f32s), codegen


def _select_by(comparison: str) -> Any:
    def make(typingctx, a, b):
        def codegen(context, builder, sig, args):
            return builder.select(builder.fcmp_ordered(comparison, args[0], args[1]), args[0], args[1])

        return f32s(f32s, f32s), codegen

    return make


@intrinsic
def maximum(typingctx, a, b):
    """The larger of a and b lane by lane; b where either is NaN, so maximum(limit, x) keeps a NaN of x."""
    return _select_by(">")(typingctx, a, b)


@intrinsic
def minimum(typingctx, a, b):
    """The smaller of a and b lane by lane; b where either is NaN, so minimum(limit, x) keeps a NaN of x."""
    return _select_by("<")(typingctx, a, b)


@intrinsic
def select(typingctx, condition, a, b):
    """a where the mask is set, else b; a and b are vectors of one type."""

    def codegen(context, builder, sig, args):
        return builder.select(*args)

    return a(mask, a, a), codegen


def _unary(name: str, doc: str) -> Any:
    def make(typingctx, a):
        def codegen(context, builder, sig, args):
            return call_llvm(builder, f"llvm.{name}.v{LANES}f32", FLOATS, list(args))

        return f32s(f32s), codegen

    make.__name__, make.__doc__ = name, doc
    return intrinsic(make)


sqrt = _unary("sqrt", "Square root, correctly rounded.")
absolute = _unary("fabs", "Magnitude.")
floor = _unary("floor", "Largest integer not above.")
ceil = _unary("ceil", "Smallest integer not below.")
rint = _unary("roundeven", "Nearest integer, ties to even.")


@intrinsic
def to_words(typingctx, a):
    """float32 to int32, truncating; the values must be in int32's range."""

    def codegen(context, builder, sig, args):
        return builder.fptosi(args[0], WORDS)

    return i32s(f32s), codegen


@intrinsic
def to_floats(typingctx, a):
    """int32 to float32, rounded to nearest."""

    def codegen(context, builder, sig, args):
        return builder.sitofp(args[0], FLOATS)

    return f32s(i32s), codegen


@intrinsic
def as_words(typingctx, a):
    """The bits of float32 lanes as int32."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], WORDS)

    return i32s(f32s), codegen


@intrinsic
def as_floats(typingctx, a):
    """The bits of int32 lanes as float32."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], FLOATS)

    return f32s(i32s), codegen


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
        vector = combine(vector, builder.shuffle_vector(vector, undefined, ir.Constant(WORDS, lanes)))
    return builder.extract_element(vector, ir.Constant(I32, 0))


@intrinsic
def sum_lanes(typingctx, a):
    """Sum of all lanes, in a fixed pairwise order."""

    def codegen(context, builder, sig, args):
        return _halves(builder, args[0], builder.fadd)

    return types.float32(f32s), codegen


@intrinsic
def max_lanes(typingctx, a):
    """Largest lane."""

    def codegen(context, builder, sig, args):
        def larger(x, y):
            return builder.select(builder.fcmp_ordered(">", x, y), x, y)

        return _halves(builder, args[0], larger)

    return types.float32(f32s), codegen


def _scalar_access(element: ir.Type, result: types.Type) -> tuple[Any, Any]:
    size = element.width // 8 if isinstance(element, ir.IntType) else (4 if element is F32 else 8)

    def read(typingctx, address):
        def codegen(context, builder, sig, args):
            return builder.load(pointer(builder, args[0], element), align=size)

        return result(types.int64), codegen

    def write(typingctx, address, value):
        def codegen(context, builder, sig, args):
            value = context.cast(builder, args[1], sig.args[1], result)
            builder.store(value, pointer(builder, args[0], element), align=size)
            return context.get_dummy_value()

        return types.void(types.int64, value), codegen

    return intrinsic(read), intrinsic(write)


load_f32, store_f32 = _scalar_access(F32, types.float32)
load_f64, store_f64 = _scalar_access(ir.DoubleType(), types.float64)
load_i64, store_i64 = _scalar_access(I64, types.int64)
load_i32, store_i32 = _scalar_access(I32, types.int32)
load_u8, store_u8 = _scalar_access(I8, types.uint8)


@intrinsic
def prefetch(typingctx, address):
    """Asks for the cache line at `address`; any address is allowed."""

    def codegen(context, builder, sig, args):
        arguments = [pointer(builder, args[0], I8), *(ir.Constant(I32, n) for n in (0, 3, 1))]
        call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), arguments)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def argument_block(dtype: np.dtype) -> Any:
    """An intrinsic that views the record at an address as a Numba record of `dtype`."""
    kind = numba.from_dtype(dtype)

    @intrinsic
    def view(typingctx, address):
        def codegen(context, builder, sig, args):
            return builder.inttoptr(args[0], context.get_value_type(kind))

        return kind(types.int64), codegen

    return view
