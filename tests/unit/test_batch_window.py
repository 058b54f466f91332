"""Which inferences go as one batch, and which are waited for: a device and its clients with a simulated clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import count

import pytest

from cpuruntime.devices.batch.trials import Trials
from cpuruntime.devices.batch.window import Window

MS = 1_000_000
GAIN = {1: 10 * MS, 2: 11 * MS, 4: 13 * MS, 8: 17 * MS}
"""A device on which a batch of 8 takes less than two single inferences."""
LITTLE = {1: 10 * MS, 2: 18 * MS, 4: 32 * MS, 8: 60 * MS}
"""One on which it takes six."""


class Simulation:
    """A device with one slot. Its inferences arrive at given moments, or again a while after they were over."""

    def __init__(self, times: dict[int, int], limit: int = 1000 * MS) -> None:
        self.window = Window(times, 1, limit)
        self.latencies: list[int] = []
        self.now = 0
        self._events: list[tuple[int, int, str]] = []
        self._numbers = count()
        self._waiting: list[int] = []
        self._running: list[int] = []

    def add(self, moment: int, what: str = "arrive") -> None:
        """Let something come at a moment."""
        heapq.heappush(self._events, (moment, next(self._numbers), what))

    def run(self, inferences: int, again_after: Iterator[int] | None = None) -> int:
        """Nanoseconds until so many inferences were over."""
        while len(self.latencies) < inferences:
            self.now, _, what = heapq.heappop(self._events)
            if what == "arrive":
                self._waiting.append(self.now)
                self.window.arrive(self.now, len(self._waiting) + len(self._running))
            elif what == "end":
                self.latencies += [self.now - arrived for arrived in self._running]
                moment = self.now
                for _ in self._running:
                    if again_after is not None:
                        moment += next(again_after)
                        self.add(moment)
                self._running = []
                self.window.end(self.now)
            self._match()
        return self.now

    def _match(self) -> None:
        if self._running or not self._waiting:
            return
        wait = self.window.wait(len(self._waiting), 1)
        until = min(self.window.latest + wait, self._waiting[0] + self.window.limit)
        if wait and until > self.now:
            self.add(until, "alarm")
            return
        if wait:
            self.window.miss()
        size = self.window.size(len(self._waiting), 1)
        self._running, self._waiting = self._waiting[:size], self._waiting[size:]
        self.add(self.now + self.window.times[size], "end")


def closed_loop(times: dict[int, int], clients: int, pause: int = 5000, inferences: int = 800, **limit: int) -> float:
    """Nanoseconds an inference of clients who start the next one when theirs is over, one after the other."""
    simulation = Simulation(times, **limit)
    for client in range(clients):
        simulation.add(client * pause)
    return simulation.run(inferences, iter(lambda: pause, 0)) / inferences


@pytest.mark.parametrize("times", [GAIN, LITTLE])
@pytest.mark.parametrize("clients", [1, 2, 3, 4, 5, 7, 8, 9, 12, 16])
def test_at_saturation_it_is_as_fast_as_the_best_fixed_size(times: dict[int, int], clients: int) -> None:
    best = min(times[size] / min(size, clients) for size in times if size < 2 * clients)
    assert closed_loop(times, clients) <= best * (1.03 if clients in (1, 2, 4, 8, 16) else 1.25)


@pytest.mark.parametrize("times", [GAIN, LITTLE])
def test_at_low_load_nothing_waits(times: dict[int, int]) -> None:
    simulation = Simulation(times)
    for number in range(50):
        simulation.add(number * 30 * MS)
    simulation.run(50)
    assert simulation.latencies == [times[1]] * 50
    assert closed_loop(times, 1) == pytest.approx(times[1], rel=0.002)


def test_a_burst_after_a_long_pause_is_one_batch_once_bursts_are_known() -> None:
    simulation = Simulation(GAIN)
    for burst in range(10):
        for member in range(8):
            simulation.add(burst * 500 * MS + member * 10_000)
    simulation.run(80)
    assert max(simulation.latencies[-8:]) < GAIN[8] + MS
    assert simulation.latencies[0] == GAIN[1]  # the first of all goes alone


def test_when_fewer_come_than_before_the_rest_is_waited_for_once() -> None:
    simulation = Simulation(GAIN)
    for burst in range(10):
        for member in range(8 if burst < 5 else 3):
            simulation.add(burst * 500 * MS + member * 10_000)
    simulation.run(8 * 5 + 3 * 5)
    assert max(simulation.latencies[-3:]) < GAIN[4] + MS


def test_the_limit_counts_from_the_arrival_of_the_first_that_waits() -> None:
    window = Window(GAIN, 1, limit=0)
    for number in range(8):
        window.arrive(number * 1000, number + 1)
    assert window.wait(1, 1) == 0
    assert closed_loop(GAIN, 8, limit=0) > GAIN[8] / 8  # the first one goes alone each time


@pytest.mark.parametrize(
    ("times", "waiting", "free", "size"),
    [
        (GAIN, 1, 1, 1),
        (GAIN, 3, 1, 4),  # padded
        (GAIN, 20, 1, 8),
        (GAIN, 4, 2, 2),  # a half each
        (GAIN, 2, 2, 1),
        ({1: 10, 2: 18, 4: 40}, 3, 1, 2),  # 4 is no faster, padding even slower
        ({1: 10, 6: 20}, 5, 1, 6),
        ({1: 10}, 5, 1, 1),
    ],
)
def test_a_partial_group_has_the_size_that_takes_the_least_time(
    times: dict[int, int], waiting: int, free: int, size: int
) -> None:
    assert Window(times, 2, MS).size(waiting, free) == size


def test_with_several_slots_a_share_of_those_in_flight_is_waited_for() -> None:
    window = Window(GAIN, 2, 1000 * MS)
    for number in range(8):
        window.arrive(number * 1000, number + 1)
    assert window.wait(3, 1) > 0
    assert window.wait(4, 1) == 0


def waits(window: Window, moments: Sequence[int]) -> bool:
    for number, moment in enumerate(moments):
        window.arrive(moment, number + 1)
    return window.wait(1, 1) > 0


def test_arrivals_that_are_farther_apart_than_joining_saves_are_not_waited_for() -> None:
    assert waits(Window(GAIN, 1, 1000 * MS), [number * MS for number in range(8)])
    assert not waits(Window(GAIN, 1, 1000 * MS), [number * 9 * MS for number in range(8)])


def served(wrong: dict[int, int], right: dict[int, int], in_flight: int = 16) -> tuple[Window, list[int], int]:
    """A window that began with wrong times after a while of full load: the sizes that went, and what is next."""
    window = Window(wrong, 1, MS, turns=3)
    window.arrive(0, in_flight)
    dropped: list[int] = []
    now = before = 0
    for turn in range(200):
        size = window.ahead()
        # The first ones are slow, and so is the first one of a size after another.
        now += right[size] * (100 if turn < 4 else 3 if size != before else 1)
        before = size
        dropped += window.note(size, now)
    return window, dropped, window.ahead()


@pytest.mark.parametrize("right", [GAIN, LITTLE])
def test_sizes_that_were_measured_wrongly_are_found_while_serving(right: dict[int, int]) -> None:
    window, dropped, size = served({1: 10 * MS, 2: 19 * MS, 4: 100 * MS, 8: 200 * MS}, right)
    assert (dropped, size, window.largest) == ([], 8, 8)
    assert window.times == right
    assert window.cost(16) == 2 * window.times[8]


def test_sizes_that_are_much_slower_go_after_their_turns_and_of_others_the_smaller_one_runs() -> None:
    window, dropped, size = served(LITTLE, {1: 5 * MS, 2: 8 * MS, 4: 20 * MS, 8: 33 * MS})
    assert (dropped, size, window.largest) == ([4], 2, 8)


def test_sizes_are_timed_again_after_a_while() -> None:
    window, now, sizes = Window(GAIN, 1, MS, turns=1), 0, []
    window.arrive(0, 16)
    for _ in range(2000):
        sizes.append(window.ahead())
        now += GAIN[sizes[-1]] * (1 if sizes[-1] < 8 or now > 1000 * MS else 1.6)  # something else has slowed it down
        assert window.note(sizes[-1], int(now)) == []
    assert set(sizes[60:80]) == {4}
    assert set(sizes[-20:]) == {8}
    assert sizes.count(1) < 200


def test_sizes_that_are_larger_than_what_is_in_flight_are_not_tried() -> None:
    window = Window(LITTLE, 1, MS, turns=3)
    window.arrive(0, 4)
    tried = []
    for _ in range(3 * (17 + 9)):
        tried.append(window.ahead())
        assert window.note(tried[-1], LITTLE[tried[-1]]) == []
    assert (tried.count(1), tried.count(2)) == (3 * 17, 3 * 9)
    assert window.ahead() == 8


def test_a_turn_begins_anew_where_other_batches_come_between_and_ends_after_a_while() -> None:
    trials = Trials([1, 2], slots=2, turns=1)
    assert trials.next(2) == 1
    ends = [(1, 10), (1, 11), (1, 12), (0, 12), *((1, moment) for moment in range(20, 70, 5))]
    assert [trials.next(2) for size, ended in ends if not trials.note(size, ended)] == [1] * 13 + [2]
    found = [trials.note(number % 3, 100) for number in range(24)]  # never two of size 2 one after the other
    assert found == [{}] * 23 + [{1: 10}]
    assert trials.next(2) == 0
