"""Which devices there are, by name.

Devices register in the entry-point group `cpuruntime.devices`: `MYDEVICE = "my_package:MyPlugin"`. This package's own
entries are read from `entry_points.txt`, as by pyproject.toml, so a source tree that is not installed has them, too.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

from cpuruntime.devices.interface import DeviceHost, Plugin
from cpuruntime.devices.names import DeviceName
from cpuruntime.errors import DeviceUnavailableError, Error, InvalidArgumentError, UnsupportedError, nearest
from cpuruntime.properties import PROPERTIES, check_environment, unknown_variables

GROUP = "cpuruntime.devices"


@cache
def own() -> dict[str, str]:
    """The plugin class of each device of this package, as "module:class"."""
    text = Path(__file__).with_name("entry_points.txt").read_text()
    group = text.partition(f"[{GROUP}]\n")[2].partition("\n[")[0]
    return dict(line.split(" = ") for line in group.split("\n") if line)


def entry_points(group: str) -> Iterable[Any]:
    """Those that the installed distributions have in a group."""
    if not any(map(partial(_mentions, group), sys.path)):
        return ()
    from importlib import metadata  # not above: it is slow, and this package's own devices do without

    return metadata.entry_points(group=group)


def _mentions(group: str, folder: str) -> bool:
    """Whether a distribution in a folder of sys.path may have entry points in a group; this one is left out."""
    try:
        names = os.listdir(folder or ".")
    except NotADirectoryError:
        return True
    except OSError:
        return False
    return any(
        group.encode() in _entry_points_file(os.path.join(folder, name))
        for name in names
        if name.endswith((".dist-info", ".egg-info")) and not name.startswith("cpuruntime-")
    )


def _entry_points_file(distribution: str) -> bytes:
    """What a distribution's file of entry points holds; nothing where it has none. Plain calls: there are hundreds."""
    try:
        file = os.open(os.path.join(distribution, "entry_points.txt"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    with open(file, "rb", buffering=0) as opened:
        return opened.read()


def registered() -> dict[str, str]:
    """The plugin class of each device, as "module:class". Other distributions cannot replace this package's devices."""
    found = dict(own())
    for entry in entry_points(group=GROUP):
        # what older metadata of this distribution lists is gone
        if entry.name not in found and (entry.dist is None or entry.dist.name != "cpuruntime"):
            found[entry.name] = entry.value
    return found


def load(name: str, host: DeviceHost) -> Plugin:
    """A new plugin of the device `name`.

    Raises:
        InvalidArgumentError: no device has this name; or an environment variable holds a bad value for one of its
            properties, or begins like those for properties and is for none of any device.
        DeviceUnavailableError: its plugin cannot be imported or made; the cause is chained.
    """
    targets = own() if name in own() else registered()
    if name not in targets:
        raise InvalidArgumentError(
            f"Unknown device {name!r}.{nearest(name, targets)} Registered: {', '.join(targets)}."
        )
    plugin = _create(name, targets[name], host)
    _check_environment(plugin, name, host)
    return plugin


def _create(name: str, target: str, host: DeviceHost) -> Plugin:
    module, _, attribute = target.partition(":")
    try:
        plugin = getattr(importlib.import_module(module), attribute)(host, DeviceName(name))
        if not isinstance(plugin, Plugin):
            raise TypeError(f"it makes a {type(plugin).__name__}, which is no Plugin")
    except (InvalidArgumentError, UnsupportedError):  # of a variable in the environment
        raise
    except Exception as error:  # whatever a plugin of another distribution raises must not take the other devices along
        if isinstance(error, ValueError) and name in own():  # of the variable CPURUNTIME_ISA
            raise InvalidArgumentError(str(error)) from error
        step = "imported" if isinstance(error, ImportError) else "made"
        raise DeviceUnavailableError(
            f"Device {name}: its plugin {target} cannot be {step}: {type(error).__name__}: {error}."
        ) from error
    return plugin


def _check_environment(plugin: Plugin, name: str, host: DeviceHost) -> None:
    """Refuse variables that no device has a use for. Devices of other distributions are asked only if that decides."""
    known = {**PROPERTIES, **plugin.properties()}
    if unknown_variables(known):
        for other, target in registered().items():
            if other == name or other in own() or not unknown_variables(known):
                continue
            try:
                known |= _create(other, target, host).properties()
            except Error:  # The variables may be its own; it says itself what is wrong when it is used.
                return
    check_environment(known)
