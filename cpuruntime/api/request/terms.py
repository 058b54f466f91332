"""Priority, deadline and timeout of an inference, as users state them."""

from __future__ import annotations

import math
from time import perf_counter_ns
from typing import Any

from cpuruntime.devices.interface import Terms
from cpuruntime.errors import InvalidArgumentError, WrongTypeError, nearest
from cpuruntime.properties.declaration import Choice
from cpuruntime.properties.hint import Priority

_PRIORITIES = Choice(Priority)
_LONGEST = 1e12  # milliseconds; longer ones would overflow


def parse_terms(priority: Any, deadline_ms: Any) -> Terms:
    """The terms of an inference that is started now.

    Args:
        priority: a Priority or its name, None for MEDIUM.
        deadline_ms: within how many milliseconds from now it has to be over; None for no deadline.

    Raises:
        InvalidArgumentError: a value breaks its rule.
    """
    return Terms(Priority.MEDIUM if priority is None else _priority(priority), _deadline(deadline_ms))


def _priority(value: Any) -> Priority:
    try:
        return Priority(_PRIORITIES.parse(value))
    except ValueError:
        hint = nearest(value, _PRIORITIES.names) if isinstance(value, str) else ""
        raise InvalidArgumentError(f"priority: {value!r} is not {_PRIORITIES.rule}.{hint}") from None


def _deadline(milliseconds: Any) -> int:
    if milliseconds is None:
        return 0
    span = _number(milliseconds)
    if not 0 < span < math.inf:
        hint = " None means no deadline." if span == math.inf else ""
        raise InvalidArgumentError(f"deadline_ms: {milliseconds!r} is not a finite number of milliseconds > 0.{hint}")
    return perf_counter_ns() + round(min(span, _LONGEST) * 1e6)


def parse_timeout(milliseconds: Any) -> float:
    """A timeout in seconds.

    Args:
        milliseconds: how long to wait at most.

    Raises:
        InvalidArgumentError: it is not a finite number >= 0.
    """
    span = _number(milliseconds)
    if not 0 <= span < math.inf:
        hint = " wait() waits without a limit." if span == math.inf else ""
        kind = InvalidArgumentError if hasattr(milliseconds, "__float__") else WrongTypeError
        raise kind(f"timeout: {milliseconds!r} is not a finite number of milliseconds >= 0.{hint}")
    return min(span, _LONGEST) / 1000


def _number(value: Any) -> float:
    """The value as a float; nan where it is no number."""
    if isinstance(value, (bool, str, bytes)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        return math.nan
