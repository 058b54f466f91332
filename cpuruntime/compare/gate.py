"""Carries out a comparison from the suite to the run, and writes its files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cpuruntime.compare import documents
from cpuruntime.compare.installations import Installation, installation
from cpuruntime.compare.page import page
from cpuruntime.compare.process import SideProcess
from cpuruntime.compare.record import METHOD_PAIRED, METHOD_STORED, Run, machine, read_run, written
from cpuruntime.compare.schedule import Case, Schedule
from cpuruntime.compare.suite import LIGHT, Suite
from cpuruntime.compare.verdicts import BASE, HEAD, checks, paired_rows, stored_rows
from cpuruntime.compare.watch import Watch
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.frontend.light_models import light_model

WRITERS: dict[str, Callable[[Run], str]] = {
    "json": written, "junit": documents.junit, "markdown": documents.markdown, "html": page
}  # fmt: skip


def check_files(files: Mapping[str, Path]) -> None:
    """Raises InvalidArgumentError where a file could not be written: before anything is measured."""
    for option, path in files.items():
        folder = path.absolute().parent
        if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
            raise InvalidArgumentError(f"--{option} {path}: it must be a file that can be written.")


def write(run: Run, files: Mapping[str, Path]) -> None:
    """Writes the files, by the names in WRITERS."""
    for name, path in files.items():
        path.write_text(WRITERS[name](run))


def compare(
    suite: Suite,
    sides: Mapping[str, tuple[str | None, Mapping[str, Any]]],
    against: Path | None,
    report: Callable[[str], None],
) -> Run:
    """Measures and judges.

    Args:
        sides: of "base" and "head", or of "head" only, the installation's name as `installation` takes it and its
            properties.
        against: the file of the run that the head is compared with when there is no base.

    Raises:
        InvalidArgumentError: an installation cannot be made ready, or `against` cannot be read.
        SideError: the package of a side cannot be imported.
    """
    stored = read_run(against) if against else None
    with tempfile.TemporaryDirectory(prefix="cpuruntime-compare-") as name:
        folder = Path(name)
        ready = {}
        for side, (text, config) in sides.items():
            (folder / side).mkdir()
            ready[side] = replace(installation(text, folder / side, config), bytecode=str(folder / "bytecode"))
        abouts = {side: _about(side, each) for side, each in ready.items()}
        cases = prepared(suite, folder)
        schedule = Schedule(suite, ready, Watch(), report)
        for case in cases:
            schedule.rehearse(case, folder)
        schedule.run(cases)
        found = checks(cases)
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    packages = {side: about["package_bytes"] for side, about in abouts.items()}
    if stored is None:
        rows = paired_rows(suite, cases, packages)
        return Run(date, METHOD_PAIRED, machine(), abouts, suite.confidence, cases, rows, found)
    abouts = {BASE: {**stored.sides[HEAD], "label": f"{stored.sides[HEAD]['label']} of {stored.date[:10]}"}, **abouts}
    rows = stored_rows(suite, cases, stored.cases, {BASE: abouts[BASE]["package_bytes"], **packages})
    return Run(date, METHOD_STORED, machine(), abouts, suite.confidence, cases, rows, found)


def prepared(suite: Suite, folder: Path) -> Sequence[Case]:
    """The cases of a suite; light models are written to `folder`."""
    cases = []
    for number, model in enumerate(suite.models):
        file = model.path
        if file.startswith(LIGHT):
            file = str(folder / f"{number}.onnx")
            Path(file).write_bytes(light_model(model.path.removeprefix(LIGHT)).SerializeToString())
        cases += [Case(model, mode, file) for mode in model.modes]
    return cases


def _about(name: str, side: Installation) -> dict[str, Any]:
    with SideProcess(name, side) as process:
        found = process.ask("hello")
    label = f"{side.label}, version {found['version']}" if side.is_versioned else side.label
    config = "".join(f", {name}={value}" for name, value in side.config.items())
    return {**found, "label": label + config, "config": dict(side.config)}
