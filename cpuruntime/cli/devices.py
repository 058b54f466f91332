"""`cpuruntime devices`: the devices that can be used here with their facts, and the others with the reason."""

from __future__ import annotations

import argparse
import os
from typing import Any

import psutil

import cpuruntime as ov
from cpuruntime.cli.kernels import summary
from cpuruntime.cli.parser import Parser
from cpuruntime.compiler import isa
from cpuruntime.errors import printable
from cpuruntime.host.ledger import Ledger
from cpuruntime.properties.words import Word
from cpuruntime.store import cache_folder, kernel_packs


def parser() -> argparse.ArgumentParser:
    """The command has no options of its own."""
    return Parser(prog="cpuruntime devices", description="Show which devices can be used here, and why others cannot.")


def run(options: argparse.Namespace) -> None:
    """Prints where compiled kernels and leases of processors are, each device's state and its read-only properties."""
    core = ov.Core()
    reasons = core.unavailable_devices
    devices = core.available_devices
    width = max(map(len, [*devices, *reasons]), default=0)
    allowed = sorted(os.sched_getaffinity(0))
    print(f"Processors this process may use: {ranges(allowed)} ({len(allowed)} of {os.cpu_count()})")
    print(f"Level of the processor: {isa.current().cpu}")
    folder, packs = cache_folder(), kernel_packs()
    print(f"Compiled kernels: {folder.path or 'not stored'} ({folder.nbytes / 2**20:.1f} MiB)")
    for pack in packs:
        print(f"Pack of kernels: {summary(pack)}")
    print(f"Leases of processors: {Ledger().folders[0]}")
    for device in devices:
        print(f"{device.ljust(width)}  available")
        supported = core.get_property(device, "SUPPORTED_PROPERTIES")
        for name, mutability in supported.items():
            value = core.get_property(device, name) if mutability == "RO" and name != "SUPPORTED_PROPERTIES" else [""]
            if value != [""]:  # the identifier of a device's only instance
                print(f"{'':{width}}  {name}: {in_words(value)}")
    for device, reason in reasons.items():
        print(f"{device.ljust(width)}  not available: {reason.removeprefix(f'Device {device}: ')}")


def in_words(value: Any) -> str:
    """A property's value for people: lists and numbers by name with commas, ranges, processes with their models."""
    if isinstance(value, Word):
        return value.value
    if isinstance(value, tuple):
        low, high, *step = value
        return f"{low} to {high}" + "".join(f" in steps of {one}" for one in step)
    if isinstance(value, dict) and all(isinstance(one, int) for one in value.values()) and value:
        return ", ".join(f"{name} {number}" for name, number in value.items())
    if isinstance(value, dict):
        lines = (f"processor {cpu}: {', '.join(map(_process, holders))}" for cpu, holders in value.items())
        return "; ".join(lines) or "none"
    return ", ".join(filter(None, value)) or "none" if isinstance(value, list) else str(value)


def _process(number: int) -> str:
    try:
        names = [psutil.Process(number).name()]
    except psutil.Error:
        names = []
    models = sorted({holder.name for holder in Ledger().holders() if holder.pid == number and holder.name})
    names += [f"model '{printable(name)}'" for name in models]
    return f"process {number} ({', '.join(names)})" if names else f"process {number}"


def ranges(numbers: list[int]) -> str:
    """Sorted numbers as `0-3, 8`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)
