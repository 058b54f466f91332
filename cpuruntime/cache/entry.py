"""An entry of a model cache: one model, compiled for one device with certain settings, in the folder of CACHE_DIR."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cpuruntime.cache.document import FORMAT, INTERFACE, document, restored
from cpuruntime.cache.growth import Growth
from cpuruntime.devices.host import compile_on
from cpuruntime.devices.interface import DeviceModel, Plugin
from cpuruntime.errors import UnsupportedError
from cpuruntime.graph import Graph, graph_digest, settle
from cpuruntime.properties import CacheMode, Settings
from cpuruntime.store import Folder, SectionFile, problem_of
from cpuruntime.trace.recorder import span

log = logging.getLogger("cpuruntime")

SUFFIX = ".model"
WITHOUT_WEIGHTS = " without weights"
MOST_BYTES = 16 * 2**30
"""Size limit of a cache's folder; arbitrary. Above it the models that were not used for longest are removed."""

POLL = 0.5
"""Seconds between two looks at whether a model is optimized."""


def folder_of(path: str) -> Folder:
    """The folder of a cache. Nothing is cached where it cannot be made or others can write to it, which is logged."""
    return Folder(Path(path), MOST_BYTES, of_root=True)


class Entry:
    """Where a compiled model is stored, or will be; `is_small` says whether without weights that its file has.

    Raises UnsupportedError where models with these settings are not stored.
    """

    def __init__(self, folder: Folder, plugin: Plugin, settings: Settings) -> None:
        self.folder, self._plugin, self._settings = folder, plugin, settings
        self._facts = [FORMAT, str(plugin.target), plugin.storage_key(settings)]
        self.is_small = settings.value("CACHE_MODE") is CacheMode.OPTIMIZE_SIZE

    def _file(self, digest: str) -> str:
        return hashlib.sha256(json.dumps([*self._facts, digest]).encode()).hexdigest()[:40] + SUFFIX

    def load(
        self, digest: str, source: Callable[[], Graph], model_file: Callable[[], Any] | None = None
    ) -> tuple[DeviceModel, SectionFile] | None:
        """The model of a content, and its file; None where there is none that can be used, and why is logged.

        `source` reads the model's graph again, `model_file` opens the file that it is in.
        """
        if self.is_small and model_file is not None:
            found = self._load(self._file(digest + WITHOUT_WEIGHTS), source, model_file)
            if found is not None:
                return found
        found = self._load(self._file(digest), source, None)
        if found is not None:
            self._follow(digest, found[0], partial(_interface_in, found[1]), has_file=False)
        return found

    def _load(
        self, name: str, source: Callable[[], Graph], model_file: Callable[[], Any] | None
    ) -> tuple[DeviceModel, SectionFile] | None:
        try:
            with span("look in the model cache", found=False) as facts:
                with self.folder.open(name) as descriptor:
                    file = SectionFile.mapped(descriptor.fileno())
                if model_file is not None:
                    file.source = model_file()
                try:
                    found = restored(self._plugin, file, self._settings, source)
                finally:
                    if file.source is not None:
                        file.source.close()
                        file.source = None
                found.properties["LOADED_FROM_CACHE"] = True
                facts["found"] = True
            return found, file
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s in %s is not used, the model is compiled: %s", name, self.folder.path, problem_of(error))
            return None

    def save(
        self, digest: str, model: DeviceModel, interface: Callable[[], bytes], has_file: bool = False
    ) -> None:
        """Stores a model, and in a thread again when it is optimized, and whenever more of it has been planned.

        If it `has_file`, all its data are in one. Why it cannot be stored is logged.
        """
        is_final = "OPTIMIZED" not in model.properties or model.get_property("OPTIMIZED")
        arguments = (digest, model, interface, has_file)
        self._save_now(*arguments)
        if is_final:
            self._follow(*arguments)
        else:
            threading.Thread(target=self._save_later, args=arguments, name="cpuruntime-store", daemon=True).start()

    def _save_later(self, digest: str, model: DeviceModel, interface: Callable[[], bytes], has_file: bool) -> None:
        while not model.get_property("OPTIMIZED"):
            time.sleep(POLL)
            if model.closed:
                return
        self._save_now(digest, model, interface, has_file)
        self._follow(digest, model, interface, has_file)

    def _follow(self, digest: str, model: DeviceModel, interface: Callable[[], bytes], has_file: bool) -> None:
        """Have a model stored again whenever more of it has been planned."""
        growth = Growth(model, lambda grown: self._save_now(digest, grown, interface, has_file))
        model.when_planned(growth.note)

    def _save_now(self, digest: str, model: DeviceModel, interface: Callable[[], bytes], has_file: bool) -> None:
        try:
            pieces = document(str(self._plugin.target), model, interface())
        except UnsupportedError as error:
            log.info("%s", error)
            return
        if has_file and self.is_small:
            small = self._plugin.without_weights(SectionFile(memoryview(b"".join(pieces))))
            if small is not None:
                digest, pieces = digest + WITHOUT_WEIGHTS, [small]
        with span("write to the model cache"):
            self.folder.replace(self._file(digest), pieces)


def _interface_in(file: SectionFile) -> bytes:
    return bytes(file[INTERFACE])


def entry_for(path: str, plugin: Plugin, settings: Settings) -> Entry | None:
    """The entry for a compilation in the cache at `path`; None where the model is not to be stored, which is logged."""
    try:
        return Entry(folder_of(path), plugin, settings)
    except UnsupportedError as error:
        log.info("CACHE_DIR has no effect: %s", error)
        return None


def compile_part(plugin: Plugin, graph: Graph, settings: Settings) -> DeviceModel:
    """The model of a part of a device over devices, by way of the cache if the settings name one.

    Raises what `compile_on` raises.
    """
    entry = None
    if settings.value("CACHE_DIR") and not plugin.is_composed:  # a composed one has parts in turn
        entry = entry_for(settings.value("CACHE_DIR"), plugin, settings)
    if entry is None:
        return compile_on(plugin, graph, settings)
    settle(graph)
    digest = f"part {graph_digest(graph)}"  # not that of a whole model, with which the interface stores what it needs
    found = entry.load(digest, lambda: graph)
    if found is not None:
        return found[0]
    model = compile_on(plugin, graph, settings)
    entry.save(digest, model, bytes)
    return model
