"""The value in a (property, value) pair, as OpenVINO wraps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class OVAny:
    """A value of any type; equal to it, and indexed and measured as it is."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value.value if isinstance(value, OVAny) else value

    def get(self) -> Any:
        """The value."""
        return self.value

    def set(self, value: Any) -> None:
        """Hold another value."""
        self.value = value

    def astype(self, dtype: Callable[[Any], Any]) -> Any:
        """The value converted by a type, as `astype(int)`."""
        return dtype(self.value)

    def aslist(self, dtype: Callable[[Any], Any] | None = None) -> list[Any]:
        """The values of a list, each converted by a type where one is given."""
        return [one if dtype is None else dtype(one) for one in self.value]

    def __getitem__(self, key: Any) -> Any:
        return self.value[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.value[key] = value

    def __len__(self) -> int:
        return len(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, OVAny) else other))

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"<OVAny: {self.value!r}>"
