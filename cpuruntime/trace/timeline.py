"""The timeline file: JSON in the trace event format, which Perfetto's page and trace processor read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cpuruntime.trace.events import Event, Inference, Rings, SharedTimes

MOST_STEPS = 300_000
"""Steps in a file at most, of the latest inferences; those before are drawn without steps."""
OWN = 1
"""The process of threads: phases of compiling, callbacks, devices, the cache. Those of models follow."""


def lines(rings: Rings) -> Iterator[str]:
    """The file of what was recorded."""
    inferences = sorted(rings.inferences, key=lambda one: one.started)
    last = max((one.number for one in inferences), default=0)
    about = {
        "made by": "cpuruntime",
        "inferences": last,
        "inferences dropped": max(0, last - (rings.inferences.maxlen or 0)),
    }
    yield f'{{"displayTimeUnit": "ns", "otherData": {json.dumps(about)}, "traceEvents": [\n'
    yield json.dumps(_named("process_name", OWN, 0, "cpuruntime"))
    for event in _events(rings, inferences):
        yield ",\n" + json.dumps(event)
    yield "\n]}\n"


def _events(rings: Rings, inferences: list[Inference]) -> Iterator[dict[str, Any]]:
    tracks = _Tracks(rings.began)
    for event in sorted(rings.events, key=lambda one: (one.began, -one.duration)):
        yield from _other(tracks, event)
    for group, name in enumerate(rings.groups):
        yield _named("process_name", OWN + 1 + group, 0, name)
    called = {}
    for number, thread, began, ended in sorted(rings.callbacks, key=lambda one: one[2]):
        yield from tracks.thread(OWN, thread)
        name = f"callback of inference {number}"
        yield tracks.slice(OWN, thread, name, began, ended, {"inference": number})
        called[number] = thread, began
    budget = MOST_STEPS
    with_steps = set()
    for one in reversed(inferences):
        budget -= sum(len(times) for _, times in one.steps)
        if budget < 0:
            break
        with_steps.add(one.number)
    for one in inferences:
        yield from _inference(tracks, one, one.number in with_steps, called.get(one.number))
    for moment, times in rings.throttled:
        facts = {"name": "stops by the CPU quota", "args": {"so far": times}}
        yield {"ph": "C", "pid": OWN, "ts": tracks.at(moment), **facts}


def _other(tracks: _Tracks, event: Event) -> Iterator[dict[str, Any]]:
    yield from tracks.thread(OWN, event.thread)
    if event.duration < 0:
        place = {"pid": OWN, "tid": tracks.number(OWN, event.thread), "ts": tracks.at(event.began)}
        yield {"ph": "i", "s": "p", "name": event.name, **place, "args": event.facts}
    else:
        yield tracks.slice(OWN, event.thread, event.name, event.began, event.began + event.duration, event.facts)


def _inference(
    tracks: _Tracks, one: Inference, with_steps: bool, called: tuple[tuple[int, str], int] | None
) -> Iterator[dict[str, Any]]:
    """An inference with its phases in the track of its request, with its steps in that of its stream."""
    process, number = OWN + 1 + one.group, one.number
    taken = max(one.started, one.taken)
    ended = max(taken, one.ended)
    began = one.began if taken <= one.began <= ended else taken
    request = (one.request, f"request {one.request}")
    yield from tracks.thread(process, request)
    facts = {"inference": number, **({"error": one.error} if one.error else {})}
    yield tracks.slice(process, request, f"inference {number}", one.started, ended, facts)
    yield tracks.slice(process, request, "queued", one.started, taken, facts)
    yield tracks.slice(process, request, "bound", taken, began, facts)
    yield tracks.slice(process, request, "executed", began, ended, facts)
    stream = tracks.lane(process, one.stream or "device", began, ended)
    yield from tracks.thread(process, stream)
    yield tracks.slice(process, stream, f"inference {number}", began, ended, {**facts, "request": one.request})
    if with_steps:
        yield from _steps(tracks, process, stream, one, began, ended)
    flow = {"cat": "inference", "name": "inference", "id": number}
    yield {"ph": "s", **flow, **tracks.place(process, request, began)}
    if called is None:
        yield {"ph": "f", "bp": "e", **flow, **tracks.place(process, stream, began)}
    else:
        yield {"ph": "t", **flow, **tracks.place(process, stream, began)}
        yield {"ph": "f", "bp": "e", **flow, **tracks.place(OWN, *called)}


def _steps(
    tracks: _Tracks, process: int, stream: Any, one: Inference, began: int, ended: int
) -> Iterator[dict[str, Any]]:
    moment = one.first if began <= one.first <= ended else began
    for labels, times in one.steps:
        shares = times.shares() if isinstance(times, SharedTimes) else [()] * len(times)
        for label, taken, shared in zip(labels, times, shares):
            after = min(moment + int(taken), ended)
            facts: dict[str, Any] = {"kernel": label.kernel}
            if label.flops and taken:
                facts["GFLOP/s"] = round(label.flops / int(taken), 2)
            if len(shared) > 1:
                slowest, mean = max(shared), sum(shared) / len(shared)
                facts["threads us"] = [share / 1000 for share in shared]
                facts["uneven us"] = round((slowest - mean) / 1000, 3)
                facts["barrier us"] = (int(taken) - slowest) / 1000
            yield tracks.slice(process, stream, f"{label.operator} {label.name}", moment, after, facts)
            moment = after


def _named(kind: str, process: int, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": track, "args": {"name": name}}


class _Tracks:
    """The numbers of tracks, by process and key, a tuple that ends with the name."""

    def __init__(self, began: int) -> None:
        self._began = began
        self._numbers: dict[tuple[int, Any], int] = {}
        self._ends: dict[tuple[int, str], list[int]] = {}

    def at(self, moment: int) -> float:
        """A moment in microseconds since the recorder began."""
        return (moment - self._began) / 1000

    def number(self, process: int, key: Any) -> int:
        """The track's number, the same in no other process."""
        return self._numbers.setdefault((process, key), 100 + len(self._numbers))

    def thread(self, process: int, key: Any) -> Iterator[dict[str, Any]]:
        """The track's name, the first time."""
        if (process, key) not in self._numbers:
            yield _named("thread_name", process, self.number(process, key), key[-1])

    def place(self, process: int, key: Any, moment: int) -> dict[str, Any]:
        """A moment in a track."""
        return {"pid": process, "tid": self.number(process, key), "ts": self.at(moment)}

    def slice(
        self, process: int, key: Any, name: str, began: int, ended: int, facts: dict[str, Any]
    ) -> dict[str, Any]:
        """Something in a track that took from one moment to another."""
        place = self.place(process, key, began)
        return {"ph": "X", "name": name, **place, "dur": (ended - began) / 1000, "args": facts}

    def lane(self, process: int, name: str, began: int, ended: int) -> tuple[int, str]:
        """The track of what runs from one moment to another: one of several, where that is done at the same time."""
        ends = self._ends.setdefault((process, name), [])
        for index, end in enumerate(ends):
            if end <= began:
                ends[index] = ended
                break
        else:
            index = len(ends)
            ends.append(ended)
        return index, name if index == 0 else f"{name} ({index + 1})"
