"""A compiled model as a file: what its device and its interface store of it, and who made it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cpuruntime.devices.host import recorded
from cpuruntime.devices.interface import NEEDS_SOURCE, DeviceModel, Plugin
from cpuruntime.errors import UnsupportedError
from cpuruntime.graph import Graph
from cpuruntime.properties import Settings
from cpuruntime.store import SectionFile, written

FORMAT = 1
"""The version of what is stored."""

INTERFACE = "interface"
"""The section of what the interface stores."""


def document(device: str, model: DeviceModel, interface: bytes, alone: bool = False) -> list[bytes | memoryview]:
    """The pieces of the file of a model on a device.

    Raises UnsupportedError where the model cannot be stored, or not `alone`, without the one that was compiled.
    """
    from cpuruntime.version import __version__  # not above: looking for it is slow

    own, sections = model.export()
    if alone and NEEDS_SOURCE in own:
        raise UnsupportedError(own[NEEDS_SOURCE])
    facts = {"format": FORMAT, "made_by": __version__, "device": device, "own": own}
    return written(facts, {INTERFACE: [interface], **sections})


def restored(
    plugin: Plugin, file: SectionFile, settings: Settings, source: Callable[[], Graph] | None = None
) -> DeviceModel:
    """The model in a file; it can be compiled instead where there is a `source`, which reads its graph again.

    Raises:
        ValueError: the file is damaged, or not for this process.
        Error: the device cannot take the model: processors are reserved, memory is short.
    """
    if file.facts["format"] != FORMAT or file.facts["device"] != str(plugin.target):
        made_by, device = file.facts["made_by"], file.facts["device"]
        raise ValueError(f"it was made for {device} by cpuruntime {made_by}")
    report = file.check()
    model = None
    try:
        model = plugin.restore(file.facts["own"], file, settings, source)
    finally:
        try:
            try:
                file.finish()
            finally:
                report()
        except BaseException:
            if model is not None:
                model.close()
            raise
    model.properties["LOADED_FROM_CACHE"] = file.source is None
    return recorded(model, plugin, settings)


def described(file: SectionFile) -> str:
    """A line about a file: the model's name, its device and who made it."""
    own: dict[str, Any] = file.facts["own"]
    return f"'{own.get('name', '?')}' on {file.facts['device']}, made by cpuruntime {file.facts['made_by']}"
