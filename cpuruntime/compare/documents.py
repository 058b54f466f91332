"""A run for people and for CI: the table of a terminal, Markdown for a pull request's comment, JUnit XML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from cpuruntime.compare.record import METHOD_STORED, Run
from cpuruntime.compare.schedule import SlicePair
from cpuruntime.compare.verdicts import INCONCLUSIVE, SLOWER, OutputCheck, Row, undisturbed

HEADER = ("model", "mode", "metric", "base", "head", "ratio", "interval", "detects", "verdict")
WEAKER = (
    "The base is a stored run: times are in units of a calibration loop, which corrects for the clock rate only. "
    "This is weaker than measuring both sides in one job."
)


def cells(row: Row) -> tuple[str, ...]:
    """The row as text, in the order of HEADER."""
    figures = (quantity(row.metric, row.base), quantity(row.metric, row.head), f"{row.ratio:.3f}")
    if row.metric == "wheel":
        return (row.model, row.mode, row.metric, *figures, "-", "-", row.verdict)
    detects = f"{row.detectable - 1:.1%}" if math.isfinite(row.detectable) else "-"
    return (row.model, row.mode, row.metric, *figures, interval(row), detects, row.verdict)


def interval(row: Row) -> str:
    """The limits of the ratio."""
    return f"{row.low:.3f} .. {row.high:.3f}" if math.isfinite(row.high) else "unknown"


def quantity(metric: str, value: float) -> str:
    """Seconds or bytes with a unit."""
    if metric in ("memory", "wheel"):
        return f"{value / 2**20:.1f} MiB"
    scales = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
    scale, unit = next(((scale, unit) for scale, unit in scales if value >= scale), scales[-1])
    return f"{value / scale:.3g} {unit}"


def table(run: Run) -> Iterator[str]:
    """The lines that a terminal shows."""
    lines = [HEADER, *map(cells, run.rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        yield "  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip()
    yield from notes(run)


def notes(run: Run) -> Iterator[str]:
    """Sentences about wrong outputs, failures, disturbances and the method."""
    for check in run.checks:
        if not check.is_right:
            yield f"{check.model} {check.mode}: outputs differ: {difference(check)}."
    yield from (f"Failed: {line}" for line in run.failures)
    disturbed = sum(row.disturbed for row in run.rows if row.metric == "time")
    slices = sum(row.slices for row in run.rows if row.metric == "time")
    if disturbed:
        yield f"Disturbed pairs of slices: {disturbed} of {slices}; {_commonest(run)}."
        if any(pair.processor and not undisturbed(pair) for pair in _pairs(run)):
            yield "The sides of disturbed pairs are compared by processor time where one thread infers."
    if run.method == METHOD_STORED:
        yield WEAKER
    if any(row.verdict == INCONCLUSIVE and row.metric == "time" for row in run.rows):
        yield "Inconclusive: a longer run, or a quieter machine, can decide."


def difference(check: OutputCheck) -> str:
    """The difference and its limit."""
    return f"{check.compared} by {check.error:.2g} of the largest magnitude, allowed are {check.tolerance:g}"


def _commonest(run: Run) -> str:
    reasons = [pair.conditions.disturbance for pair in _pairs(run) if not undisturbed(pair)]
    return f"most often {max(reasons, key=reasons.count)}"


def _pairs(run: Run) -> list[SlicePair]:
    return [pair for case in run.cases for process in case.processes for pair in process.slices]


def heading(run: Run) -> str:
    """What was compared, where and when."""
    sides = ", ".join(f"{name} {about['label']}" for name, about in run.sides.items())
    machine = f"{run.machine['processor']}, {run.machine['processors']} processors"
    return f"{sides}; {machine}; {run.moment} UTC"


def summary(rows: Sequence[Row]) -> str:
    """The number of rows by verdict."""
    verdicts = [row.verdict for row in rows]
    return ", ".join(f"{verdicts.count(name)} {name}" for name in dict.fromkeys(sorted(verdicts))) or "nothing compared"


def markdown(run: Run) -> str:
    """A table; each ratio is head over base, so above 1 the head is slower or larger."""
    lines = [f"### cpuruntime compare: {summary(run.rows)}", "", escaped(heading(run)), ""]
    lines += [f"| {' | '.join(HEADER)} |", "|---|---|---|" + "---:|" * 5 + "---|"]
    for row in run.rows:
        texts = [escaped(text) for text in cells(row)]
        texts[-1] = f"**{texts[-1]}**" if row.verdict == SLOWER else texts[-1]
        lines.append(f"| {' | '.join(texts)} |")
    lines += ["", f"Ratios are head over base, intervals at {run.confidence:g} % confidence for all models together."]
    lines += ["", *(f"- {escaped(note)}" for note in notes(run))]
    return "\n".join(lines).rstrip() + "\n"


def escaped(text: str) -> str:
    """Text without the characters that Markdown and HTML read as something else."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("`", "&#96;"), ("*", "&#42;")):
        text = text.replace(character, entity)
    return text


def junit(run: Run) -> str:
    """A test case for each row, check and failure: slower is a failure, inconclusive skipped, a dead side an error."""
    suite = ElementTree.Element("testsuite", name="cpuruntime compare", timestamp=run.date[:19])
    counts = {"failure": 0, "skipped": 0, "error": 0}

    def add(group: str, name: str, kind: str, message: str) -> None:
        case = ElementTree.SubElement(suite, "testcase", classname=group, name=name)
        if kind:
            ElementTree.SubElement(case, kind, message=message)
            counts[kind] += 1

    for row in run.rows:
        kind = {SLOWER: "failure", INCONCLUSIVE: "skipped"}.get(row.verdict, "")
        message = f"{row.verdict}: ratio {row.ratio:.3f}, interval {interval(row)}"
        add(f"{row.model} {row.mode}".strip(), row.metric, kind, message)
    for check in run.checks:
        name = f"outputs of {check.compared}"
        add(f"{check.model} {check.mode}", name, "" if check.is_right else "failure", difference(check))
    for case in run.cases:
        if case.failure:
            add(f"{case.model.name} {case.mode}", "runs", "error", case.failure)
    suite.set("tests", str(len(suite)))
    for name, attribute in (("failure", "failures"), ("skipped", "skipped"), ("error", "errors")):
        suite.set(attribute, str(counts[name]))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
