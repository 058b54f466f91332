"""How many streams of how many threads. The rules are OpenVINO's; `prefer` is what `preference` found for the model."""

from __future__ import annotations

from cpuruntime.hints.candidates import HT, TYPES, Candidates, E, P
from cpuruntime.hints.placement import fill, fill_evenly, fill_streams
from cpuruntime.hints.plan import PlannedStream, counted
from cpuruntime.records import record

PARALLEL_CORES = 32
"""Cores of a socket that one inference is spread over when it may use several sockets."""


@record
class StreamLimits:
    """The user's limits: threads of all streams, streams, and requests in flight; 0 for none."""

    threads: int = 0
    streams: int = 0
    requests: int = 0


@record
class Division:
    """Streams with their processors, and the reasons."""

    streams: tuple[PlannedStream, ...]
    reasons: tuple[str, ...]


def one_stream(found: Candidates, prefer: int, limits: StreamLimits, across_sockets: bool = False) -> Division:
    """The latency path: all threads work on one inference, `prefer` or all (0).

    `limits.threads` may take the stream beyond the caller's socket; MODEL_DISTRIBUTION_POLICY may spread it evenly
    `across_sockets`.
    """
    own = found.socket_rows
    sockets = {row.socket for row in found.rows}
    if limits.threads:
        rows = own if across_sockets else found.rows
        threads = min(limits.threads, found.usable)
        stream = fill(rows, threads)
        return _division([stream], f"INFERENCE_NUM_THREADS is {limits.threads}")
    if across_sockets and len(sockets) > 1 and found.count(P):
        most = min(PARALLEL_CORES, max(1, found.usable // len(sockets)))
        stream = fill_evenly(found.rows, most)
        return _division([stream], f"MODEL_DISTRIBUTION_POLICY spreads it over up to {most} cores of each socket")
    if len(found.rows) > 1:
        count = sum(row.count() for row in own)
        threads = min(count, prefer, found.usable) if prefer else min(count, found.usable)
        why = "the cores of the socket that the caller runs on" if len(sockets) > 1 else "all cores"
        return _division([fill(own, threads)], why)
    types = (P, HT) if prefer and prefer == found.count(P) else TYPES
    why = "only P cores, which E cores would hold up" if found.is_hybrid and types != TYPES else "all of them"
    return _division([fill(found.rows, found.usable, types)], why)


def many_streams(found: Candidates, prefer: int, limits: StreamLimits) -> Division:
    """The throughput path: several inferences at a time.

    Streams have `prefer` threads, or for 0 a number that divides the cores of a node evenly.
    """
    total = min(found.usable, limits.threads or found.usable)
    if limits.streams:
        streams, threads, why = _explicit(found, total, limits)
    elif not prefer:
        streams, threads, why = _even(found, total, limits)
    elif prefer == 1 and found.is_hybrid and total > found.count(P):
        return _one_fast_or_two_slow(found, total, limits.requests)
    else:
        streams, threads, why = _preferred(found, total, prefer, limits.requests)
    return _division(fill_streams(found.rows, streams, dict.fromkeys(TYPES, threads), total), why)


def exactly(found: Candidates, streams: int, threads: int) -> list[PlannedStream]:
    """`streams` streams of `threads` threads, as far as there are processors."""
    if streams == 1:
        return [fill(found.rows, min(threads, found.usable))]
    return fill_streams(found.rows, streams, dict.fromkeys(TYPES, threads), found.usable)


def _division(streams: list[PlannedStream], why: str) -> Division:
    total = sum(len(stream.cpus) for stream in streams)
    sizes = sorted({len(stream.cpus) for stream in streams})
    each = " or ".join(map(str, sizes))
    spread = f"{counted(len(streams), 'stream')} of {each} thread{'' if sizes == [1] else 's'}"
    return Division(tuple(streams), (f"{spread}, {counted(total, 'thread')} in all: {why}",))


def _explicit(found: Candidates, total: int, limits: StreamLimits) -> tuple[int, int, str]:
    streams = min(limits.streams, limits.requests or limits.streams)
    why = f"NUM_STREAMS is {limits.streams}"
    if streams < limits.streams:
        why += f", PERFORMANCE_HINT_NUM_REQUESTS {limits.requests}"
    if streams >= total:
        return total, 1, f"{why}, and a stream needs a thread" if streams > total else why
    return streams, _fitting(found, streams, min(total // streams, found.count(P) or found.count(E))), why


def _even(found: Candidates, total: int, limits: StreamLimits) -> tuple[int, int, str]:
    type = P if found.count(P) else E
    base = min(total, max(row.count(type) for row in found.rows))
    threads = next((number for number in (4, 5, 3) if base % number == 0), 0)
    why = f"{threads} divides the {base} cores" if threads else f"no small number divides the {base} cores"
    if not threads:
        threads = base if found.is_hybrid else 4 if base > 16 else max(1, base // 4)
    is_limited = limits.threads > 0 or total < found.count()
    streams = total // threads if is_limited else _capacity(found, threads)
    if 0 < limits.requests < streams:
        threads = total // limits.requests
        threads = min(threads, base) if len(found.rows) == 1 else threads
        return limits.requests, threads, _requests(limits.requests)
    while streams * 2 <= threads:
        threads //= 2
        streams = total // threads
        why = "more inferences at a time are better than larger streams"
    return streams, threads, why


def _one_fast_or_two_slow(found: Candidates, total: int, requests: int) -> Division:
    fast, slow = found.count(P), found.count(E)
    streams = total - slow // 2 if total >= fast + slow else fast + (total - fast) // 2
    why = "two slow cores keep up with a fast one"
    if requests and requests < streams:
        streams, why = requests, _requests(requests)
    return _division(fill_streams(found.rows, streams, {P: 1, E: 2, HT: 1}, total), why)


def _preferred(found: Candidates, total: int, prefer: int, requests: int) -> tuple[int, int, str]:
    threads = 1 if total == 1 else total // 2 if prefer > total else prefer
    streams = -(-total // threads)
    if requests and requests < streams:
        return requests, _fitting(found, requests, total // requests), _requests(requests)
    return streams, threads, f"{counted(threads, 'thread')} each suit the model"


def _requests(requests: int) -> str:
    return f"PERFORMANCE_HINT_NUM_REQUESTS is {requests}"


def _fitting(found: Candidates, streams: int, threads: int) -> int:
    """The most threads, up to `threads`, at which `streams` streams fit without mixing core types."""
    while threads > 1 and _capacity(found, threads) < streams:
        threads -= 1
    return max(1, threads)


def _capacity(found: Candidates, threads: int) -> int:
    """How many streams of `threads` threads fit on cores of one type."""
    return sum(found.count(type) // threads for type in TYPES)
