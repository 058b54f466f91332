"""Decisions: which of some candidates was measured to be fastest, cached beside the compiled kernels.

A decision is a small JSON file named by a digest of all that it depends on and of the candidates' names. Without a
folder decisions live as long as the process.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from cpuruntime.store import Folder, cache_folder


@dataclass(frozen=True)
class Decision:
    """The index of the chosen candidate, and the seconds of each, None for those that were not measured."""

    chosen: int
    seconds: tuple[float | None, ...]


class Decisions:
    """What was decided, by key; thread-safe.

    Args:
        folder: where other processes find the decisions.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._known: dict[str, Decision] = {}
        self._lock = threading.Lock()

    def find(self, key: str, names: Sequence[str]) -> Decision | None:
        """What was decided between the candidates of these names."""
        file = _file(key, names)
        with self._lock:
            if file not in self._known:
                content = self._folder.read(file)
                if content is None:
                    return None
                self._known[file] = _decision(content)
            return self._known[file]

    def publish(self, key: str, names: Sequence[str], decision: Decision) -> Decision:
        """Stores a decision and returns it, or the one that another thread or process has stored before."""
        file = _file(key, names)
        content = json.dumps([decision.chosen, decision.seconds]).encode()
        with self._lock:
            if file not in self._known:
                self._known[file] = _decision(self._folder.publish(file, content))
            return self._known[file]


def _file(key: str, names: Sequence[str]) -> str:
    return f"tuned_{hashlib.sha256(repr((key, *names)).encode()).hexdigest()[:40]}.json"


def _decision(content: bytes) -> Decision:
    chosen, seconds = json.loads(content)
    return Decision(chosen, tuple(seconds))


@cache
def decisions() -> Decisions:
    """Those of this machine, for this process."""
    return Decisions(cache_folder())
