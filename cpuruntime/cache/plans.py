"""Plans in kernel packs: stored models without the weights that are packed again from the model's own file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from cpuruntime.cache.contents import content_digest
from cpuruntime.cache.document import FORMAT
from cpuruntime.devices.interface import Plugin
from cpuruntime.properties import Settings
from cpuruntime.store import SectionFile, kernel_packs


def plan_key(digest: Callable[[], str], plugin: Plugin, settings: Settings) -> str:
    """What the plan of a model file of this content is found by: candidates were measured on one kind of processor.

    Raises UnsupportedError where models with these settings are not stored.
    """
    facts = [FORMAT, str(plugin.target), plugin.fact("FULL_DEVICE_NAME"), plugin.storage_key(settings)]
    return hashlib.sha256(json.dumps([*facts, digest()]).encode()).hexdigest()


def find_plan(descriptor: int, size: int, plugin: Plugin, settings: Settings) -> SectionFile | None:
    """The plan for an open model file of so many bytes; None where no pack has one.

    The file is read only if a pack has a plan for one of that size. Raises ValueError where what is found is damaged.
    """
    packs = [pack for pack in kernel_packs() if str(size) in pack.plans]
    if not packs:
        return None
    digest = content_digest(descriptor)
    try:
        key = plan_key(digest, plugin, settings)
    finally:
        digest()  # nobody reads the file any more
    found = next((pack.read(key) for pack in packs if key in pack), None)
    return None if found is None else SectionFile(memoryview(found))
