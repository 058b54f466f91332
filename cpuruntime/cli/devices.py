"""`cpuruntime devices`: the devices that can be used here with their facts, and the others with the reason."""

from __future__ import annotations

import argparse
import os

import cpuruntime as ov
from cpuruntime.cli.kernels import summary
from cpuruntime.cli.parser import Parser
from cpuruntime.store import cache_folder, kernel_packs


def parser() -> argparse.ArgumentParser:
    """The command has no options of its own."""
    return Parser(prog="cpuruntime devices", description="Show which devices can be used here, and why others cannot.")


def run(options: argparse.Namespace) -> None:
    """Prints where compiled kernels are, each device's state and its read-only properties."""
    core = ov.Core()
    reasons = core.unavailable_devices
    devices = core.available_devices
    width = max(map(len, [*devices, *reasons]), default=0)
    allowed = sorted(os.sched_getaffinity(0))
    print(f"Processors this process may use: {ranges(allowed)} ({len(allowed)} of {os.cpu_count()})")
    folder, packs = cache_folder(), kernel_packs()
    print(f"Compiled kernels: {folder.path or 'not stored'} ({folder.nbytes / 2**20:.1f} MiB)")
    for pack in packs:
        print(f"Pack of kernels: {summary(pack)}")
    for device in devices:
        print(f"{device.ljust(width)}  available")
        supported = core.get_property(device, "SUPPORTED_PROPERTIES")
        for name, mutability in supported.items():
            if mutability == "RO" and name != "SUPPORTED_PROPERTIES":
                print(f"{'':{width}}  {name}: {core.get_property(device, name)}")
    for device, reason in reasons.items():
        print(f"{device.ljust(width)}  not available: {reason.removeprefix(f'Device {device}: ')}")


def ranges(numbers: list[int]) -> str:
    """Sorted numbers as `0-3, 8`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)
