"""The times of nodes: their means over requests, their order, tables of them, and the graph that was executed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import cpuruntime as ov
from cpuruntime.errors import printable

TIMES = ("real_time", "cpu_time")


def mean_profile(profiles: Sequence[Sequence[ov.ProfilingInfo]]) -> list[ov.ProfilingInfo]:
    """Each node with its mean times over the requests, in the order in which nodes run."""
    found: dict[tuple[str, str, str], list[ov.ProfilingInfo]] = {}
    for profile in profiles:
        for one in profile:
            found.setdefault((one.node_name, one.node_type, one.exec_type), []).append(one)
    means = []
    for (name, kind, kernel), entries in found.items():
        ran = [one for one in entries if one.status == ov.ProfilingInfo.Status.EXECUTED] or entries
        real, cpu = (sum((getattr(one, name) for one in ran), timedelta()) / len(ran) for name in TIMES)
        means.append(ov.ProfilingInfo(ran[0].status, real, cpu, name, kind, kernel))
    return means


def ordered(rows: list[ov.ProfilingInfo], order: str) -> list[ov.ProfilingInfo]:
    """The rows of a profile in an order of -pcsort."""
    if order == "simple_sort":
        rows = [row for row in rows if row.status == ov.ProfilingInfo.Status.EXECUTED]
    return rows if order == "no_sort" else sorted(rows, key=lambda row: -row.real_time)


def profile_table(rows: Sequence[ov.ProfilingInfo]) -> list[str]:
    """The times of nodes as aligned lines, with a line of the total."""
    whole = sum((row.real_time for row in rows), timedelta())
    cells = [("node", "type", "kernel", "time (ms)", "share")]
    for row in rows:
        names = printable(row.node_name), printable(row.node_type), row.exec_type
        share = row.real_time / whole if whole else 0.0
        cells.append((*names, f"{row.real_time / timedelta(milliseconds=1):.3f}", f"{share:.2%}"))
    cells += [("Total", "", "", f"{whole / timedelta(milliseconds=1):.3f}", f"{1:.2%}")]
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    aligned = [(*map(str.ljust, row[:3], widths[:3]), *map(str.rjust, row[3:], widths[3:])) for row in cells]
    return ["  ".join(row) for row in aligned]


def executed_graph(compiled: ov.CompiledModel, profile: Sequence[ov.ProfilingInfo]) -> ov.Model:
    """The executed graph with the times of a profile."""
    model = compiled.get_runtime_model()
    ran = [one for one in profile if one.status == ov.ProfilingInfo.Status.EXECUTED]
    for node in model.get_ordered_ops():
        names = f"{node.rt_info.get('originalLayersNames', ov.OVAny('')).value},"
        for one in ran:
            if names.startswith(f"{one.node_name},"):  # a step is called by the first node it stands for
                node.rt_info["execTimeMcs"] = str(round(one.real_time.total_seconds() * 1e6))
    return model
