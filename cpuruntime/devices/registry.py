"""Which devices there are, by name.

A device in this repository is a folder and a line in `BUILTIN`. One elsewhere registers in the entry-point group
`cpuruntime.devices`: `MYDEVICE = "my_package:MyPlugin"`, the entry's name being the device's.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

from cpuruntime.devices.interface import Plugin
from cpuruntime.errors import DeviceUnavailableError, InvalidArgumentError, nearest

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
        InvalidArgumentError: no device has this name.
        DeviceUnavailableError: its plugin cannot be imported; the cause is chained.
    """
    targets = registered()
    target = targets.get(name) if isinstance(name, str) else None
    if target is None:
        hint = nearest(name, targets) if isinstance(name, str) else ""
        raise InvalidArgumentError(f"Unknown device {name!r}.{hint} Registered: {', '.join(targets)}.")
    module, _, attribute = target.partition(":")
    try:
        plugin = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a plugin of another distribution raises must not take the other devices along
        raise DeviceUnavailableError(
            f"Device {name}: its plugin {target} cannot be imported: {type(error).__name__}: {error}."
        ) from error
    except ValueError as error:  # an environment variable that the device's modules read
        raise DeviceUnavailableError(f"Device {name}: {error}") from error
    return plugin()
