"""What OpenVINO's models have besides their graph: notes, and variables, of which there are none."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.properties import OVAny


class RTMap(dict[str, Any]):
    """Notes by name, each wrapped in an OVAny when it is set."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value if isinstance(value, OVAny) else OVAny(value))

    def update(self, *others: Any, **named: Any) -> None:
        for name, value in dict(*others, **named).items():
            self[name] = value


class Notes:
    """Notes by path: a name, or a list of names where notes hold notes."""

    __slots__ = ("_rt_info",)

    def __init__(self) -> None:
        self._rt_info: dict[str, Any] = {}

    @property
    def rt_info(self) -> dict[str, Any]:
        """All notes, which may be changed."""
        return self._rt_info

    def get_rt_info(self, path: str | Sequence[str] | None = None) -> Any:
        """The note at a path, in an OVAny; without one all notes. InvalidArgumentError where there is none."""
        if path is None:
            return self._rt_info
        found: Any = self._rt_info
        for name in _names(path):
            found = found.value if isinstance(found, OVAny) else found
            if not isinstance(found, dict) or name not in found:
                raise InvalidArgumentError(f"The model has no rt_info {printable(str(path))}.")
            found = found[name]
        return OVAny(found)

    def has_rt_info(self, path: str | Sequence[str]) -> bool:
        """Whether there is a note at a path."""
        try:
            self.get_rt_info(path)
        except InvalidArgumentError:
            return False
        return True

    def set_rt_info(self, value: Any, path: str | Sequence[str]) -> None:
        """Set the note at a path."""
        notes, names = self._rt_info, _names(path)
        for name in names[:-1]:
            inner = notes.setdefault(name, {})
            notes = inner.value if isinstance(inner, OVAny) else inner
        notes[names[-1]] = value if isinstance(value, dict) else OVAny(value)

    def keep_notes(self, other: Notes) -> None:
        """Have copies of another's notes."""
        self._rt_info = deepcopy(other._rt_info)

    def get_variables(self) -> list[Any]:
        """The variables: none, since ONNX has none."""
        return []

    def get_variable_by_id(self, variable_id: str) -> None:
        """None: there are no variables."""

    def get_sinks(self) -> list[Any]:
        """The nodes that write to variables: none."""
        return []

    variables, sinks = property(get_variables), property(get_sinks)


def _names(path: str | Sequence[str]) -> list[str]:
    return [path] if isinstance(path, str) else list(path)
