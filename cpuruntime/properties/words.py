"""Enumerations of properties' values."""

from __future__ import annotations

import enum
from typing import Any


class Word(str, enum.Enum):
    """Base of the enumerations: a member is declared as text and number, equals its text, and is written as OpenVINO's.

    `PerformanceMode.LATENCY == "LATENCY"`, `int(PerformanceMode.LATENCY) == 1`, `str()` is "PerformanceMode.LATENCY".
    """

    number: int

    def __new__(cls, text: str, number: int) -> Word:
        member = str.__new__(cls, text)
        member._value_ = text
        member.number = number
        return member

    def __int__(self) -> int:
        return self.number

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __format__(self, specification: str) -> str:
        return format(str(self), specification)

    def __repr__(self) -> str:
        return f"<{self}: {self.number}>"


class _Entries:
    """The members of an enumeration by name, other names of a member included, each with None for its doc."""

    def __get__(self, member: Any, enumeration: type[Word]) -> dict[str, tuple[Word, None]]:
        return {name: (found, None) for name, found in enumeration.__members__.items()}


setattr(Word, "__entries", _Entries())  # so that Python does not mangle the name, which OpenVINO's enumerations have
