"""Kernels of a device: each text is built once, and its binary is stored for other processes."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from weakref import WeakKeyDictionary, WeakValueDictionary

from cpuruntime.errors import UnsupportedError, escaped
from cpuruntime.gpu_runtime.interface import BuildError, GpuRuntime, Module
from cpuruntime.store import cache_folder
from cpuruntime.trace.recorder import span

log = logging.getLogger("cpuruntime")

_NICE = 10
"""What is added to the niceness of threads that build kernels for a model with GPU_HOST_TASK_PRIORITY LOW."""

_lock = threading.Lock()
_of: WeakKeyDictionary[GpuRuntime, Modules] = WeakKeyDictionary()


def modules_of(runtime: GpuRuntime) -> Modules:
    """The kernels of a device that are in use in this process."""
    with _lock:
        return _of.setdefault(runtime, Modules())


class Modules:
    """Built kernels by their text, prelude included, while a program holds them. Thread-safe."""

    def __init__(self) -> None:
        self._built: WeakValueDictionary[str, Module] = WeakValueDictionary()
        self._unsaved: set[str] = set()
        self._failed: set[str] = set()

    def build(self, runtime: GpuRuntime, texts: Mapping[str, str], is_low: bool = False) -> dict[str, Module]:
        """The kernels of texts. The value of a text names the node that needs it, for errors.

        Raises UnsupportedError for one that the driver does not compile; the driver's log is logged once.
        """
        found = {text: module for text in texts if (module := self._built.get(text)) is not None}
        missing = [text for text in texts if text not in found]
        if not missing:
            return found
        threads = min(len(missing), len(os.sched_getaffinity(0)))
        with (
            span("build kernels", count=len(missing)),
            ThreadPoolExecutor(threads, "cpuruntime-gpu-build", _yield_to_others if is_low else None) as pool,
        ):
            made = [pool.submit(self._make, runtime, text, texts[text]) for text in missing]
        found |= {text: one.result() for text, one in zip(missing, made)}
        return found

    def _make(self, runtime: GpuRuntime, text: str, where: str) -> Module:
        stored = cache_folder().read(_file(runtime, text))
        if stored is not None:
            try:
                module = self._built[text] = runtime.load(stored)
                return module
            except BuildError as error:
                log.info("%s refuses a stored kernel, it is built again: %s", runtime.facts.name, escaped(error.log))
                cache_folder().remove(_file(runtime, text))
        try:
            module = self._built[text] = runtime.build(text)
        except BuildError as error:
            if text not in self._failed:
                self._failed.add(text)
                log.warning("%s does not build a kernel of %s:\n%s", runtime.facts.name, where, error.log)
            raise UnsupportedError(
                f"{where}: the driver of {runtime.facts.name} does not build its kernel; its log is in the log of "
                "package cpuruntime. Another device can run it, as by HETERO:GPU,CPU."
            ) from error
        self._unsaved.add(text)
        return module

    def save(self, runtime: GpuRuntime, modules: Mapping[str, Module]) -> None:
        """Store the binaries of kernels that were built here and have been launched: before, they are not complete."""
        for text, module in modules.items():
            if text in self._unsaved:
                self._unsaved.discard(text)
                cache_folder().publish(_file(runtime, text), module.binary())


def _file(runtime: GpuRuntime, text: str) -> str:
    """The file of a binary: another one for another text, device or driver."""
    key = "\0".join((runtime.facts.name, runtime.facts.driver, text))
    return f"gpu-{hashlib.sha256(key.encode()).hexdigest()[:40]}"


def _yield_to_others() -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
