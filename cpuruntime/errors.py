"""Every exception the package raises on purpose.

All derive from `Error`, which is a RuntimeError because that is what code written for OpenVINO catches; each one is
also the built-in exception it resembles.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from difflib import get_close_matches

MESSAGE = 400
"""Characters to show of a message from elsewhere, which may hold any names of a model."""
_LONGEST = 80
_MOST = 20


class Error(RuntimeError):
    """Base of all errors raised by cpuruntime. Its text is one line that any terminal can show.

    `elsewhere` tells whether what failed on one device may succeed on another.
    """

    elsewhere = False

    def __str__(self) -> str:
        return escaped(super().__str__())


class InvalidArgumentError(Error, ValueError):
    """The caller's value breaks a rule."""


class WrongTypeError(InvalidArgumentError, TypeError):
    """The caller's object is of a kind that is not taken."""


class WrongIndexError(InvalidArgumentError, IndexError):
    """The caller's index is beyond what there is."""


class UnsupportedError(Error, NotImplementedError):
    """The request is legal and not implemented here."""

    elsewhere = True


class DeviceUnavailableError(Error):
    """The device exists in principle and cannot be used on this machine; the message says why."""

    elsewhere = True


class ModelError(Error, ValueError):
    """The model file or graph is wrong."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """There is no model file at the given path."""


class BusyError(Error):
    """The infer request is running; wait for it before touching it."""


class CancelledError(Error):
    """The inference was cancelled before it finished."""


class DeadlineExceededError(Error, TimeoutError):
    """The inference's deadline passed before it was finished."""


class OverloadedError(Error):
    """The inference was refused: among those that run and wait it would miss the latency target."""


class OutOfMemoryError(Error, MemoryError):
    """The machine has not the memory that a model or tensor takes."""

    elsewhere = True


class InternalError(Error, AssertionError):
    """A defect of cpuruntime itself."""

    elsewhere = True


def runs_elsewhere(error: BaseException | None) -> bool:
    """Whether an inference that ended with this error on one device may be run again on another."""
    return error.elsewhere if isinstance(error, Error) else isinstance(error, Exception)


def detached(error: BaseException) -> BaseException:
    """A copy of an error, to raise where others keep the error itself. The copy takes the traceback with it, since that
    holds the frames of all callers. The error where it has no copy."""
    try:
        found = copy(error)
    except Exception:  # whatever the constructor of another package's error demands
        return error
    found.__cause__, found.__suppress_context__ = error.__cause__, True
    found.__traceback__, error.__traceback__ = error.__traceback__, None
    return found


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence that suggests the nearest of `names`, with a leading space; empty when none is close."""
    by_fold = {n.casefold(): n for n in names if len(n) <= _LONGEST}
    close = get_close_matches(name.casefold(), by_fold, n=1, cutoff=0.6) if len(name) <= _LONGEST else ()
    return f" Did you mean '{printable(by_fold[close[0]])}'?" if close else ""


def escaped(text: str) -> str:
    """The text on one line: control characters, line ends and marks of direction are written as in Python's source."""
    return text if text.isprintable() else repr(text)[1:-1]


def printable(text: str, longest: int = _LONGEST) -> str:
    """A name or message from a model as people may see it: escaped, and cut in the middle to `longest` characters."""
    text = escaped(text if len(text) <= longest else f"{text[:longest]}{text[-longest:]}")
    return text if len(text) <= longest else f"{text[: longest // 2 - 1]}...{text[2 - longest + longest // 2 :]}"


def listed(names: Iterable[str]) -> str:
    """Names from a model in quotes, the first 20 of them."""
    every = list(names)
    shown = ", ".join(f"'{printable(name)}'" for name in every[:_MOST])
    return shown + (f" and {len(every) - _MOST} more" if len(every) > _MOST else "")
