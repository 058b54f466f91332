"""The tables of a run of the suite."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from suite.engines import OUTCOMES, PASSED
from suite.pool import Found

Cases = Mapping[str, Found]
NAMES = {"cpuruntime": "cpuruntime", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}


def document(cases: Cases, heading: str) -> str:
    """The page: the summary, and for cpuruntime the reasons for what it does not do by kernels."""
    return "\n".join(["# Coverage of ONNX's backend test suite", "", heading, "", *_sections(cases)]) + "\n"


def _sections(cases: Cases) -> Iterator[str]:
    yield from summary(cases)
    engines = _engines(cases)
    for other in engines:
        if other != "cpuruntime" and "cpuruntime" in engines:
            lost = {name: found for name, found in cases.items() if passed(found, other)}
            lost = {name: found for name, found in lost.items() if not passed(found, "cpuruntime")}
            yield from ("", f"## {NAMES[other]} passes, cpuruntime does not: {len(lost)}", "")
            yield from table(["reason", "cases", "operators"], _reasons(lost, lambda found: _reason(found)))
    if "cpuruntime" in engines:
        yield from ("", "## Operators that fall back", "")
        slow = {name: found for name, found in cases.items() if found.outcomes["cpuruntime"][0] == "fallback"}
        yield from table(["operators", "cases", "in cases of"], _reasons(slow, lambda f: f.outcomes["cpuruntime"][1]))
        for outcome in ("wrong", "internal error", "foreign error", "crash", "hang"):
            rows = [(name, *found.outcomes["cpuruntime"]) for name, found in sorted(cases.items())]
            found = [[name, _cell(reason)] for name, kind, reason in rows if kind == outcome]
            if found:
                yield from ("", f"## {outcome}", "", *table(["case", "reason"], found))


def summary(cases: Cases) -> Iterator[str]:
    """A row for each kind of case, and what the engines have in common."""
    engines = _engines(cases)
    own = [outcome for outcome in OUTCOMES if outcome != "pass"] if "cpuruntime" in engines else []
    others = [name for name in engines if name != "cpuruntime"]
    rows = []
    for kind in [*dict.fromkeys(found.kind for found in cases.values()), "all"]:
        of_kind = [found for found in cases.values() if kind in (found.kind, "all")]
        counts = Counter(found.outcomes["cpuruntime"][0] for found in of_kind if own)
        cells = [counts[outcome] for outcome in own] + [sum(passed(f, other) for f in of_kind) for other in others]
        rows.append([kind, str(len(of_kind)), *map(str, cells)])
    yield from table(["kind", "all", *own, *(f"{NAMES[other]} passes" for other in others)], rows)
    yield ""
    for name in engines:
        words = Counter(found.outcomes[name][0] for found in cases.values())
        yield f"- {NAMES[name]}: {', '.join(f'{word} {words[word]}' for word in OUTCOMES if words[word])}."
    for other in others if own else []:
        pairs = Counter((passed(found, "cpuruntime"), passed(found, other)) for found in cases.values())
        counts = [f"both {pairs[True, True]}, only cpuruntime {pairs[True, False]}"]
        counts += [f"only {NAMES[other]} {pairs[False, True]}, neither {pairs[False, False]}"]
        yield f"- Beside {NAMES[other]}: {', '.join(counts)}."


def passed(found: Found, engine: str) -> bool:
    """True when the engine gave the right outputs, in whichever way."""
    return found.outcomes[engine][0] in PASSED


def general(reason: str) -> str:
    """A reason without what is peculiar to the case: names, numbers, and the operator that it begins with."""
    reason = re.sub(r"^[\w.:]+ '[^']*' \([^)]*\):? ", "", reason)
    reason = re.sub(r"'[^']*'", "'..'", reason)
    reason = re.split(r"; |\. | \(found by", reason)[0]
    return re.sub(r"-?\b\d[\d.e+-]*", "N", reason)[:140]


def _reason(found: Found) -> str:
    outcome, reason = found.outcomes["cpuruntime"]
    return f"{outcome}: {general(reason)}" if outcome in ("unsupported", "error") else outcome


def _reasons(cases: Cases, reason_of: Callable[[Found], str]) -> list[list[str]]:
    """Rows of a reason, the number of its cases, and their operators."""
    operators: dict[str, Counter[str]] = defaultdict(Counter)
    for found in cases.values():
        operators[reason_of(found)][found.operator] += 1
    rows = sorted(operators.items(), key=lambda row: (-row[1].total(), row[0]))
    return [
        [_cell(reason), str(counts.total()), ", ".join(f"{name} {count}" for name, count in counts.most_common())]
        for reason, counts in rows
    ]


def _engines(cases: Cases) -> list[str]:
    return list(next(iter(cases.values())).outcomes) if cases else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
