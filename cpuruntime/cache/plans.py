"""Plans in kernel packs: stored models without the weights that are packed again from the model's own file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from cpuruntime.cache.document import FORMAT
from cpuruntime.devices.interface import Plugin
from cpuruntime.properties import Settings
from cpuruntime.store import Pack, SectionFile, kernel_packs


def plan_key(digest: Callable[[], str], plugin: Plugin, settings: Settings) -> str:
    """What the plan of a model file of this content is found by: candidates were measured on one kind of processor.

    Raises UnsupportedError where models with these settings are not stored.
    """
    facts = [FORMAT, str(plugin.target), plugin.fact("FULL_DEVICE_NAME"), plugin.storage_key(settings)]
    return hashlib.sha256(json.dumps([*facts, digest()]).encode()).hexdigest()


def packs_for(size: int) -> list[Pack]:
    """The packs with plans for model files of so many bytes."""
    return [pack for pack in kernel_packs() if str(size) in pack.plans]


def find_plan(
    digest: Callable[[], str], packs: Sequence[Pack], plugin: Plugin, settings: Settings
) -> SectionFile | None:
    """The plan for a model file of this content; None where no pack has one.

    Raises ValueError where what is found is damaged.
    """
    key = plan_key(digest, plugin, settings)
    found = next((pack.read(key) for pack in packs if key in pack), None)
    return None if found is None else SectionFile(memoryview(found))
