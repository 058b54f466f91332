"""`cpuruntime plan --cluster`: how many nodes a load needs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cpuruntime as ov
from cpuruntime.devices.ray.sizing import Size, estimated_service, size_of
from cpuruntime.errors import InvalidArgumentError

TRIP_MS = 1.7
"""The way of a small request to a replica and back, as measured on one machine."""

_KEYS = {"topology", "request_ms", "trip_ms"}


def of_file(
    path: Path, options: argparse.Namespace, model: ov.Model, planned: Callable[[Path], ov.StreamPlan]
) -> Size:
    """The cluster that holds -rate and --latency-target, of nodes as the file says; `planned` plans a node's streams.

    Raises InvalidArgumentError for a wrong file, or where no cluster does.
    """
    if options.rate is None or options.latency_target is None:
        raise InvalidArgumentError("--cluster needs -rate, requests a second, and --latency-target, milliseconds.")
    facts = _read(path)
    plan = planned(path.parent / facts["topology"])
    measured = facts.get("request_ms")
    service = estimated_service(model.graph, plan.threads) if measured is None else int(measured * 1e6)
    trip = int(facts.get("trip_ms", TRIP_MS) * 1e6)
    return size_of(options.rate, int(options.latency_target * 1e6), max(1, len(plan.streams)), service, trip)


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        raise InvalidArgumentError(f"There is no cluster file {path}.") from None
    except ValueError as error:
        raise InvalidArgumentError(f"{path} is no JSON: {error}.") from None
    if not isinstance(facts, dict) or not {"topology"} <= facts.keys() <= _KEYS:
        raise InvalidArgumentError(f"{path}: it must have topology, and may have {', '.join(sorted(_KEYS))}.")
    for name in ("request_ms", "trip_ms"):
        if name in facts and not (isinstance(facts[name], int | float) and 0 < facts[name] < 1e6):
            raise InvalidArgumentError(f"{path}: {name} is {facts[name]!r:.60}; it must be a number of milliseconds.")
    return facts
