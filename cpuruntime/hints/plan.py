"""The plan of a model's streams, which hints are resolved to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from cpuruntime.host.processors import cpu_list
from cpuruntime.records import record


@record
class CoreGroup:
    """Processors of one stream on cores of one type and NUMA node; each of `cpus` runs one thread.

    `type` is P or E for the first processor of a core of that type, HT for the other ones of a core.
    """

    type: str
    cpus: tuple[int, ...]
    node: int
    socket: int


@record
class PlannedStream:
    """One stream: its threads, and the NUMA node and the socket it is confined to, -1 where it is not."""

    parts: tuple[CoreGroup, ...]
    node: int
    socket: int

    @classmethod
    def of(cls, parts: Sequence[CoreGroup]) -> PlannedStream:
        """The stream of these parts, confined to their node and socket where those are the same."""
        places = ({part.node for part in parts}, {part.socket for part in parts})
        return cls(tuple(parts), *(one.pop() if len(one) == 1 else -1 for one in places))

    @property
    def cpus(self) -> tuple[int, ...]:
        """The processors, one for each thread."""
        return tuple(cpu for part in self.parts for cpu in part.cpus)

    @property
    def type(self) -> str:
        """The core types: "P", or "P+HT" where they are mixed."""
        return "+".join(dict.fromkeys(part.type for part in self.parts))


@record
class StreamSizes:
    """How many streams of how many threads to plan, and why; with 0 streams the rules choose."""

    streams: int
    threads: int
    reason: str


@record
class StreamPlan:
    """The streams of a compiled model. `print` it.

    Attributes:
        streams: each runs one inference at a time; none when inferences run in the caller's thread.
        pin: whether each thread is pinned to its processor.
        hyper_threading: whether siblings of a core's first processor may be used.
        core_type: the cores that may be used: ANY_CORE, PCORE_ONLY or ECORE_ONLY.
        reasons: a sentence for each decision.
    """

    streams: tuple[PlannedStream, ...]
    pin: bool
    hyper_threading: bool
    core_type: str
    reasons: tuple[str, ...]

    @property
    def threads(self) -> int:
        """The threads of the largest stream, the caller's one when there is none."""
        return max((len(stream.cpus) for stream in self.streams), default=1)

    @property
    def shares(self) -> tuple[tuple[int, ...], ...]:
        """The processors of each stream."""
        return tuple(stream.cpus for stream in self.streams)

    @property
    def total_threads(self) -> int:
        """The threads of all streams together."""
        return sum(map(len, self.shares))

    def table(self) -> list[str]:
        """A heading, and a line for each run of streams that differ in nothing but their processors."""
        rows = [("streams", "core type", "threads", "node", "socket", "cpus"), *self._runs()]
        widths = [max(map(len, column)) for column in zip(*rows)]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]

    def sentences(self) -> list[str]:
        """The reasons, and the processors of each run of equal streams."""
        places = [
            f"streams {numbers}: {threads} on {type} of NUMA node {node}, socket {socket}: processors {cpus}"
            for numbers, type, threads, node, socket, cpus in self._runs()
        ]
        return [*self.reasons, *places]

    def _runs(self) -> list[tuple[str, ...]]:
        """Numbers, core type, threads, node, socket and processors of streams that follow each other and are alike."""
        runs = []
        first = 0
        for kind, run in groupby(self.streams, key=_kind):
            shares = [cpu_list(stream.cpus) for stream in run]
            runs.append((cpu_list(range(first, first + len(shares))), *kind, "  ".join(shares)))
            first += len(shares)
        return runs

    def __str__(self) -> str:
        if not self.streams:
            return "\n".join(["no streams: inferences run in the thread that asks for them", *self.reasons])
        head = f"{counted(len(self.streams), 'stream')}, {counted(self.total_threads, 'thread')}, "
        return "\n".join([head + ("pinned" if self.pin else "not pinned"), *self.table(), *self.reasons])


def counted(number: int, word: str) -> str:
    """The number with the word, in the plural unless it is 1."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _kind(stream: PlannedStream) -> tuple[str, str, str, str]:
    places = ("any" if place < 0 else str(place) for place in (stream.node, stream.socket))
    return (stream.type, str(len(stream.cpus)), *places)
