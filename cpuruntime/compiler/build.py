"""Building: how a kernel's function becomes machine code at an address, and the cache of object files.

The compiler is imported only when something has to be compiled, so a process with a warm cache loads neither Numba nor,
on x86-64, LLVM. The cache is keyed by content: a kernel's symbol is a digest of the sources that it reaches and of the
ISA level. Code by another compiler does the same, so packs are found by the symbol; the user's cache has code by the
compiler at hand.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np

from cpuruntime.compiler import isa, target
from cpuruntime.compiler.inline import files
from cpuruntime.compiler.objects import forbidden_symbols
from cpuruntime.compiler.objects import load as load_object
from cpuruntime.compiler.recipes import of_function
from cpuruntime.compiler.sources import add_generated, module_file, source_digest
from cpuruntime.store import Pack, cache_folder, kernel_packs

log = logging.getLogger("cpuruntime")

PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
"""The ctypes type of a kernel."""

_COMPILER = os.path.join(os.path.dirname(__file__), "machine_code.py")

FORMAT = b"1"
"""The version of what code expects of its caller and its caller of it; part of every symbol."""


def digest(modules: Iterable[str], text: str) -> str:
    """A name for something that depends on `text`, on the kernels of these modules and on the ISA level."""
    return _digest(map(_ops_file, modules), text)


def _digest(files: Iterable[str], text: str) -> str:
    sources = b"".join(sorted(set(map(source_digest, files))))
    return hashlib.sha256(environment() + sources + text.encode()).hexdigest()[:40]


def _ops_file(module: str) -> str:
    file = module_file(f"cpuruntime.ops.{module}")
    assert file is not None, module
    return file


def loaded_kernels() -> tuple[int, int]:
    """(compiled, taken from the cache) in this process."""
    return _counts["compiled"], _counts["cached"]


_lock = threading.RLock()
_this_thread = threading.local()
_counts = {"compiled": 0, "cached": 0}
_addresses: dict[str, int] = {}


def never_free(owner: object) -> None:
    """Never frees an object: native threads that are left at the end of the process outlive the interpreter."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


@cache
def environment() -> bytes:
    """What decides whether object code fits this process: the format and the ISA level."""
    level = isa.current()
    return b"\0".join((FORMAT, level.name.encode(), level.cpu.encode(), level.features.encode()))


def version(package: str) -> str:
    """The version of a package, by the name of the folder of its metadata if it can be: reading them is slow."""
    found = find_spec(package)
    home = Path(found.origin).parents[1] if found is not None and found.origin else None
    names = [] if home is None else [*home.glob(f"{package}-*.dist-info")]
    if len(names) == 1:
        return names[0].name.removeprefix(f"{package}-").removesuffix(".dist-info")
    from importlib import metadata

    return metadata.version(package)


@cache
def _compiler() -> str:
    versions = (version("numba"), version("llvmlite"), sys.version)
    return hashlib.sha256("\0".join(versions).encode()).hexdigest()[:8]


def object_name(symbol: str) -> str:
    """The name of a kernel's object in the cache: another compiler's code has another name."""
    return f"{symbol}-{_compiler()}.o"


def generate(name: str, source: str) -> ModuleType:
    """The module that the text `source`, written by this package, makes when it is executed.

    Kernels in it are cached by the text like any other. A copy named `name` in the folder of the kernel cache is for
    people to read and for debuggers; it is never read back.
    """
    folder = cache_folder()
    path = os.path.join(folder.path or "<generated>", f"{name}.py")
    code = compile(source, path, "exec")
    if not folder.has(f"{name}.py"):
        folder.write_text(f"{name}.py", source)
    module = ModuleType(name)
    module.__file__ = path
    module.__dict__["__generated__"] = add_generated(path, source, code)  # lives as long as the module's functions
    exec(code, module.__dict__)
    return module


class Kernel:
    """A kernel. `family` names kernels that do the same work; `tile` is the register tile: rows, columns and so on.

    `features` are LLVM's names of what its code uses beyond the ISA level; its name has to spell them. `recipe` says
    how another process makes it again; None where it cannot.
    """

    def __init__(
        self, function: FunctionType, arguments: np.dtype, name: str, family: str = "", tile: Sequence[int] = (),
        features: str = "",
    ) -> None:  # fmt: skip
        self.function = function
        self.arguments = arguments
        self.name = name
        self.family = family
        self.tile = tuple(tile)
        self.features = features
        self.recipe = of_function(function)

    def __repr__(self) -> str:
        return f"<Kernel {self.name}>"

    @cached_property
    def symbol(self) -> str:
        """The name of the machine code: a digest of the sources it depends on and of the ISA level."""
        return symbol_of(self)

    @property
    def is_compiled(self) -> bool:
        """Whether the native code is loaded, in a pack or in the cache."""
        is_packed = self.symbol in _addresses or any(self.symbol in pack for pack in packs())
        return is_packed or cache_folder().has(object_name(self.symbol))

    @cached_property
    def address(self) -> int:
        """Address of the native code; compiled or loaded on first use. Thread-safe."""
        if target.level is not None:
            return self._address_for_packs()
        if find(self.symbol) is None:
            _report_missing()
            with _lock:
                if find(self.symbol) is None:
                    load(self, self.code())
        return _addresses[self.symbol]

    def _address_for_packs(self) -> int:
        if self.symbol not in target.found and not self.is_compiled:
            _report_missing()
        if self.symbol not in target.found:
            target.found[self.symbol] = (self.name, self.code())
        return ctypes.cast(_NOTHING, ctypes.c_void_p).value or 0

    def code(self) -> bytes:
        """The object code, from the cache or compiled and put there. Thread-safe.

        Raises:
            RuntimeError: the kernel calls what none may call.
        """
        with _lock:
            code = _cached(self.symbol)
            if code is None:
                code = self.compiled()
                called = ", ".join(sorted(forbidden_symbols(code)))
                if called:
                    raise RuntimeError(f"kernel {self.name} calls {called}; kernels may not allocate or raise")
                cache_folder().publish(object_name(self.symbol), code)
            return code

    def compiled(self) -> bytes:
        """The object code, compiled afresh."""
        from cpuruntime.compiler import machine_code

        return machine_code.compiled(self.function, self.arguments, self.symbol, self.features)

    @cached_property
    def entry(self) -> Callable[[int, int, int], None]:
        """The native code as a Python callable of three int64 that releases the GIL while it runs."""
        return PROTOTYPE(self.address)

    def assembly(self) -> str:
        """The machine code as text, compiled afresh."""
        from cpuruntime.compiler import machine_code

        with _lock:
            return machine_code.assembly(self.function, self.arguments, self.symbol, self.features)

    def __call__(self, block: np.ndarray, threads: int = 1) -> None:
        """Runs every thread's share one after another on the calling thread; `block` is one record of `arguments`."""
        assert block.dtype == self.arguments
        for thread in range(threads):
            self.entry(block.ctypes.data, thread, threads)


def symbol_of(kernel: Kernel, *compiler: str) -> str:
    """The name of the machine code of a kernel, made by these files, too."""
    return "cpuruntime_" + _digest({_COMPILER, *compiler, *map(str, files(kernel.function))}, kernel.name)


def set_symbol(kernel: Kernel, symbol: str) -> None:
    """Spares a kernel the work of computing its symbol, which another process with the same sources has computed."""
    vars(kernel).setdefault("symbol", symbol)


@contextmanager
def when_missing(function: Callable[[], None]) -> Iterator[None]:
    """In this block `function` is called once before this thread compiles a kernel: it may compile more of them.

    What it raises leaves the block.
    """
    outer = getattr(_this_thread, "when_missing", None)
    _this_thread.when_missing = function
    try:
        yield
    finally:
        _this_thread.when_missing = outer


def _report_missing() -> None:
    function = getattr(_this_thread, "when_missing", None)
    if function is not None:
        _this_thread.when_missing = None
        function()


def warm_up() -> None:
    """Imports the compiler."""
    import numba  # noqa: F401

    import cpuruntime.compiler.frontend
    import cpuruntime.compiler.simd  # noqa: F401


def find(symbol: str) -> int | None:
    """The address of machine code that is loaded, in a pack or in the cache. Thread-safe."""
    if symbol not in _addresses:  # without the lock, which is held while another kernel is compiled
        with _lock:
            code = _packed(symbol) or _cached(symbol)
            if code is not None and symbol not in _addresses:
                _counts["cached"] += 1
                _add(symbol, code)
    return _addresses.get(symbol)


@cache
def packs() -> list[Pack]:
    """The packs that are asked for code: those that have some for the level, until they are found to be damaged."""
    found, level = kernel_packs() if target.level is None else (), isa.current().cpu
    for pack in found:
        if level not in pack.levels:
            log.warning("kernel pack %s has code for %s, not for %s", pack.path, ", ".join(pack.levels), level)
    return [pack for pack in found if level in pack.levels]


def _packed(symbol: str) -> bytes | None:
    """The object code in a pack."""
    for pack in tuple(packs()):
        try:
            code = pack.read(symbol)
            if code is not None:
                _check(code)
                return code
        except (OSError, ValueError) as error:
            log.warning("kernel pack %s is not used any more: %s", pack.path, error)
            packs().remove(pack)
    return None


def _warn_of_stale_packs(name: str) -> None:
    """Logs once that packs have a kernel as other sources make it."""
    for pack in packs():
        if pack not in _stale and any(entry.name == name for entry in pack.levels[isa.current().cpu].values()):
            _stale.add(pack)
            log.warning(
                "kernel pack %s was built from other sources, by cpuruntime %s: kernel %s is compiled, maybe others",
                pack.path, pack.made_by.get("cpuruntime", "?"), name,
            )  # fmt: skip


_stale: set[Pack] = set()


def _cached(symbol: str) -> bytes | None:
    """The object code in the cache; code that would call what no kernel may call is removed from there."""
    file = object_name(symbol)
    code = cache_folder().read(file)
    if code is None:
        return None
    try:
        _check(code)
        return code
    except ValueError as error:
        log.warning("%s in the kernel cache is not used and compiled anew: %s", file, error)
    cache_folder().remove(file)
    return None


def _check(code: bytes) -> None:
    """ValueError where the code calls what no kernel may call."""
    called = ", ".join(sorted(forbidden_symbols(code)))
    if called:
        raise ValueError(f"it calls {called}")


def _do_nothing(arguments: int, thread: int, threads: int) -> None:
    """Stands for code that this processor may not have the instructions for."""


_NOTHING = PROTOTYPE(_do_nothing)


def load(kernel: Kernel, code: bytes) -> None:
    """Loads machine code that was compiled just now. Thread-safe.

    Raises:
        ValueError: it is damaged or calls what no kernel may call.
    """
    _check(code)
    _warn_of_stale_packs(kernel.name)
    with _lock:
        if target.level is not None:
            target.found[kernel.symbol] = (kernel.name, code)
        elif kernel.symbol not in _addresses:
            _counts["compiled"] += 1
            _add(kernel.symbol, code)


def _add(symbol: str, code: bytes) -> None:
    if platform.machine() == "x86_64":
        _addresses[symbol] = load_object(code, symbol)
    else:
        from cpuruntime.compiler import machine_code

        _addresses[symbol] = machine_code.load(code, symbol)


def _in_child() -> None:
    """After a fork: the thread that held the lock may be gone."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
