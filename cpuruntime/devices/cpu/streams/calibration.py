"""Calibration of streams: a few candidates run the model for a moment each; the rates are stored for the next time."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from cpuruntime.compiler import isa
from cpuruntime.devices.cpu.building import build_model
from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.devices.cpu.streams.placement import around
from cpuruntime.devices.cpu.streams.setup import StreamSetup
from cpuruntime.hints import StreamPlan, StreamSizes, alternatives, has_one_stream
from cpuruntime.host.ledger import Ledger
from cpuruntime.host.sysfs import processor_name
from cpuruntime.host.timing import alternate
from cpuruntime.store import cache_folder

ROUNDS = 8
"""Slices of measurement of each candidate, in turns with the others."""

SHORTEST = 0.005
"""Seconds of a slice, at least; a slice also has at least one inference of each stream."""

HOPELESS = 1.18
"""A candidate that takes so many times what the best one takes for an inference is not measured again."""

MARGIN = 1.02
"""Other streams must be faster than the rules' by this factor: smaller differences vary between runs of a program."""

FASTEST = 50_000
"""Inferences per second; above it the caller's interpreter limits the rate, not the streams."""

Found = Sequence[tuple[StreamSizes, StreamPlan]]
"""The candidates, the rules' plan first."""


def key(compilation: Compilation) -> str:
    """A digest of all that the best streams depend on: the model but for its weights' values, machine, settings."""
    assert compilation.optimised is not None
    nodes = [
        [node.op_type, *(str(v.static_shape) + str(v.element_type) for v in (*node.inputs, *node.outputs) if v)]
        for node in compilation.optimised.nodes
    ]
    machine = replace(compilation.topology, node=compilation.topology.cpus[0].node).to_json()
    from cpuruntime.version import __version__  # not above: looking for it is slow

    facts = [__version__, isa.current().name, processor_name(), machine, compilation.settings.key(), nodes]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:40]


def calibrate(compilation: Compilation) -> StreamSizes:
    """The best streams, by stored rates or by measuring; planning and compiling the candidates add to the budget.

    Its `streams` are 0 when those of the rules are best.
    """
    chosen = recall(compilation)
    if chosen is not None:
        return chosen
    budget, found = compilation.settings.value("STREAMS_CALIBRATION_MS"), _candidates(compilation)
    rates = measure(compilation, [plan for _, plan in found], budget / 1000)
    cache_folder().publish(_file(compilation, found), json.dumps(rates).encode())
    return _chosen(found, rates, f"in {budget} ms")


def recall(compilation: Compilation) -> StreamSizes | None:
    """The best streams by stored rates; None where `calibrate` would measure."""
    found = _candidates(compilation)
    if len(found) == 1:
        return replace(found[0][0], reason="no other streams were worth measuring")
    rates = cache_folder().read(_file(compilation, found))
    return None if rates is None else _chosen(found, json.loads(rates), "before")


def _candidates(compilation: Compilation) -> Found:
    return alternatives(compilation.settings, compilation.topology, compilation.demand)


def _file(compilation: Compilation, found: Found) -> str:
    facts = key(compilation), *((chosen.streams, chosen.threads) for chosen, _ in found)
    return f"streams_{hashlib.sha256(repr(facts).encode()).hexdigest()[:40]}.json"


def _chosen(found: Found, rates: Sequence[float], source: str) -> StreamSizes:
    """The best candidate; `source` says when the rates were measured."""
    best, why = best_of(rates)
    figures = ", ".join(f"{_shape(plan)} {rate:.4g}" for (_, plan), rate in zip(found, rates))
    return replace(found[best][0], reason=f"{_shape(found[best][1])} {why}, measured {source}: inferences/s {figures}")


def best_of(rates: Sequence[float]) -> tuple[int, str]:
    """The position of the best rate, the first being that of the rules, and the reason."""
    best = max(range(len(rates)), key=rates.__getitem__)
    if not best:
        return 0, "is the best"
    if rates[0] > FASTEST:
        return 0, "stays, since inferences are over before the next one can be started"
    if rates[best] < MARGIN * rates[0]:
        return 0, f"stays, since nothing is more than {MARGIN - 1:.0%} better"
    return best, "is the best"


def _shape(plan: StreamPlan) -> str:
    """Streams by threads, as "2x4"; "12x1-2" where they differ."""
    sizes = sorted({len(share) for share in plan.shares})
    return f"{len(plan.shares)}x{'-'.join(map(str, sizes))}"


def measure(compilation: Compilation, plans: Sequence[StreamPlan], budget: float) -> list[float]:
    """Inferences per second of each plan, the median of its slices."""
    from statistics import median  # not above: streams are seldom measured

    slice_seconds = max(SHORTEST, budget / ROUNDS / len(plans))
    holders = Ledger().holders()
    with ExitStack() as stack:
        models = []
        for plan in plans:
            placed = around(plan, compilation.settings, compilation.topology, holders)
            model = build_model(compilation, StreamSetup(placed))
            stack.callback(model.executor.stop)
            models.append(model)
        requests = [[model.create_request() for _ in model.executor.streams] for model in models]
        infer = _one_by_one if has_one_stream(compilation.settings) else all_at_once
        for own in requests:
            all_at_once(own, 0)
        runs = [partial(infer, own, slice_seconds) for own in requests]
        samples = alternate(runs, budget, ROUNDS, hopeless=HOPELESS)
    return [1 / median(own) for own in samples]


def _one_by_one(requests: Sequence[CpuRequest], seconds: float) -> float:
    """Seconds of an inference of one caller."""
    count = 0
    begin = now = time.perf_counter()
    while not count or now < begin + seconds:
        requests[0].run()
        count += 1
        now = time.perf_counter()
    return (now - begin) / count


def all_at_once(requests: Sequence[CpuRequest], seconds: float) -> float:
    """Seconds for each inference with every request in flight: one over the sum of the rates of all requests.

    A request's rate counts until its last inference ends, so streams that wait for others at the end of the slice do
    not count as idle. The starts of the requests are spread over the time of one inference: streams in step would share
    weights that one of them fetched into the cache, and in practice they do not stay in step.
    """
    requests[0].run()
    begin = time.perf_counter()
    requests[0].run()
    apart = (time.perf_counter() - begin) / len(requests)
    any_completion = requests[0].any_completion(requests)
    begins, ends = {}, {}
    counts = Counter[CpuRequest]()
    for request in requests:
        if begins:
            time.sleep(apart)
        begins[request] = time.perf_counter_ns()
        request.start()
    deadline = time.perf_counter_ns() + int(seconds * 1e9)
    running = list(requests)
    while running:
        seen = any_completion.count
        for request in list(running):
            if not request.is_over:
                continue
            error, ends[request] = request.result()
            if error is not None:
                raise error
            counts[request] += 1
            if ends[request] < deadline:
                request.start()
            else:
                running.remove(request)
        if running:
            any_completion.wait(seen)
    return 1e-9 / sum(counts[request] / (ends[request] - begins[request]) for request in requests)
