"""Decisions: which of some candidates was measured to be fastest, cached beside the compiled kernels.

A decision is a small JSON file named by a digest of all that it depends on and of the candidates' names. Without a
folder decisions live as long as the process, as do those that nothing was measured for.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from functools import cache

from cpuruntime.records import record
from cpuruntime.store import Folder, cache_folder


@record
class Decision:
    """The index of the chosen candidate, and the seconds of each, None for those that were not measured."""

    chosen: int
    seconds: tuple[float | None, ...]

    @property
    def is_measured(self) -> bool:
        """Whether the first candidate and another one were measured."""
        return self.seconds[0] is not None


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
            if file not in self._known or not self._known[file].is_measured:
                content = self._folder.read(file)
                if content is not None:
                    self._known[file] = _decision(content)
            return self._known.get(file)

    def publish(self, key: str, names: Sequence[str], decision: Decision) -> Decision:
        """Stores a decision and returns it, or a measured one that another thread or process has stored before.

        One that is not measured is for this process only, and replaces none.
        """
        file = _file(key, names)
        content = json.dumps([decision.chosen, decision.seconds]).encode()
        with self._lock:
            known = self._known.get(file)
            if known is None or (decision.is_measured and not known.is_measured):
                stored = _decision(self._folder.publish(file, content)) if decision.is_measured else decision
                self._known[file] = stored
            return self._known[file]


def _file(key: str, names: Sequence[str]) -> str:
    digest = hashlib.sha256(repr(("measured", key, *names)).encode()).hexdigest()
    return f"tuned_{digest[:40]}.json"


def _decision(content: bytes) -> Decision:
    chosen, seconds = json.loads(content)
    return Decision(chosen, tuple(seconds))


@cache
def decisions() -> Decisions:
    """Those of this machine, for this process."""
    return Decisions(cache_folder())
