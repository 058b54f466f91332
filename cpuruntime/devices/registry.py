"""Which devices there are, by name.

A device in this repository is a folder and a line in `BUILTIN`. One elsewhere registers in the entry-point group
`cpuruntime.devices`: `MYDEVICE = "my_package:MyPlugin"`, the entry's name being the device's.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from importlib.metadata import entry_points

from cpuruntime.devices.interface import Plugin
from cpuruntime.errors import DeviceUnavailableError, Error, InvalidArgumentError, nearest
from cpuruntime.properties import PROPERTIES, check_environment, unknown_variables

ENTRY_POINTS = "cpuruntime.devices"

BUILTIN: dict[str, str] = {
    "CPU": "cpuruntime.devices.cpu:CpuPlugin",
    "REFERENCE": "cpuruntime.devices.reference:ReferencePlugin",
}


def registered() -> dict[str, str]:
    """The plugin class of each device, as "module:class"; entry points cannot replace the built-in ones."""
    found = dict(BUILTIN)
    for entry in entry_points(group=ENTRY_POINTS):
        found.setdefault(entry.name, entry.value)
    return found


def load(name: str) -> Plugin:
    """A new plugin of the device `name`.

    Raises:
        InvalidArgumentError: no device has this name; or an environment variable holds a bad value for one of its
            properties, or begins like those for properties and is for none of any device.
        DeviceUnavailableError: its plugin cannot be imported; the cause is chained.
    """
    targets = registered()
    target = targets.get(name) if isinstance(name, str) else None
    if target is None:
        hint = nearest(name, targets) if isinstance(name, str) else ""
        raise InvalidArgumentError(f"Unknown device {name!r}.{hint} Registered: {', '.join(targets)}.")
    plugin = _create(name, target)
    _check_environment(plugin, [(other, targets[other]) for other in targets if other not in (name, *BUILTIN)])
    return plugin


def _create(name: str, target: str) -> Plugin:
    module, _, attribute = target.partition(":")
    try:
        plugin = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a plugin of another distribution raises must not take the other devices along
        raise DeviceUnavailableError(
            f"Device {name}: its plugin {target} cannot be imported: {type(error).__name__}: {error}."
        ) from error
    return plugin()


def _check_environment(plugin: Plugin, others: Iterable[tuple[str, str]]) -> None:
    """Refuse variables that no device has a use for. Devices of other distributions are asked only if that decides."""
    known = {**PROPERTIES, **plugin.properties()}
    for name, target in others:
        if not unknown_variables(known):
            break
        try:
            known |= _create(name, target).properties()
        except Error:  # The variables may be its own; it says itself what is wrong when it is used.
            return
    check_environment(known)
