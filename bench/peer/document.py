"""The report: a folder with peers.md, tables for each class of machine and mode, and a plot of the ratios by class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from peer.chart import draw
from peer.compare import Plan
from peer.mode import Mode
from peer.report import Mean, Result, figure, geometric_means, remarks

CLASSES = {"avx512": "AVX-512", "avx2": "AVX2", "generic": "SSE2", "neon": "NEON"}
"""The title of each class of machines' section, by its instruction set."""
PREFACE = """# cpuruntime against its peers

The ratio is to the faster of the other engines, above 1 where cpuruntime is faster: the median over the rounds, and the
extremes. `latencyN` is one inference at a time with N threads, `throughput` as many at a time as the engine calls
optimal. Each class of machines has a section, written by `bench/peers.py --report` on one of them."""
NAMES = {"cpuruntime": "cpuruntime", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}


def write(folder: Path, plan: Plan, about: dict[str, Any], peak: float, results: Sequence[Result]) -> None:
    """Writes peers.md and peers-CLASS.svg; the sections of peers.md about other classes of machines stay.

    `about` is what `machine` found, `peak` the core's multiply-adds, in operations a second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    heading, title = _heading(plan, about), CLASSES[about["isa"]]
    sections = _sections(folder / "peers.md") | {title: "\n".join(_lines(heading, plan, peak, results)).strip()}
    known = sorted(sections, key=list(CLASSES.values()).index)
    texts = [PREFACE, *(f"## {name}\n\n{sections[name]}" for name in known)]
    (folder / "peers.md").write_text("\n\n".join(texts) + "\n")
    draw(folder / f"peers-{about['isa']}.svg", results, heading)


def _sections(path: Path) -> dict[str, str]:
    """The text of each class of machine in an earlier report."""
    if not path.exists():
        return {}
    parts = re.split(r"^## (.*)\n", path.read_text(), flags=re.MULTILINE)[1:]
    return {title: text.strip() for title, text in zip(parts[::2], parts[1::2]) if title in CLASSES.values()}


def _heading(plan: Plan, about: dict[str, Any]) -> list[str]:
    """What the figures depend on, in sentences."""
    precision = "float32" if plan.precision == "f32" else plan.precision
    versions = ", ".join(f"{NAMES[name]} {about['versions'][name]}" for name in plan.engines)
    return [
        f"{about['processor']}, {len(about['allowed_cores'])} cores, {about['date'][:10]}; {versions}",
        f"{precision}, each engine {plan.seconds:g} s a model and mode in {plan.rounds} alternating slices; "
        f"Python {about['python']}, Numba {about['versions']['numba']}",
    ]


def _lines(heading: Sequence[str], plan: Plan, peak: float, results: Sequence[Result]) -> Iterator[str]:
    for line in heading:
        yield from ("", f"{line}.")
    yield from ("", "### Geometric means", "")
    yield from _table(["models", "mode", "number", "ratio"], [_mean_row(mean) for mean in geometric_means(results)])
    for mode in dict.fromkeys(result.mode for result in results):
        yield from ("", f"### {mode.name}", "")
        yield from _mode_table(mode, plan, peak, [result for result in results if result.mode == mode])
    notes = [line for result in results for line in remarks(result)]
    if notes:
        yield from ("", "### Remarks", "", *(f"- {line}" for line in notes))
    yield from ("", "### Settings", "", *(f"- {line}" for line in _settings(results)))


def _settings(results: Sequence[Result]) -> list[str]:
    """What each engine was given and chose in each mode; the models do not matter."""
    lines: dict[str, None] = {}
    for result in results:
        for name, engine in result.engines.items():
            settings = ", ".join(f"{key} {value}" for key, value in engine.settings.items())
            lines[f"{result.mode.name}, {NAMES[name]}: {settings}"] = None
    return sorted(lines)


def _mean_row(mean: Mean) -> list[str]:
    return [mean.group, mean.mode, str(mean.models), f"{mean.faster:.3f}"]


def _mode_table(mode: Mode, plan: Plan, peak: float, results: Sequence[Result]) -> Iterator[str]:
    """A row for each model; for one thread also what cpuruntime achieves against the core's peak."""
    shares = mode.threads == 1 and peak > 0
    header = ["model", *(NAMES[name] for name in plan.engines), "ratio", "extremes"]
    rows = []
    for result in results:
        row = [result.model, *(figure(result, name) for name in plan.engines), "-", "-"]
        if result.faster:
            ratio = result.ratios[result.faster]
            row[-2:] = [f"{ratio.median:.3f}", f"{ratio.low:.2f} .. {ratio.high:.2f}"]
        rows.append([*row, *_roof(result, peak)] if shares else row)
    yield from _table([*header, "GFLOP/s", "of peak"] if shares else header, rows)
    if shares:
        yield ""
        yield (
            "GFLOP/s are cpuruntime's, by the operations of convolutions, products and recurrent layers as these are "
            f"usually counted. The peak is that of multiply-adds on one core, {peak / 1e9:.0f}; Winograd's method "
            "needs fewer operations than are counted, so a share may exceed 100%."
        )


def _roof(result: Result, peak: float) -> list[str]:
    """Operations a second, and their share of the peak; nothing for models that have hardly any."""
    engine = next(iter(result.engines.values()))
    if engine.failure or not engine.flops:
        return ["-", "-"]
    achieved = engine.flops / (engine.median * 1e-3)
    return [f"{achieved / 1e9:.0f}", f"{achieved / peak:.0%}"]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table, its first column to the left."""
    yield f"| {' | '.join(header)} |"
    yield f"|---|{'---:|' * (len(header) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
