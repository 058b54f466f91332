"""What was measured, kept beside the compiled kernels, in the folder that belongs to the user alone."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from math import isfinite

from cpuruntime.compiler.jit import cache_folder

log = logging.getLogger("cpuruntime")


def read_kept(key: str, names: Sequence[str]) -> list[float] | None:
    """The figures written under `key`, in the order of `names`; None unless there is a positive one for each."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        found = json.loads((folder / f"streams-{key}.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or set(found) != set(names):
        return None
    figures = [found[name] for name in names]
    return figures if all(isinstance(f, float) and isfinite(f) and f > 0 for f in figures) else None


def write_kept(key: str, figures: Mapping[str, float]) -> None:
    """Keep figures by name; best effort, since losing them costs a measurement in the next process, nothing else."""
    folder = cache_folder()
    if folder is None:
        return
    try:
        handle, temporary = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(figures, file)
            os.replace(temporary, folder / f"streams-{key}.json")
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as error:
        log.warning("what was measured of streams could not be kept: %s", error)
