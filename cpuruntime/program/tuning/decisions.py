"""Decisions: which of some candidates was measured to be fastest, kept in the folder of compiled kernels.

A decision is a small JSON file named by a digest of all that it depends on. A file that is damaged, or that was made
between other candidates, is as good as none. Without a folder decisions live as long as the process.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cpuruntime.compiler.jit import cache_folder

log = logging.getLogger("cpuruntime")


@dataclass(frozen=True)
class Decision:
    """The index of the chosen candidate, and the seconds of each, None for those that were not measured."""

    chosen: int
    seconds: tuple[float | None, ...]


class Decisions:
    """What was decided, by key; thread-safe.

    Args:
        folder: where decisions are kept for other processes.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[tuple[str, tuple[str, ...]], Decision] = {}
        self._lock = threading.Lock()

    def find(self, key: str, names: Sequence[str]) -> Decision | None:
        """What was decided between the candidates of these names."""
        with self._lock:
            return self._find(key, tuple(names))

    def keep(self, key: str, names: Sequence[str], decision: Decision) -> Decision:
        """Keeps a decision and returns it, or the one that another thread or process has kept meanwhile."""
        with self._lock:
            found = self._find(key, tuple(names))
            if found is None:
                found = self._known[key, tuple(names)] = self._write(key, tuple(names), decision)
            return found

    def _find(self, key: str, names: tuple[str, ...]) -> Decision | None:
        if (key, names) not in self._known:
            found = self._read(key, names)
            if found is None:
                return None
            self._known[key, names] = found
        return self._known[key, names]

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"tuned_{key}.json"

    def _read(self, key: str, names: tuple[str, ...]) -> Decision | None:
        if self._folder is None:
            return None
        try:
            content = json.loads(self._path(key).read_bytes())
            chosen, seconds = content["chosen"], tuple(content["seconds"])
            valid = content["names"] == list(names) and type(chosen) is int and 0 <= chosen < len(names)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        valid = valid and len(seconds) == len(names) and all(_is_time(value) for value in seconds)
        return Decision(chosen, seconds) if valid else None

    def _write(self, key: str, names: tuple[str, ...], decision: Decision) -> Decision:
        """Best effort. The file appears at once and whole; where a valid one has appeared before, that one is taken."""
        if self._folder is None:
            return decision
        content = {"names": names, "chosen": decision.chosen, "seconds": decision.seconds}
        try:
            handle, temporary = tempfile.mkstemp(dir=self._folder)
            try:
                with os.fdopen(handle, "w") as file:
                    json.dump(content, file)
                return self._publish(Path(temporary), key, names) or decision
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            log.warning("the choice of kernels could not be written to the cache: %s", error)
            return decision

    def _publish(self, temporary: Path, key: str, names: tuple[str, ...]) -> Decision | None:
        """Gives the file its name, unless there is a valid one: then that is returned."""
        try:
            os.link(temporary, self._path(key))
            return None
        except OSError:
            # There is one, or the file system has no links.
            found = self._read(key, names)
            if found is None:
                os.replace(temporary, self._path(key))
            return found


def _is_time(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isfinite(value) and value > 0)


@cache
def decisions() -> Decisions:
    """Those of this machine, for this process."""
    return Decisions(cache_folder())
