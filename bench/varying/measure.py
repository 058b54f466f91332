"""Measures the engines on a subject, a round after the other, and in each round one engine after the other."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from peer.ratios import output_error, rotated
from varying.subjects import SUBJECTS, Sizes, shapes
from varying.worker import Engine

TURNS = (10, 20, 100)
NEW, SEEN = "new shape", "seen shape"
_PATIENCE = 1000
FEWER = 1000
"""Shapes that memory of the engines but for the first is looked at over, at most: some take long for a new one."""
SITUATIONS = (NEW, SEEN, *(f"{count} in turn" for count in TURNS))


@dataclass
class Measured:
    """One engine on one subject: for each situation the median of each round, in milliseconds."""

    rounds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SITUATIONS})
    load_seconds: float = 0.0
    error: float = 0.0
    """The largest difference to the outputs of the first engine, relative to their largest magnitude."""
    memory: dict[int, float] = field(default_factory=dict)
    """Resident mebibytes after so many shapes, and under 0 after closing."""
    failure: str = ""

    def median(self, situation: str) -> float:
        """The median of the rounds; NaN when there is none."""
        values = self.rounds[situation]
        return statistics.median(values) if values else float("nan")


@dataclass(frozen=True)
class Plan:
    """`fresh` new shapes a round; memory is looked at after each of `milestones`, in shapes."""

    engines: Sequence[str]
    threads: int
    rounds: int
    fresh: int
    milestones: Sequence[int]


def measure(subject: str, plan: Plan, progress: Callable[[str], None]) -> dict[str, Measured]:
    """Every engine's figures. What goes wrong with an engine is a part of them."""
    found = {name: Measured() for name in plan.engines}
    with tempfile.TemporaryDirectory(prefix="cpuruntime-dynamic-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(SUBJECTS[subject].build(), path)
        engines = {}
        for name in plan.engines:
            progress(f"{subject}: {name} loads the model")
            try:
                engines[name] = Engine(name, subject, path, plan.threads)
                found[name].load_seconds = engines[name].load_seconds
            except RuntimeError as error:
                found[name].failure = str(error)
        _times(subject, plan, engines, found, progress)
        for engine in engines.values():
            if not found[engine.name].failure:
                engine.close()
        if SUBJECTS[subject].flat and plan.milestones:
            for name in plan.engines:
                progress(f"{subject}: memory of {name}")
                try:
                    found[name].memory = _memory(name, subject, path, plan)
                except RuntimeError as error:
                    found[name].failure = str(error)
    return found


def _times(
    subject: str,
    plan: Plan,
    engines: dict[str, Engine],
    found: dict[str, Measured],
    progress: Callable[[str], None],
) -> None:
    drawn = _distinct(shapes(subject))
    # The first shapes compile kernels, and are seen twice then; nothing is measured on them.
    first = list(itertools.islice(drawn, max(TURNS)))
    situations = {SEEN: [sizes for sizes in first[:4] for _ in range(max(2, plan.fresh // 4))]}
    situations |= {f"{count} in turn": first[:count] * max(1, plan.fresh // count) for count in TURNS}
    tasks = [("first shapes", first), ("the same again", first)]
    for _ in range(plan.rounds):
        tasks += [(NEW, list(itertools.islice(drawn, plan.fresh))), *situations.items()]
    reference = None
    for turn, (situation, sizes) in enumerate(tasks):
        progress(f"{subject}: {situation}, {turn + 1} of {len(tasks)}")
        for name in rotated(list(engines), turn):
            if found[name].failure:
                continue
            try:
                times = engines[name].times(sizes)
                if turn == 0:
                    outputs = engines[name].outputs(first[0])
                    reference = reference or outputs
                    found[name].error = output_error(outputs, reference)
            except RuntimeError as error:
                found[name].failure = str(error)
                continue
            if times and situation in SITUATIONS:
                found[name].rounds[situation].append(statistics.median(times))


def _distinct(drawn: Iterator[Sizes]) -> Iterator[Sizes]:
    """Each of the sizes only once; ends when hardly any are left."""
    seen: set[Sizes] = set()
    again = 0
    for sizes in drawn:
        again = again + 1 if sizes in seen else 0
        if again > _PATIENCE:
            return
        if not again:
            seen.add(sizes)
            yield sizes


def _memory(name: str, subject: str, path: Path, plan: Plan) -> dict[int, float]:
    engine = Engine(name, subject, path, plan.threads)
    drawn = shapes(subject, seed=1)
    memory = {}
    count = 0
    for milestone in [most for most in plan.milestones if most <= FEWER or name == plan.engines[0]]:
        while count < milestone:
            part = min(100, milestone - count)
            engine.times(list(itertools.islice(drawn, part)))
            count += part
        memory[count] = engine.memory()
    memory[0] = engine.close()
    return memory
