"""Streams of one model with different numbers of threads: the same results, each thread where the plan has it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from support.stream_tasks import Neighbours, Run, program, where_am_i

import cpuruntime as ov
from cpuruntime.devices.cpu.building import build_model
from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.streams.setup import StreamSetup
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.hints import CoreGroup, PlannedStream, StreamPlan
from cpuruntime.properties import PROPERTIES, parse
from cpuruntime.streams.executor import StreamExecutor, create_executor

ALLOWED = sorted(os.sched_getaffinity(0))


def finish(executor: Any, tasks: list[Run]) -> None:
    for task in tasks:
        executor.submit(task)
    for task in tasks:
        assert task.wait(60)
        assert task.errors == [None]


@pytest.mark.parametrize("sizes", [[1, 2], [3, 1, 2], [2, 2]])
def test_every_stream_runs_with_its_own_threads(sizes: list[int]) -> None:
    executor = create_executor(len(sizes), sizes, pin=False)
    try:
        assert [stream.threads for stream in executor.streams] == sizes
        jobs = [Neighbours(17 + seed, 9) for seed in range(12)]
        expected = [job.fill(seed) for seed, job in enumerate(jobs)]
        finish(executor, [Run(job.job) for job in jobs])
        for job, result in zip(jobs, expected):
            np.testing.assert_array_equal(job.result, result)
    finally:
        executor.stop()


@pytest.mark.skipif(len(ALLOWED) < 2, reason="needs two processors")
def test_processors_are_handed_out_in_order() -> None:
    cpus = ALLOWED[::-1]
    sizes = [1, len(cpus) - 1]
    executor = StreamExecutor(2, sizes, cpus)
    try:
        assert [stream.cpus for stream in executor.streams] == [tuple(cpus[:1]), tuple(cpus[1:])]
        assert executor.unpinned == []
        seen = np.full(8192, -1, np.int64)
        task = Run(program([(where_am_i, (seen.ctypes.data,))], seen))
        finish(executor, [task])
        (stream,) = task.streams
        share = executor.streams[stream].cpus
        assert share is not None
        assert tuple(seen[: len(share)]) == share
    finally:
        executor.stop()


def test_too_few_processors_pin_nobody(caplog: pytest.LogCaptureFixture) -> None:
    executor = StreamExecutor(2, [1, 2], ALLOWED[:1])
    try:
        assert executor.unpinned == ["threads are not pinned: 2 streams of 1/2 threads need more than 1 CPUs"]
        assert executor.unpinned[0] in caplog.text
    finally:
        executor.stop()


@pytest.mark.parametrize("sizes", [[1], [1, 2, 3], [1, 0], []])
def test_sizes_that_make_no_streams(sizes: list[int]) -> None:
    with pytest.raises(InvalidArgumentError, match="at least one of each"):
        StreamExecutor(2, sizes)


def test_a_model_gives_the_same_bits_on_every_stream() -> None:
    graph = ov.Core().read_model(ov.light_model("squeezenet", 0)).graph
    streams = tuple(PlannedStream((CoreGroup("P", cpus, 0, 0),), 0, 0) for cpus in ((0, 1, 2), (0,), (0, 1)))
    plan = StreamPlan(streams, False, False, "ANY_CORE", ())
    model = build_model(Compilation.of(graph, parse({}, PROPERTIES, "tests")), StreamSetup(plan))
    try:
        assert (model.get_property("NUM_STREAMS"), model.get_property("INFERENCE_NUM_THREADS")) == (3, 6)
        requests = [model.create_request() for _ in range(9)]
        image = np.random.default_rng(1).random((1, 3, 224, 224), np.float32)
        for request in requests:
            request.input_array(0, image.shape)[...] = image
            request.start()
        for request in requests:
            assert request.wait(60)
            assert request.result()[0] is None
        results = [request.output_array(0) for request in requests]
        assert all(np.array_equal(result, results[0]) for result in results)
        assert results[0].std() > 0
    finally:
        model.executor.stop()
