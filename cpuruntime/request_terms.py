"""Priority and deadline of an inference, as users state them."""

from __future__ import annotations

import math
from time import perf_counter_ns
from typing import Any

from cpuruntime.devices.interface import TERMS, Terms
from cpuruntime.errors import InvalidArgumentError, nearest
from cpuruntime.properties.declaration import Choice
from cpuruntime.properties.hint import Priority

_PRIORITIES = Choice(Priority)


def parse_terms(priority: Any, deadline_ms: Any) -> Terms:
    """The terms of an inference that is started now.

    Args:
        priority: a Priority or its name, None for MEDIUM.
        deadline_ms: within how many milliseconds from now it has to be over; None for no matter when.

    Raises:
        InvalidArgumentError: a value breaks its rule.
    """
    if priority is None and deadline_ms is None:
        return TERMS
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
    try:
        span = -1.0 if isinstance(milliseconds, (bool, str)) else float(milliseconds)
    except (TypeError, ValueError):
        span = -1.0
    if not 0 < span < math.inf:
        raise InvalidArgumentError(f"deadline_ms: {milliseconds!r} is not a number of milliseconds > 0.")
    return perf_counter_ns() + round(min(span, 1e12) * 1e6)
