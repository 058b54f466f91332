"""A run as a JSON file: what was compared, on which machine, all measurements and the verdicts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cpuruntime.compare.schedule import Case, ProcessPair, SlicePair
from cpuruntime.compare.suite import SuiteModel
from cpuruntime.compare.verdicts import OutputCheck, Row
from cpuruntime.compare.watch import Conditions
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.host.sysfs import processor_name

SCHEMA = 2
METHOD_STORED = "stored"
METHOD_PAIRED = "paired"


@dataclass(frozen=True)
class Run:
    """A run. `sides` has label, version, python and package_bytes by name; `date` is ISO 8601 in UTC."""

    date: str
    method: str
    machine: Mapping[str, Any]
    sides: Mapping[str, Mapping[str, Any]]
    confidence: float
    cases: Sequence[Case]
    rows: Sequence[Row]
    checks: Sequence[OutputCheck]

    @property
    def moment(self) -> str:
        """The date and the minute."""
        return self.date[:16].replace("T", " ")

    @property
    def failures(self) -> list[str]:
        """A line for each model and mode that a side failed on."""
        return [f"{case.model.name} {case.mode}: {case.failure}" for case in self.cases if case.failure]


def machine() -> dict[str, Any]:
    """The processor and what this process may use of it."""
    return {"processor": processor_name(), "processors": len(os.sched_getaffinity(0))}


def written(run: Run) -> str:
    """The text of the file. What is infinite or unknown is null."""
    cases = [
        {
            "model": case.model.name,
            "mode": case.mode,
            "failure": case.failure,
            "slice_seconds": case.slice_seconds,
            "processes": [asdict(pair) for pair in case.processes],
        }
        for case in run.cases
    ]
    head = {"schema": SCHEMA, "date": run.date, "method": run.method, "machine": run.machine, "sides": run.sides}
    rows = [asdict(row) for row in run.rows]
    checks = [{**asdict(check), "is_right": check.is_right} for check in run.checks]
    whole = {**head, "confidence": run.confidence, "rows": rows, "checks": checks, "cases": cases}
    return json.dumps(_finite(whole), indent=1, allow_nan=False) + "\n"


def read_run(path: Path) -> Run:
    """The run in a file, with its measurements, without verdicts. Raises InvalidArgumentError where it is no such file.

    Cases have neither model file nor configuration.
    """
    try:
        found = json.loads(path.read_text())
        if found["schema"] != SCHEMA:
            raise InvalidArgumentError(f"{path} is of format {found['schema']}; this version reads format {SCHEMA}.")
        cases = [_case(entry) for entry in found["cases"]]
        text = {name: str(found[name]) for name in ("date", "method")}
        return Run(**text, machine=dict(found["machine"]), sides=dict(found["sides"]),
                   confidence=float(found["confidence"]), cases=cases, rows=[], checks=[])  # fmt: skip
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"{path} is not text.") from None
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise InvalidArgumentError(f"{path} is no run that 'cpuruntime compare' wrote: {reason}.") from None


def _case(entry: Mapping[str, Any]) -> Case:
    model = SuiteModel(str(entry["model"]), "", (), {})
    processes = [
        ProcessPair(dict(pair["starts"]), [_slices(values) for values in pair["slices"]]) for pair in entry["processes"]
    ]
    return Case(model, str(entry["mode"]), "", float(entry["slice_seconds"]), processes, failure=str(entry["failure"]))


def _slices(entry: Mapping[str, Any]) -> SlicePair:
    return SlicePair(dict(entry["values"]), dict(entry["processor"]), Conditions(**entry["conditions"]))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and value - value != 0 else value
