"""The loops of `cpuruntime benchmark`, on requests and clocks that are simulated: limits, turns, rates and loads."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import cpuruntime as ov
from cpuruntime.cli.benchmark import measure, ports
from cpuruntime.cli.benchmark.feed import Feed
from cpuruntime.cli.benchmark.load import load
from cpuruntime.cli.benchmark.measure import Limits, Measurement, measure_async, measure_open, measure_sync


def test_limits() -> None:
    both = Limits(seconds=2.0, iterations=10)
    assert not both.reached(3.0, 9)
    assert not both.reached(1.9, 11)
    assert both.reached(2.0, 10)
    assert both.share_done(1.0, 10) == 0.5
    assert str(both) == "2000 ms duration, 10 iterations"
    assert Limits(iterations=10).aligned(4) == Limits(iterations=12)
    assert Limits(seconds=1.0).aligned(4) == Limits(seconds=1.0)


class FakeRequest:
    """Each inference has the next latency of a list, a quarter of which it was queued."""

    def __init__(self, latencies: Sequence[float]) -> None:
        self._latencies = iter(latencies)
        self.latency = 0.0
        self.inputs: list[object] = []

    def infer(self) -> None:
        self.latency = next(self._latencies)

    @property
    def latency_anatomy(self) -> ov.LatencyAnatomy:
        return ov.LatencyAnatomy(self.latency / 4, 0.0, self.latency * 3 / 4, 0.0)

    def set_input_tensor(self, index: int, tensor: ov.Tensor) -> None:
        self.inputs.append(tensor.data.tolist())


class FakeQueue:
    """Requests that are idle in turns; `log` holds the order in which they were started."""

    def __init__(self, *latencies: Sequence[float]) -> None:
        self.requests = [FakeRequest(one) for one in latencies or ([1.0, 3.0, 5.0], [2.0, 4.0, 6.0])]
        self.log: list[int] = []

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, index: int) -> FakeRequest:
        return self.requests[index]

    def get_idle_request_id(self) -> int:
        return len(self.log) % len(self)

    def start_async(self) -> None:
        index = self.get_idle_request_id()
        self.requests[index].infer()
        self.log.append(index)

    def wait_all(self) -> None:
        self.log.append(-1)


def feed_of(*shapes: tuple[int, ...], is_inside: bool = False) -> Feed:
    """A feed of one input, whose turns have these shapes and the values 0, 1 and so on."""
    info = ports.InputInfo("x", np.dtype(np.float32), ov.PartialShape("?,?"), ov.Layout("NC"), list(shapes))
    feed = Feed([info], [[np.full(shape, turn, np.float32) for turn, shape in enumerate(shapes)]])
    feed.is_inside = is_inside
    return feed


def ignore(*_: object) -> None:
    pass


def test_the_synchronous_loop_records_every_inference() -> None:
    seen: list[int] = []
    found = Measurement()
    request = FakeRequest([3.0, 1.0, 2.0])
    measure_sync(request, feed_of((2, 1)), Limits(iterations=3), None, lambda _, count: seen.append(count), found)
    assert list(found.latencies) == [3.0, 1.0, 2.0]
    assert (seen, found.frames, request.inputs) == ([1, 2, 3], 6, [])
    assert list(found.queued) == [0.75, 0.25, 0.5]
    assert list(found.executed) == [2.25, 0.75, 1.5]
    assert 0 < found.seconds < 10
    assert found.cpu_seconds >= 0


def test_the_asynchronous_loop_drains_and_runs_each_request_equally_often() -> None:
    queue, found = FakeQueue(), Measurement()
    measure_async(queue, feed_of((1, 1)), Limits(iterations=5), None, ignore, found)
    assert queue.log == [0, 1, 0, 1, 0, 1, -1]
    assert sorted(found.latencies) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_shapes_take_turns_in_the_loop_and_are_told_apart() -> None:
    queue, found = FakeQueue([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), Measurement()
    feed = feed_of((1, 1), (2, 1), (4, 1), is_inside=True)
    measure_async(queue, feed, Limits(iterations=4), None, ignore, found)
    assert len(queue.log) == 6 + 1
    assert found.frames == 2 * (1 + 2 + 4)
    assert [found.figures(group).sorted.tolist() for group in range(3)] == [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]
    assert [len(one) for one in queue.requests[0].inputs] == [1, 2, 4, 1, 2, 4]
    assert feed.group_names() == ["x: [1, 1]", "x: [2, 1]", "x: [4, 1]"]


def test_a_loop_that_an_error_ends_keeps_what_was_measured() -> None:
    found = Measurement()
    with pytest.raises(StopIteration):
        measure_sync(FakeRequest([3.0, 1.0]), feed_of((1, 1)), Limits(iterations=9), None, ignore, found)
    assert list(found.latencies) == [3.0, 1.0]
    assert found.seconds > 0


def test_at_least_one_inference_is_measured_however_slow() -> None:
    found = Measurement()
    measure_sync(FakeRequest([7.0]), feed_of((1, 1)), Limits(seconds=1e-9), None, ignore, found)
    assert found.iterations == 1


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.now / 10

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """The clock of the loops."""
    clock = FakeTime()
    monkeypatch.setattr(measure, "time", clock)
    return clock


class SlowQueue(FakeQueue):
    """One request; each inference takes 20 ms, for which the next one has to wait."""

    def __init__(self, clock: FakeTime) -> None:
        super().__init__(itertools.repeat(20.0))  # type: ignore[arg-type]
        self._clock = clock
        self._idle = 0.0

    def get_idle_request_id(self) -> int:
        self._clock.now = max(self._clock.now, self._idle)
        return 0

    def start_async(self) -> None:
        self._idle = self._clock.now + 0.02
        super().start_async()

    def wait_all(self) -> None:
        self.get_idle_request_id()


def test_an_open_loop_counts_the_time_from_when_a_request_was_due(clock: FakeTime) -> None:
    found = Measurement()
    measure_open(SlowQueue(clock), feed_of((1, 1)), iter([0.0] * 4), Limits(), ignore, found)
    assert list(found.latencies) == pytest.approx([20, 40, 60, 80])
    assert list(found.queued) == pytest.approx([5, 25, 45, 65])
    assert list(found.executed) == pytest.approx([15] * 4)
    assert list(found.moments) == pytest.approx([0.02, 0.04, 0.06, 0.08])
    assert found.seconds == pytest.approx(0.08)
    assert found.cpu_milliseconds == pytest.approx(2)


def test_requests_that_an_open_loop_cannot_serve_in_time_count_as_long_as_they_waited(clock: FakeTime) -> None:
    found = Measurement()
    arrivals = load("burst:50:10").arrivals()
    measure_open(SlowQueue(clock), feed_of((1, 1)), arrivals, Limits(seconds=0.09), ignore, found)
    assert list(found.latencies) == pytest.approx([20, 40, 60, 80, 100])
    assert list(found.unserved) == pytest.approx([100] * 45)
    assert found.figures().percentile(50) == pytest.approx(100)


def test_an_open_loop_waits_for_requests_that_are_not_due(clock: FakeTime) -> None:
    found = Measurement()
    arrivals = iter([0.0, 0.1, 0.11, 0.4, 0.5])
    measure_open(SlowQueue(clock), feed_of((1, 1)), arrivals, Limits(iterations=4), ignore, found)
    assert list(found.latencies) == pytest.approx([20, 20, 30, 20])
    assert found.seconds == pytest.approx(0.42)


@pytest.mark.parametrize("loop", [measure_sync, measure_async])
def test_the_rate_of_frames_is_limited(loop: object, clock: FakeTime) -> None:
    runner, found = (FakeRequest if loop is measure_sync else FakeQueue)([1.0] * 10), Measurement()
    loop(runner, feed_of((4, 1)), Limits(iterations=10), 400.0, ignore, found)  # type: ignore[operator]
    assert found.throughput == pytest.approx(400)


def test_loads() -> None:
    moments = list(itertools.islice(load("open:100").arrivals(), 20_000))
    gaps = np.diff(moments)
    assert np.mean(gaps) == pytest.approx(0.01, rel=0.03)
    assert np.std(gaps) == pytest.approx(0.01, rel=0.05)
    assert moments[:9] == list(itertools.islice(load("open:100").arrivals(), 9))
    assert list(itertools.islice(load("burst:2:0.5").arrivals(), 5)) == [0.0, 0.0, 0.5, 0.5, 1.0]
    assert str(load("burst")) == "burst (16 requests every 1 s)"


def test_a_trace_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("# seconds\n0\n0.5\n\n0.5  # again\n2e0\n")
    found = load(f"trace:{path}")
    assert (list(found.arrivals()), found.is_endless) == ([0.0, 0.5, 0.5, 2.0], False)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("fast", "'fast' is no load; give open:RATE, burst, burst:COUNT:SECONDS or trace:FILE"),
        ("open:0", "the RATE of 'open:0' must be a number greater than 0"),
        ("open:nan", "RATE"),
        ("burst:-1", "the COUNT of 'burst:-1' must be a whole number"),
        ("burst:2:x", "the SECONDS of 'burst:2:x'"),
        ("trace:missing", "trace 'missing' cannot be read"),
        ("trace:", "is no load"),
    ],
)
def test_a_wrong_load_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(complaint)):
        load(text)


@pytest.mark.parametrize(("text", "complaint"), [("1\n0\n", "line 2 of trace"), ("x\n", "line 1"), ("#\n", "no line")])
def test_a_wrong_trace_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "trace.txt"
    path.write_text(text)
    with pytest.raises(argparse.ArgumentTypeError, match=complaint):
        load(f"trace:{path}")
