"""Building: how a kernel's function becomes machine code at an address, and the cache of object files.

The compiler is imported only when something has to be compiled, so a process with a warm cache never loads it. The
cache is keyed by content: the sources that a kernel reaches, the compiler's versions and the target.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Iterable
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from cpuruntime.compiler import isa
from cpuruntime.compiler.inline import OPTIONS, bind, files
from cpuruntime.compiler.sources import add_generated, module_file, source_digest
from cpuruntime.store import cache_folder

# What a kernel may call: the C library functions the runtime itself uses and those LLVM emits for plain loops.
ALLOWED_SYMBOLS = frozenset({"memcpy", "memset", "memmove", "syscall", "clock_gettime", "sched_getcpu"})

on_compile: list[Callable[[str], None]] = []
"""Called with a kernel's name just before it is compiled (not when it is found in the cache)."""


def digest(modules: Iterable[str], text: str) -> str:
    """A name for something that depends on `text`, on the kernels of these modules, the compiler and the target."""
    sources = b"".join(source_digest(_ops_file(module)) for module in sorted(modules))
    return hashlib.sha256(environment() + sources + text.encode()).hexdigest()[:40]


def _ops_file(module: str) -> Path:
    file = module_file(f"cpuruntime.ops.{module}")
    assert file is not None, module
    return file


def loaded_kernels() -> tuple[int, int]:
    """(compiled, taken from the cache) in this process."""
    return _counts["compiled"], _counts["cached"]


_lock = threading.RLock()
_counts = {"compiled": 0, "cached": 0}
_addresses: dict[str, int] = {}


@cache
def prototype() -> Any:
    """The ctypes type of a kernel."""
    import ctypes

    return ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


@cache
def _target_machine() -> llvm.TargetMachine:
    target = isa.current()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="static", codemodel="jitdefault", jit=True
    )


def never_free(owner: object) -> None:
    """Never frees an object: native threads that are left at the end of the process outlive the interpreter."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


@cache
def _engine() -> llvm.ExecutionEngine:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
    never_free(engine)
    return engine


@cache
def environment() -> bytes:
    """What decides the object code beside the sources: the compiler and the target."""
    target = isa.current()
    facts = [version("numba"), version("llvmlite"), sys.version, target.name, target.cpu, target.features]
    return "\0".join(facts).encode()


def generate(name: str, source: str) -> ModuleType:
    """The module that the text `source`, written by this package, makes when it is executed.

    Kernels in it are cached by the text like any other. A copy named `name` in the folder of the kernel cache is for
    people to read and for debuggers; it is never read back.
    """
    folder = cache_folder()
    path = (folder.path or Path("<generated>")) / f"{name}.py"
    code = compile(source, str(path), "exec")
    add_generated(path, source, code)
    if not folder.has(path.name):
        folder.write_text(path.name, source)
    module = ModuleType(name)
    module.__file__ = str(path)
    exec(code, module.__dict__)
    return module


class Source:
    """What machine code is built from: a kernel's function, the record type of its argument block, and its name."""

    def __init__(self, function: FunctionType, arguments: np.dtype, name: str) -> None:
        self.function = function
        self.arguments = arguments
        self.name = name

    @cached_property
    def symbol(self) -> str:
        """The name of the machine code: a digest of the sources it depends on, the compiler and the target."""
        reached = sorted({Path(__file__), *files(self.function)})
        sources = b"".join(source_digest(file) for file in reached)
        return "cpuruntime_" + hashlib.sha256(environment() + sources + self.name.encode()).hexdigest()[:40]


def load(source: Source) -> int:
    """The address of a kernel's machine code, compiled where it is not in the cache. Thread-safe."""
    with _lock:
        address = find(source.symbol)
        if address is None:
            for listener in on_compile:
                listener(source.name)
            code = _target_machine().emit_object(_compile(source))
            _counts["compiled"] += 1
            cache_folder().publish(f"{source.symbol}.o", code)
            address = _add(source.symbol, code)
        return address


def find(symbol: str) -> int | None:
    """The address of machine code that is loaded or in the cache. Thread-safe."""
    if symbol in _addresses:  # without the lock, which is held while another kernel is compiled
        return _addresses[symbol]
    with _lock:
        code = cache_folder().read(f"{symbol}.o")
        if code is None:
            return None
        if symbol not in _addresses:
            _counts["cached"] += 1
            _add(symbol, code)
        return _addresses[symbol]


def is_cached(symbol: str) -> bool:
    """Whether machine code is loaded or in the cache."""
    return symbol in _addresses or cache_folder().has(f"{symbol}.o")


def _add(symbol: str, code: bytes) -> int:
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(symbol)
    if not address:
        raise RuntimeError(f"the object code of {symbol} has no entry of this name")
    _addresses[symbol] = address
    return address


def assembly(source: Source) -> str:
    """The machine code as text, compiled afresh."""
    with _lock:
        return _target_machine().emit_assembly(_compile(source))


def _compile(source: Source) -> llvm.ModuleRef:
    """The optimised LLVM module of a kernel, its entry renamed to the kernel's symbol and all else made private."""
    import numba
    from numba import types

    from cpuruntime.compiler.simd import argument_block

    body = numba.njit(bind(source.function), **OPTIONS)
    view = argument_block(source.arguments)

    def entry(arguments, thread, threads):
        body(view(arguments), thread, threads)

    signature = types.void(types.int64, types.int64, types.int64)
    callback = numba.cfunc(signature, error_model="numpy")(entry)
    module = llvm.parse_assembly(callback.inspect_llvm())
    for function in module.functions:
        if function.name == callback.native_name:
            function.name = source.symbol
        elif not function.is_declaration:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    _optimise(module)
    for function in module.functions:
        known = function.name.startswith("llvm.") or function.name in ALLOWED_SYMBOLS
        if function.is_declaration and not known:
            raise RuntimeError(f"kernel {source.name} calls {function.name}; kernels may not allocate or raise")
    return module


def _optimise(module: llvm.ModuleRef) -> None:
    """Optimises for the target, which removes the error path of a kernel that cannot raise."""
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    passes = llvm.create_pass_builder(_target_machine(), options)
    passes.getModulePassManager().run(module, passes)
    module.verify()
