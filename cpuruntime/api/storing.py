"""Compiled models in files: exporting them, importing them, and compiling by way of a cache."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from cpuruntime.api.layout import Layout
from cpuruntime.api.node import Facts
from cpuruntime.api.runtime_model import Outline
from cpuruntime.api.shared import Shared
from cpuruntime.cache.contents import ModelFile, bytes_digest, content_digest
from cpuruntime.cache.document import INTERFACE, document, restored
from cpuruntime.cache.entry import Entry
from cpuruntime.cache.plans import find_plan, packs_for
from cpuruntime.devices.interface import DeviceModel, Plugin
from cpuruntime.errors import ModelError, UnsupportedError, WrongTypeError, printable
from cpuruntime.frontend.bytes import FileBytes
from cpuruntime.graph import Graph, Type, graph_digest
from cpuruntime.host.memory import allocate
from cpuruntime.properties import Settings
from cpuruntime.store import SectionFile, kernel_packs, problem_of
from cpuruntime.trace.recorder import span

log = logging.getLogger("cpuruntime")

T = TypeVar("T")


def export_model(shared: Shared) -> io.BytesIO:
    """The file of a compiled model, at its beginning. Raises UnsupportedError where it cannot be stored."""
    if shared.defaults:
        name = printable(next(iter(shared.defaults)))
        raise UnsupportedError(f"The model cannot be stored: its input '{name}' has a default, which may be given.")
    shared.device.wait_until_optimized()
    device, *_ = shared.device.properties["EXECUTION_DEVICES"]
    stream = io.BytesIO()
    stream.writelines(document(device, shared.device, interface_of(shared), alone=True))
    stream.seek(0)
    return stream


def import_model(source: Any, plugin: Plugin, settings: Settings, make: Callable[[Shared], T]) -> T:
    """The compiled model in a file, given by its path, or in memory; `make` is the type of compiled models.

    Raises ModelError where it is none, is damaged, or was made for another processor or by another version.
    """
    what = f"the file '{os.fspath(source)}'" if isinstance(source, str | os.PathLike) else "what was given"
    try:
        if isinstance(source, str | os.PathLike):
            with open(source, "rb") as opened:
                file = SectionFile.mapped(opened.fileno())
        else:
            file = SectionFile(_aligned(source))
        return make(_shared(restored(plugin, file, settings), file, make))
    except FileNotFoundError:
        raise ModelError(f"There is no compiled model {what}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ModelError | WrongTypeError):
            raise
        reason = problem_of(error)
        raise ModelError(f"{what} cannot be imported: {reason}. Compile the model again and export it.") from error


def _aligned(source: Any) -> memoryview:
    """A copy of what was given, from a page on, as kernels read it in place."""
    if isinstance(source, io.BytesIO):  # whole, wherever its position is
        content = source.getbuffer()
    else:
        content = source.read() if hasattr(source, "read") else getattr(source, "data", source)
    try:
        data = memoryview(content).cast("B")
    except TypeError:
        known = "a path, bytes, a binary file object or a Tensor"
        raise WrongTypeError(f"a compiled model is {known}, not {type(source).__name__}.") from None
    memory = allocate(len(data)).data
    memory[:] = data
    return memory


class PlannedCompilation:
    """A compilation by way of a plan in a kernel pack: `find` the model there.

    A context, in which the model's file is open; it is digested by threads from the start.

    Args:
        model: a path, or what has no plan.
        read: what reads a graph from a path.
    """

    def __init__(self, model: Any, read: Callable[[str], Graph]) -> None:
        self._read_graph, self._source = read, None
        if not isinstance(model, str | os.PathLike) or not any(pack.plans for pack in kernel_packs()):
            return
        self._path = os.fsdecode(model)
        with suppress(OSError, ModelError):  # reading the model says why
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            source = FileBytes(descriptor, f"the model file '{self._path}'")
            self._packs = packs_for(source.size)
            if self._packs:
                self._source, self._digest = source, content_digest(source.descriptor)

    def __enter__(self) -> PlannedCompilation:
        return self

    def __exit__(self, *_: object) -> None:
        if self._source is not None:
            with suppress(OSError):
                self._digest()  # nobody reads the file any more
            self._source.close()

    def find(self, plugin: Plugin, settings: Settings, make: Callable[[Shared], T]) -> T | None:
        """The model, if there is a plan that can be used; why not is logged. `make` is the type of compiled models."""
        if self._source is None or plugin.is_composed:
            return None
        try:
            with span("look for a plan", found=False) as facts:
                file = find_plan(self._digest, self._packs, plugin, settings)
                if file is None:
                    return None
                file.source = self._source
                model = restored(plugin, file, settings, lambda: self._read_graph(self._path))
                file.source = None
                facts["found"] = True
            return make(_shared(model, file, make))
        except UnsupportedError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = problem_of(error)
            log.warning("the plan of '%s' in a kernel pack is not used, the model is compiled: %s", self._path, reason)
            return None


class CachedCompilation:
    """A compilation by way of a cache: `find` the model there, or `keep` what was compiled.

    Args:
        entry: where it is in the cache.
        model: a path, bytes, or a graph.
        read: what reads a graph from a path or bytes.
    """

    def __init__(self, entry: Entry, model: str | bytes | Graph, read: Callable[[str | bytes], Graph]) -> None:
        self._entry, self._model, self._read_graph = entry, model, read
        self._file = ModelFile(model, entry.folder) if isinstance(model, str) else None
        if isinstance(model, str):
            self._digest = None
        else:
            self._digest = bytes_digest(model) if isinstance(model, bytes) else graph_digest(model)
        self.locations: list[str] = []
        """Where external data are, for the reader to note."""

    @property
    def digest(self) -> str | None:
        """That of the model's content, where it is known."""
        return self._digest if self._file is None else self._file.digest

    def find(self, make: Callable[[Shared], T]) -> T | None:
        """The model, if the cache has it; `make` is the type of compiled models."""
        if self.digest is None:
            return None
        opened = self._opened if isinstance(self._model, str) else None
        found = self._entry.load(self.digest, self._source(self.digest), opened)
        return None if found is None else make(_shared(*found, make))

    def _opened(self) -> FileBytes:
        """The model's file."""
        descriptor = os.open(str(self._model), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return FileBytes(descriptor, f"the model file '{self._model}'")

    def _source(self, digest: str) -> Callable[[], Graph]:
        """What reads the graph again, and raises ModelError where the file has another content by then."""
        model, folder, read = self._model, self._entry.folder, self._read_graph
        if isinstance(model, Graph):
            return model.clone().clone  # the user may change the graph

        def source() -> Graph:
            if isinstance(model, str) and ModelFile(model, folder).digest != digest:
                raise ModelError(f"The model file '{model}' has changed since it was loaded; compile it again.")
            return read(model)

        return source

    def keep(self, shared: Shared) -> None:
        """Stores a model that was compiled."""
        if self._file is not None:
            self._file.learn(self.locations)
        if self.digest is not None and not shared.defaults:
            described = interface_of(shared)
            has_file = self._file is not None and not self.locations
            self._entry.save(self.digest, shared.device, lambda: described, has_file)


def interface_of(shared: Shared) -> bytes:
    """What the interface stores of a compiled model: what users noted about its ports, and the outline of its graph."""
    ports = [
        [[port.facts.friendly_name, port.facts.layout.to_string(), port.facts.names] for port in side]
        for side in (shared.ports.inputs, shared.ports.outputs)
    ]
    assert shared.outline is not None
    return json.dumps([ports, _written(shared.outline())]).encode()


def _shared(device: DeviceModel, file: SectionFile, make: Callable[[Shared], Any]) -> Shared:
    """What a compiled model shares with its requests, by a device's model and the file that it is from."""
    content = bytes(file[INTERFACE])
    ports, _ = json.loads(content)
    facts = [[Facts(name, layout=Layout(layout), names=names) for name, layout, names in side] for side in ports]

    def outline() -> Outline:
        return _read(json.loads(content)[1])

    return Shared(device, make, facts=(facts[0], facts[1]), outline=outline)


def _written(outline: Outline) -> list[Any]:
    def values(described: Sequence[Any]) -> list[Any]:
        return [(name, kind.get_type_name(), shape) for name, kind, shape in described]

    nodes = [(name, read, values(made)) for name, read, made in outline.nodes]
    return [outline.name, values(outline.inputs), values(outline.outputs), nodes]


def _read(row: Sequence[Any]) -> Outline:
    def values(described: Sequence[Any]) -> tuple[Any, ...]:
        return tuple((name, Type(kind), None if shape is None else tuple(shape)) for name, kind, shape in described)

    name, inputs, outputs, nodes = row
    made = tuple((node, tuple(read), values(results)) for node, read, results in nodes)
    return Outline(name, values(inputs), values(outputs), made)
