"""Kernels: how a Python function becomes machine code at an address, once per machine.

A kernel is a function `kernel(arguments, thread, threads)`: it reads its argument block (a record) by field name, does
its own share of the work, allocates nothing and never raises. `@kernel(dtype)` declares one; `.address` is the native
code, compiled by Numba on first use and kept as an object file in the kernel cache. The compiler is imported only when
something has to be compiled, so a process with a warm cache never loads it.

The cache is keyed by content: all kernel sources, the compiler's versions and the target. Its folder must belong to
the user and be writable by nobody else, because what lies in it is executed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from cpuruntime.compiler import isa
from cpuruntime.compiler.sources import add_generated, module_file, source_digest

log = logging.getLogger("cpuruntime")
_OPTIONS = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
SIGNATURE_FIELDS = ("arguments", "thread", "threads")
# What a kernel may call: the C library functions the runtime itself uses and those LLVM emits for plain loops.
ALLOWED_SYMBOLS = frozenset({"memcpy", "memset", "memmove", "syscall", "clock_gettime", "sched_getcpu"})

on_compile: list[Callable[[str], None]] = []
"""Called with a kernel's name just before it is compiled (not when it is found in the cache)."""


def lazy(name: str) -> ModuleType:
    """The module `name`, executed at its first use, so that naming `simd` does not load the compiler."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Inline:
    """A helper that kernels call; compiled into each of them."""

    def __init__(self, function: FunctionType):
        self.function = function
        self._compiled: Any = None
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def compiled(self) -> Any:
        if self._compiled is None:
            import numba

            self._compiled = numba.njit(_bind(self.function), **_OPTIONS)
        return self._compiled


class _Made(Inline):
    def __init__(self, module: str, factory: str, arguments: tuple[Any, ...]):
        super().__init__(_in_kernels_only)
        self._module, self._factory, self._arguments = module, factory, arguments

    def compiled(self) -> Any:
        return getattr(lazy(self._module), self._factory)(*self._arguments)


def made(module: str, factory: str, *arguments: Any) -> Inline:
    """The helper that `factory(*arguments)` of a module makes, when a kernel that calls it is compiled."""
    return _Made(module, factory, arguments)


def _in_kernels_only(*arguments: Any) -> Any:
    raise TypeError("this helper exists in compiled kernels only")


def inline(function: FunctionType) -> Inline:
    """Declares a helper function for kernels."""
    return Inline(function)


def _names(code: CodeType) -> set[str]:
    nested = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*(_names(c) for c in nested))


def _bind(function: FunctionType) -> FunctionType:
    """`function` with the helpers it names replaced by compiled ones."""
    scope = dict(function.__globals__)
    for name in _names(function.__code__) & scope.keys():
        if isinstance(scope[name], Inline):
            scope[name] = scope[name].compiled()
    bound = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, _cells(function))
    bound.__module__ = function.__module__
    return bound


def _cells(function: FunctionType) -> tuple[Any, ...] | None:
    def convert(cell: Any) -> Any:
        value = cell.cell_contents
        return type(cell)(value.compiled()) if isinstance(value, Inline) else cell

    return tuple(convert(c) for c in function.__closure__) if function.__closure__ else None


class Kernel:
    """A named kernel and the record type of its argument block."""

    def __init__(self, function: FunctionType, arguments: np.dtype, name: str):
        self.function = function
        self.arguments = arguments
        self.name = name
        self._address = 0

    def __repr__(self) -> str:
        return f"<Kernel {self.name}>"

    @property
    def address(self) -> int:
        """Address of the native code; compiled or loaded on first use. Thread-safe."""
        if not self._address:
            with _lock:
                if not self._address:
                    self._address = _load(self)
        return self._address

    @property
    def is_compiled(self) -> bool:
        """Whether the native code is there, loaded or in the cache."""
        if self._address:
            return True
        folder = cache_folder()
        return folder is not None and (folder / f"{_symbol(self)}.o").exists()

    @cached_property
    def entry(self) -> Callable[[int, int, int], None]:
        """The native code as a Python callable of three int64 that releases the GIL while it runs."""
        return _prototype()(self.address)

    def assembly(self) -> str:
        """The machine code as text, compiled afresh."""
        with _lock:
            return _target_machine().emit_assembly(_compile(self))

    def __call__(self, block: np.ndarray, threads: int = 1) -> None:
        """Runs every thread's share one after another on the calling thread; `block` is one record of `arguments`."""
        assert block.dtype == self.arguments
        for thread in range(threads):
            self.entry(block.ctypes.data, thread, threads)


def kernel(arguments: np.dtype, name: str | None = None) -> Callable[[Callable[..., None]], Kernel]:
    """Declares a kernel whose argument block is a record of `arguments` (an aligned dtype).

    Kernels made in a loop or a factory pass a `name` that spells their parameters, since the name is the cache's key.
    """

    def declare(function: Any) -> Kernel:
        return Kernel(function, arguments, name or function.__name__)

    return declare


def record(**fields: str | type) -> np.dtype:
    """An aligned record type for an argument block; a field is "i8" (address, size), "f4" and so on."""
    return np.dtype(list(fields.items()), align=True)


def digest(modules: Iterable[str], text: str) -> str:
    """A name for something that depends on `text`, on the kernels of these modules, the compiler and the target."""
    sources = b"".join(source_digest(_ops_file(module)) for module in sorted(modules))
    return hashlib.sha256(_environment() + sources + text.encode()).hexdigest()[:40]


def _ops_file(module: str) -> Path:
    file = module_file(f"cpuruntime.ops.{module}")
    assert file is not None, module
    return file


def loaded_kernels() -> tuple[int, int]:
    """(compiled, taken from the cache) in this process."""
    return _counts["compiled"], _counts["cached"]


_lock = threading.RLock()
_counts = {"compiled": 0, "cached": 0}


@cache
def _prototype() -> Any:
    import ctypes

    return ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


@cache
def _target_machine() -> llvm.TargetMachine:
    target = isa.current()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="static", codemodel="jitdefault", jit=True
    )


def keep_for_good(owner: object) -> None:
    """Never lets go of an object: native threads that are left at the end of the process outlive the interpreter."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


@cache
def _engine() -> llvm.ExecutionEngine:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
    keep_for_good(engine)
    return engine


@cache
def _environment() -> bytes:
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
    path = Path("<generated>" if folder is None else folder) / f"{name}.py"
    code = compile(source, str(path), "exec")
    add_generated(path, source, code)
    if folder is not None and not path.exists():
        _write_file(path, source.encode())
    module = ModuleType(name)
    module.__file__ = str(path)
    exec(code, module.__dict__)
    return module


def _files(function: FunctionType) -> list[Path]:
    """The files of a kernel's function and of the helpers it reaches, which a factory may have got from elsewhere."""
    pending, seen = [function], set()
    while pending:
        here = pending.pop()
        if here not in seen:
            seen.add(here)
            held = [here.__globals__.get(name) for name in _names(here.__code__)]
            held += [cell.cell_contents for cell in here.__closure__ or ()]
            # Not isinstance: that would execute a lazy module.
            pending += [helper.function for helper in held if issubclass(type(helper), Inline)]
    return sorted({Path(__file__), *(Path(f.__code__.co_filename) for f in seen)})


def _symbol(item: Kernel) -> str:
    sources = b"".join(source_digest(file) for file in _files(item.function))
    return "cpuruntime_" + hashlib.sha256(_environment() + sources + item.name.encode()).hexdigest()[:40]


def _load(item: Kernel) -> int:
    symbol = _symbol(item)
    code = _read_object(symbol)
    if code is None:
        for listener in on_compile:
            listener(item.name)
        code = _target_machine().emit_object(_compile(item))
        _counts["compiled"] += 1
        _write_object(symbol, code)
    else:
        _counts["cached"] += 1
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(symbol)
    if not address:
        raise RuntimeError(f"kernel {item.name}: its object code has no entry {symbol}")
    return address


def _compile(item: Kernel) -> llvm.ModuleRef:
    """The optimised LLVM module of a kernel, its entry renamed to the kernel's symbol and all else made private."""
    import numba
    from numba import types

    from cpuruntime.compiler.simd import argument_block

    body = numba.njit(_bind(item.function), **_OPTIONS)
    view = argument_block(item.arguments)

    def entry(arguments, thread, threads):
        body(view(arguments), thread, threads)

    signature = types.void(*[types.int64] * len(SIGNATURE_FIELDS))
    callback = numba.cfunc(signature, error_model="numpy")(entry)
    module = llvm.parse_assembly(callback.inspect_llvm())
    for function in module.functions:
        if function.name == callback.native_name:
            function.name = _symbol(item)
        elif not function.is_declaration:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    _optimise(module)
    for function in module.functions:
        known = function.name.startswith("llvm.") or function.name in ALLOWED_SYMBOLS
        if function.is_declaration and not known:
            raise RuntimeError(f"kernel {item.name} calls {function.name}; kernels may not allocate or raise")
    return module


def _optimise(module: llvm.ModuleRef) -> None:
    """Optimises for the target, which removes the error path of a kernel that cannot raise."""
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    passes = llvm.create_pass_builder(_target_machine(), options)
    passes.getModulePassManager().run(module, passes)
    module.verify()


@cache
def cache_folder() -> Path | None:
    """The folder of compiled kernels; None when it cannot be used, and then nothing is kept.

    CPURUNTIME_CACHE_DIR, else cpuruntime/ under the user's cache folder. A folder that belongs to someone else or that
    others may write to is refused: object code from it would be executed.
    """
    base = os.environ.get("CPURUNTIME_CACHE_DIR")
    root = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cpuruntime"
    folder = root / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
    except OSError as error:
        log.warning("kernel cache %s cannot be used: %s", folder, error)
        return None
    if facts.st_uid != os.getuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        log.warning("kernel cache %s is refused: it must belong to this user and be writable by nobody else", folder)
        return None
    return folder


def _read_object(symbol: str) -> bytes | None:
    folder = cache_folder()
    if folder is None:
        return None
    try:
        content = (folder / f"{symbol}.o").read_bytes()
    except OSError:
        return None
    checksum, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == checksum else None


def _write_object(symbol: str, code: bytes) -> None:
    folder = cache_folder()
    if folder is not None:
        _write_file(folder / f"{symbol}.o", hashlib.sha256(code).digest() + code)


def _write_file(path: Path, content: bytes) -> None:
    """Best effort: a full disk or a read-only folder costs a recompilation in the next process, nothing else."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as error:
        log.warning("%s could not be written to the kernel cache: %s", path.name, error)
