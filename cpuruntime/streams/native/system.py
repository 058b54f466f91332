"""What the runner asks of the processor and the operating system, as Numba intrinsics.

Atomic words are 32 bits wide, because that is what the kernel's futex waits on; they travel as int64. Runners reach
this module through `lazy("cpuruntime.streams.native.system")`, because importing it loads the compiler.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from cpuruntime.compiler.simd import I32, I64, call_llvm, pointer

# Linux system call numbers by machine, in the order of the names below.
_CALLS = {"x86_64": (202, 24, 203, 204), "aarch64": (98, 124, 122, 123)}
MACHINE = platform.machine()
FUTEX, SCHED_YIELD, SCHED_SETAFFINITY, SCHED_GETAFFINITY = _CALLS.get(MACHINE, (0,) * 4)
FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE = 128, 129
EVERY_SLEEPER = 0x7FFFFFFF
_CLOCK_MONOTONIC = 1
_SYSCALL = ir.FunctionType(I64, [I64], var_arg=True)


def _supported() -> None:
    if platform.system() != "Linux" or MACHINE not in _CALLS:
        raise NotImplementedError(
            f"Streams run on Linux for {' and '.join(_CALLS)}; this is {platform.system()} on '{MACHINE}'."
        )


_supported()


@intrinsic
def call(typingctx, address, arguments, thread, threads):
    """Calls the kernel at `address`."""

    def codegen(context, builder, sig, args):
        function = ir.FunctionType(ir.VoidType(), [I64] * 3)
        builder.call(pointer(builder, args[0], function), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def load(typingctx, address):
    """The word at `address`; what its writer stored before it is visible afterwards (sequentially consistent)."""

    def codegen(context, builder, sig, args):
        word = builder.load_atomic(pointer(builder, args[0], I32), "seq_cst", 4)
        return builder.sext(word, I64)

    return types.int64(types.int64), codegen


@intrinsic
def store(typingctx, address, value):
    """Publishes `value` and everything written before it (sequentially consistent)."""

    def codegen(context, builder, sig, args):
        builder.store_atomic(builder.trunc(args[1], I32), pointer(builder, args[0], I32), "seq_cst", 4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def fetch_add(typingctx, address, value):
    """Adds to the word at `address` atomically and returns what it was (sequentially consistent)."""

    def codegen(context, builder, sig, args):
        word = builder.trunc(args[1], I32)
        return builder.sext(builder.atomic_rmw("add", pointer(builder, args[0], I32), word, "seq_cst"), I64)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def replace(typingctx, address, expected, value):
    """Stores `value` at `address` if the word there is `expected`; returns what it was (sequentially consistent)."""

    def codegen(context, builder, sig, args):
        expected, value = (builder.trunc(word, I32) for word in args[1:])
        found = builder.cmpxchg(pointer(builder, args[0], I32), expected, value, "seq_cst", "seq_cst")
        return builder.sext(builder.extract_value(found, 0), I64)

    return types.int64(*[types.int64] * 3), codegen


@intrinsic
def pause(typingctx):
    """Hints to the processor that this is a spin loop."""

    def codegen(context, builder, sig, args):
        if MACHINE == "x86_64":
            call_llvm(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        else:
            call_llvm(builder, "llvm.aarch64.isb", ir.VoidType(), [ir.Constant(I32, 15)])
        return context.get_dummy_value()

    return types.void(), codegen


def _c_function(builder: ir.IRBuilder, name: str, kind: ir.FunctionType) -> Any:
    return cgutils.get_or_insert_function(builder.module, kind, name)


@intrinsic
def syscall(typingctx, number, a, b, c, d):
    """The system call `number`; its result, or -1 when it fails (errno is the C library's)."""

    def codegen(context, builder, sig, args):
        return builder.call(_c_function(builder, "syscall", _SYSCALL), list(args))

    return types.int64(*[types.int64] * 5), codegen


@intrinsic
def futex_wait(typingctx, word, value, timeout):
    """Sleeps while the word is `value`, until woken or interrupted, for at most `timeout` nanoseconds."""

    def codegen(context, builder, sig, args):
        word, value, timeout = args
        limit = cgutils.alloca_once(builder, ir.LiteralStructType([I64, I64]))
        second = ir.Constant(I64, 1_000_000_000)
        parts = (builder.sdiv(timeout, second), builder.srem(timeout, second))
        for i, part in enumerate(parts):
            builder.store(part, cgutils.gep_inbounds(builder, limit, 0, i))
        number, operation = (ir.Constant(I64, n) for n in (FUTEX, FUTEX_WAIT_PRIVATE))
        arguments = [number, word, operation, value, builder.ptrtoint(limit, I64)]
        builder.call(_c_function(builder, "syscall", _SYSCALL), arguments)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def address_of(typingctx, block):
    """The address of an argument block."""

    def codegen(context, builder, sig, args):
        return builder.ptrtoint(args[0], I64)

    return types.int64(block), codegen


@intrinsic
def current_cpu(typingctx):
    """The CPU the calling thread runs on, negative when that is unknown."""

    def codegen(context, builder, sig, args):
        function = _c_function(builder, "sched_getcpu", ir.FunctionType(I32, []))
        return builder.sext(builder.call(function, []), I64)

    return types.int64(), codegen


@intrinsic
def now(typingctx):
    """Nanoseconds of the monotonic clock: the one of Python's time.monotonic_ns and perf_counter_ns."""

    def codegen(context, builder, sig, args):
        moment = cgutils.alloca_once(builder, ir.LiteralStructType([I64, I64]))
        kind = ir.FunctionType(I32, [I32, moment.type])
        builder.call(_c_function(builder, "clock_gettime", kind), [ir.Constant(I32, _CLOCK_MONOTONIC), moment])
        seconds, rest = (builder.load(cgutils.gep_inbounds(builder, moment, 0, i)) for i in (0, 1))
        return builder.add(builder.mul(seconds, ir.Constant(I64, 1_000_000_000)), rest)

    return types.int64(), codegen
