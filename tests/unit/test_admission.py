"""Admission under a latency target, by a simulated clock: no thread, no sleeping, the same numbers every time."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import pytest

from cpuruntime.devices.cpu.latency.admission import (
    PROBE,
    REPLAY_EVERY,
    Admission,
    SlidingWindow,
    Ticket,
    Variant,
    replay,
)

MS = 1_000_000
Duration = Callable[[int, int, int], int]
"""What a batch takes: of the variant's index, at a time, of so many inferences."""


@dataclass
class Results:
    """Latency of each served inference with its arrival, and how many were refused on arrival or later."""

    served: list[tuple[int, int]] = field(default_factory=list)
    refused: int = 0

    def goodput(self, target: int, since: int = 0) -> int:
        return sum(latency <= target for arrived, latency in self.served if arrived >= since)

    def held(self, target: int, percentile: float, window: int, since: int = 0) -> float:
        """The part of windows whose percentile is within the target."""
        windows: dict[int, list[int]] = {}
        for arrived, latency in self.served:
            if arrived >= since:
                windows.setdefault(arrived // window, []).append(latency)
        ordered = [sorted(latencies) for latencies in windows.values()]
        tails = [one[max(0, -int(-len(one) * percentile // 100) - 1)] for one in ordered]
        return sum(tail <= target for tail in tails) / len(tails)


class Static:
    """Up to so many inferences in flight, all by one variant: what a user could set up by hand."""

    def __init__(self, variant: int, variants: list[Variant], limit: int) -> None:
        self.variants = variants
        self.variant, self.limit, self.flying = variant, limit, 0

    def arrive(self, now: int) -> Ticket | None:
        if self.flying >= self.limit:
            return None
        self.flying += 1
        return Ticket(self.variant, now, now)

    def batch_size(self, tickets: Sequence[Ticket], now: int) -> int:
        return 1

    def begin(self, ticket: Ticket, now: int, others: Sequence[Ticket] = ()) -> bool:
        ticket.began = now
        return True

    def end(self, ticket: Ticket, ended: int, told: int, served: bool = True) -> None:
        self.flying -= 1


def simulate(
    policy: Admission | Static, arrivals: list[int], duration: Duration, telling: Callable[[], int] = lambda: 0
) -> Results:
    """Streams that take turns in order of arrival, as an executor's; each variant has cores of its own here.

    `telling` is what it takes until the caller knows of an end.
    """
    results = Results()
    free = [variant.streams for variant in policy.variants]
    queues: list[deque[Ticket]] = [deque() for _ in policy.variants]
    ends: list[tuple[int, int, list[Ticket]]] = []

    def start(variant: int, now: int) -> None:
        queue = queues[variant]
        while free[variant] and queue:
            count = policy.batch_size([*queue][: policy.variants[variant].most], now)
            ticket, *others = [queue.popleft() for _ in range(count)]
            if policy.begin(ticket, now, others):
                free[variant] -= 1
                batch = [ticket, *others]
                heapq.heappush(ends, (now + duration(variant, now, len(batch)), id(ticket), batch))
            else:
                assert not others
                results.refused += 1
                policy.end(ticket, now, now, served=False)

    for now in [*arrivals, 1 << 62]:
        while ends and ends[0][0] <= now:
            end, _, batch = heapq.heappop(ends)
            for ticket in batch:
                told = end + telling()
                policy.end(ticket, end, told)
                results.served.append((ticket.arrived, told - ticket.arrived))
            free[batch[0].variant] += 1
            start(batch[0].variant, end)
        if now < 1 << 62:
            ticket = policy.arrive(now)
            if ticket is None:
                results.refused += 1
            else:
                queues[ticket.variant].append(ticket)
                start(ticket.variant, now)
    return results


def poisson(per_second: float, seconds: float, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    moments, now = [], 0.0
    while now < seconds:
        now += chance.expovariate(per_second)
        moments.append(int(now * 1e9))
    return moments


def noisy(
    *services: int, seed: int = 2, hiccups: float = 0.003, cost: Callable[[int], float] = lambda count: 1
) -> Duration:
    """Times that scatter by some percent, and now and then by a hiccup of several milliseconds.

    A batch of so many takes `cost` times what one inference takes.
    """
    chance = random.Random(seed)

    def duration(variant: int, _: int, count: int) -> int:
        hiccup = chance.expovariate(1 / (2 * MS)) if chance.random() < hiccups else 0
        return int(services[variant] * cost(count) * chance.lognormvariate(0, 0.05) + hiccup)

    return duration


def variants() -> list[Variant]:
    return [Variant(2, 1, 10 * MS), Variant(1, 2, 6 * MS)]


SECONDS, BEGIN, WINDOW = 40, 5_000 * MS, 2_000 * MS


@cache
def static(load: float, variant: int, limit: int) -> Results:
    """Of the arrivals that the test makes, too; the same for all targets."""
    return simulate(Static(variant, variants(), limit), poisson(200 * load, SECONDS), noisy(10 * MS, 6 * MS))


def best_static(load: float, target: int) -> int:
    """The most that a static variant serves in time which holds the target, over all variants and limits.

    Longer queues serve more and hold the target less: the longest that still holds it is the best.
    """
    best = 0
    for variant in range(2):
        limits = range(1, 2 + 2 * target // 6)
        results = partial(static, load, variant)
        longest = bisect_left(limits, True, key=lambda n: results(n).held(target * MS, 99, WINDOW, BEGIN) < 0.95)
        if longest:
            best = max(best, results(limits[longest - 1]).goodput(target * MS, BEGIN))
    return best


@pytest.mark.parametrize("load", [0.5, 0.9, 1.3, 2.5])
@pytest.mark.parametrize("target", [11, 15, 30, 80])
def test_it_holds_the_target_and_serves_about_as_much_as_the_best_static_setting(load: float, target: int) -> None:
    arrivals = poisson(200 * load, SECONDS)
    bounded = simulate(Admission(target * MS, 99, variants()), arrivals, noisy(10 * MS, 6 * MS))
    assert bounded.held(target * MS, 99, WINDOW, BEGIN) >= 0.95
    assert bounded.goodput(target * MS, BEGIN) >= 0.9 * best_static(load, target) > 0
    assert len(bounded.served) + bounded.refused == len(arrivals)


def batched() -> list[Variant]:
    """Two streams for which four inferences take twice as long as one."""
    return [Variant(2, 1, 10 * MS, [14 * MS, 20 * MS])]


def of_batches(count: int) -> float:
    return {1: 1, 2: 1.4, 3: 2, 4: 2}[count]


def test_batches_serve_more_and_hold_the_target() -> None:
    """Alone 200 a second can be served, in batches of four 400."""
    begin = 5_000 * MS
    for per_second, least in ((150, 150), (350, 345), (600, 360)):
        arrivals = poisson(per_second, 40)
        admission = Admission(70 * MS, 99, batched())
        results = simulate(admission, arrivals, noisy(10 * MS, cost=of_batches))
        assert results.held(70 * MS, 99, 2_000 * MS, begin) >= 0.95
        assert results.goodput(70 * MS, begin) >= 0.98 * least * 35
    unbatched = simulate(Admission(70 * MS, 99, [Variant(2, 1, 10 * MS)]), arrivals, noisy(10 * MS))
    assert results.goodput(70 * MS) > 1.7 * unbatched.goodput(70 * MS)


def test_a_slow_spell_is_one_for_batches_of_every_size() -> None:
    admission = Admission(100 * MS, 99, batched())
    results = simulate(admission, poisson(250, 60), lambda *work: 2 * noisy(10 * MS, cost=of_batches)(*work))
    assert results.held(100 * MS, 99, 2_000 * MS, 10_000 * MS) >= 0.95
    assert admission.variants[0].time(4) == pytest.approx(40 * MS, rel=0.1)


def waiting(admission: Admission, *arrivals: int) -> list[Ticket]:
    return [ticket for now in arrivals if (ticket := admission.arrive(now * MS)) is not None]


def test_a_batch_is_no_larger_than_leaves_all_of_it_in_time() -> None:
    admission = Admission(100 * MS, 99, [Variant(1, 1, 10 * MS, [14 * MS, 20 * MS])])
    tickets = waiting(admission, 0, 1, 2, 3, 4, 5)
    assert len(tickets) == 6
    assert [admission.batch_size(tickets, now * MS) for now in (5, 75, 77, 80, 83, 90)] == [4, 4, 4, 2, 2, 1]
    assert admission.batch_size(tickets[:3], 5 * MS) == 3
    assert admission.batch_size(tickets[:1], 5 * MS) == 1
    assert admission.batch_size(tickets[:3], 80 * MS) == 2


def test_what_waits_together_is_expected_to_begin_together() -> None:
    admission = Admission(100 * MS, 99, [Variant(1, 1, 10 * MS, [14 * MS, 20 * MS])])
    (first,) = waiting(admission, 0)
    assert admission.begin(first, 0)
    others = waiting(admission, *[0] * 9)
    assert [ticket.expected for ticket in others] == [10 * MS] * 4 + [30 * MS] * 4 + [50 * MS]
    assert admission.begin(others[0], 10 * MS, others[1:4])
    assert [ticket.batch for ticket in others[:5]] == [4, 4, 4, 4, 1]
    assert [ticket.leader for ticket in others[:3]] == [None, others[0], others[0]]
    assert admission.waiting == 5


def test_what_it_takes_to_tell_the_caller_counts() -> None:
    """Each is told 3 ms late, one in fifty 9 ms: then a target of 30 ms leaves the streams 21."""
    chance = random.Random(3)
    admission = Admission(30 * MS, 99, variants())
    results = simulate(
        admission, poisson(260, 60), noisy(10 * MS, 6 * MS), lambda: (9 if chance.random() < 0.02 else 3) * MS
    )
    assert results.held(30 * MS, 99, 2_000 * MS, 5_000 * MS) >= 0.95
    assert admission.counts.late == sum(latency > 30 * MS for _, latency in results.served)
    assert results.goodput(30 * MS) > 150 * 60
    assert admission.variants[admission.active].time(1) == pytest.approx(10 * MS, rel=0.05)


def test_nothing_is_refused_that_can_make_it() -> None:
    admission = Admission(100 * MS, 99, variants())
    results = simulate(admission, poisson(100, 20), noisy(10 * MS, 6 * MS))
    assert results.refused == 0
    assert admission.counts.on_time == len(results.served)


def test_a_slow_spell_is_noticed_and_survived() -> None:
    """Everything takes three times as long between the 20th and the 40th second."""
    calm = noisy(10 * MS)

    def duration(variant: int, now: int, count: int) -> int:
        return calm(variant, now, count) * (3 if 20e9 < now < 40e9 else 1)

    admission = Admission(60 * MS, 99, variants()[:1])
    results = simulate(admission, poisson(250, 60), duration)
    assert results.held(60 * MS, 99, 2_000 * MS) >= 0.93
    slow = sum(20e9 < arrived < 40e9 for arrived, _ in results.served) / 20
    fast = sum(arrived > 45e9 for arrived, _ in results.served) / 15
    assert slow == pytest.approx(200 / 3, rel=0.15)
    assert fast == pytest.approx(200, rel=0.1)


def test_a_target_below_the_time_of_a_small_stream_takes_the_large_one() -> None:
    admission = Admission(8 * MS, 99, variants())
    simulate(admission, poisson(100, 5), noisy(10 * MS, 6 * MS))
    assert (admission.active, admission.switches) == (1, 1)


def test_streams_change_with_the_load_and_do_not_flutter() -> None:
    """Few requests are best served by the large stream, which is free sooner; many by the small ones, which do more."""
    admission = Admission(12_500_000, 99, [Variant(4, 1, 10 * MS), Variant(1, 4, 3 * MS)])
    active = []
    for part, load in enumerate((200, 3000, 200)):
        arrivals = [moment + part * 12_000 * MS for moment in poisson(load, 11, seed=part)]
        simulate(admission, arrivals, noisy(10 * MS, 3 * MS, seed=part, hiccups=0))
        active.append(admission.active)
    assert active == [1, 0, 1]
    assert admission.switches <= 8


def test_an_unreachable_target_refuses_all_but_probes_until_it_can_be_reached() -> None:
    def duration(_: int, now: int, count: int) -> int:
        return 40 * MS if now < 60e9 else 5 * MS

    admission = Admission(20 * MS, 99, [Variant(1, 1, 40 * MS)])
    results = simulate(admission, poisson(100, 200), duration)
    probes = sum(arrived < 60e9 for arrived, _ in results.served)
    assert 2 <= probes <= 60e9 / (PROBE * 40 * MS) + 1
    assert sum(arrived > 190e9 for arrived, _ in results.served) > 700


def test_what_is_not_served_teaches_nothing() -> None:
    admission = Admission(20 * MS, 99, [Variant(1, 1, 5 * MS)])
    for index in range(100):
        ticket = admission.arrive(index * 100 * MS)
        assert ticket is not None
        assert admission.begin(ticket, ticket.arrived)
        admission.end(ticket, ticket.arrived + MS, ticket.arrived + MS, served=False)
    assert admission.variants[0].time(1) == 5 * MS
    assert (admission.counts.on_time, admission.waiting) == (0, 0)
    assert admission.arrive(10**12) is not None


def test_one_that_is_cancelled_while_it_waits_leaves_the_queue() -> None:
    admission = Admission(100 * MS, 99, [Variant(1, 1, 10 * MS)])
    tickets = [admission.arrive(0) for _ in range(3)]
    assert tickets[2] is not None
    assert (admission.waiting, tickets[2].expected) == (3, 20 * MS)
    admission.end(tickets[2], 1, 1, served=False)
    assert admission.waiting == 2


def test_settings_are_compared_only_now_and_then() -> None:
    admission = Admission(8 * MS, 99, variants())
    for index in range(REPLAY_EVERY - 1):
        assert admission.arrive(index * 1000 * MS) is None or index == 0
    assert admission.active == 0
    admission.arrive(REPLAY_EVERY * 1000 * MS)
    assert admission.active == 1


def test_replay() -> None:
    one = Variant(1, 1, 10)
    assert replay([0, 0, 0, 100], one, 0, 20) == 3
    assert replay([0, 0, 0, 100], one, 1, 20) == 2
    assert replay([0, 0, 0, 100], Variant(2, 1, 10), 1, 20) == 3
    assert replay([0, 5], one, 0, 9) == 0


def test_windows_keep_the_latest_values() -> None:
    window = SlidingWindow(4)
    for value in (9, 1, 5, 3, 3, 7):
        window.add(value)
    assert [window.quantile(part) for part in (0, 0.25, 0.5, 0.75, 0.99, 1)] == [3, 3, 5, 7, 7, 7]
    assert len(window) == 4
