"""Measures devices over devices: the end of a burst, the cost of a request, and what a lost device loses.

    python bench/devices.py multi

`multi`: a burst of 100 requests on a fast and a ten times slower device, by each policy; a request on MULTI:CPU against
CPU; and requests while a device is unplugged and plugged in again and again, each of which must answer once and
rightly. Exits with 1 when a limit is not met.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx.parser

import cpuruntime as ov
from cpuruntime.cli.parser import Parser, positive

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
negation (float[1, 16] x) => (float[1, 16] y) { y = Neg (x) }"""
FAST_MS, SLOW_MS, BURST = 10.0, 100.0, 100
POLICIES = ("EARLIEST_FINISH", "ROUND_ROBIN", "DEVICE_PRIORITY")


@dataclass(frozen=True)
class Row:
    """A measured value; `limit` is the most that is allowed, None where nothing is asked."""

    title: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the limit is met."""
        return self.limit is None or self.value <= self.limit

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        limit = "" if self.limit is None else f"  (at most {self.limit:g}: {verdict})"
        return f"{self.title:58} {self.value:10.2f} {self.unit}{limit}"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = Parser(prog="devices.py", description="Measure devices over devices.")
    add = options.add_argument
    add("subject", choices=SUBJECTS, help="what to measure")
    add("--requests", type=positive, default=100_000, help="requests while a device comes and goes (default: 100,000)")
    add("--rounds", type=positive, default=3, help="repetitions, of which the best counts (default: 5)")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        register(Path(folder))
        rows = SUBJECTS[options.subject](options)
    return 0 if all(row.holds for row in rows) else 1


def register(folder: Path) -> None:
    """Have a distribution in `folder` that registers the device SIMULATED."""
    installed = folder / "simulated-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: simulated\nVersion: 1\n")
    entry = "[cpuruntime.devices]\nSIMULATED = cpuruntime.testing.simulated:SimulatedPlugin\n"
    (installed / "entry_points.txt").write_text(entry)
    sys.path.insert(0, str(folder))


def shown(row: Row) -> Row:
    """Prints a row at once."""
    print(row, flush=True)
    return row


def multi(options: argparse.Namespace) -> list[Row]:
    """All about MULTI."""
    rows = [shown(burst(policy, options.rounds)) for policy in POLICIES]
    rows += [shown(row) for row in overhead(options.rounds)]
    return rows + [shown(row) for row in unplugged(options.requests)]


def burst(policy: str, rounds: int) -> Row:
    """How long a burst takes on a fast and a slow device, as a multiple of the optimum for what they take alone."""
    core = ov.Core()
    for instance, milliseconds in enumerate((SLOW_MS, FAST_MS)):
        core.set_property(f"SIMULATED.{instance}", {"SIMULATED_INFERENCE_MS": milliseconds, "NUM_STREAMS": 1})
    model = core.compile_model(parsed(), "MULTI:SIMULATED.0(1),SIMULATED.1(1)", {"SCHEDULE_POLICY": policy})
    slow, fast = (at_once(core.compile_model(parsed(), f"SIMULATED.{i}"), n) / n for i, n in enumerate((3, 30)))
    seconds = [at_once(model, BURST) for _ in range(rounds)]
    optimum = min(max(share * slow, (BURST - share) * fast) for share in range(BURST))
    # ROUND_ROBIN and DEVICE_PRIORITY are here to compare with
    limit = 1.05 if policy == POLICIES[0] else None
    return Row(f"burst of {BURST}, {policy}", min(seconds) / optimum, "of the optimum", limit)


def at_once(model: ov.CompiledModel, count: int) -> float:
    """Seconds that so many requests take, all started at once."""
    requests = [model.create_infer_request() for _ in range(count)]
    began = time.perf_counter()
    for request in requests:
        request.start_async()
    for request in requests:
        request.wait()
    return time.perf_counter() - began


def overhead(rounds: int) -> list[Row]:
    """Microseconds that MULTI:CPU adds to a request on CPU; both are measured in turns, and the best counts."""
    core = ov.Core()
    models = [core.compile_model(parsed(), device, {"NUM_STREAMS": 1}) for device in ("CPU", "MULTI:CPU")]
    rows = []
    measures = {"infer()": in_infer, "start_async() and wait()": in_async, "AsyncInferQueue": in_queue}
    for title, measure in measures.items():
        runs = [measure(model) for model in models]
        best = [min(times) for times in zip(*([run() for run in runs] for _ in range(rounds * 30)))]
        rows.append(Row(f"MULTI:CPU beyond {best[0]:.1f} us of CPU, {title}", best[1] - best[0], "us", 4.0))
    return rows


def in_infer(model: ov.CompiledModel) -> Callable[[], float]:
    """Microseconds of `infer()`."""
    request = model.create_infer_request()
    return lambda: timed(request.infer)


def in_async(model: ov.CompiledModel) -> Callable[[], float]:
    """Microseconds of `start_async()` and `wait()`."""
    request = model.create_infer_request()

    def once() -> None:
        request.start_async()
        request.wait()

    return lambda: timed(once)


def in_queue(model: ov.CompiledModel) -> Callable[[], float]:
    """Microseconds of a request in a row of them."""
    queue = ov.AsyncInferQueue(model, 4)

    def run() -> float:
        took = timed(queue.start_async)
        queue.wait_all()
        return took

    return run


def timed(function: Callable[[], object], calls: int = 300) -> float:
    """Microseconds of a call."""
    began = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - began) / calls * 1e6


def unplugged(count: int) -> list[Row]:
    """Requests by a queue while one of three devices is lost and comes back: how many got lost, or answered twice."""
    core = ov.Core()
    devices, config = "MULTI:SIMULATED.0(2),SIMULATED.1(2),CPU(1)", {"SCHEDULE_POLICY": "ROUND_ROBIN"}
    model = core.compile_model(parsed(), devices, config)
    answers, faults = np.zeros(count, int), []
    queue = ov.AsyncInferQueue(model, 8)

    def note(request: ov.InferRequest, number: int) -> None:
        answers[number] += 1
        if not (request.get_output_tensor().data == -number).all():
            faults.append(number)

    queue.set_callback(note)
    over = threading.Event()
    changes = threading.Thread(target=change, args=(core, over))
    changes.start()
    began = time.perf_counter()
    for number in range(count):
        queue.start_async([np.full((1, 16), number, np.float32)], number)
    queue.wait_all()
    seconds = time.perf_counter() - began
    over.set()
    changes.join()
    print("\n".join(line for line in model.explain().decisions if "inferences by" in line))
    return [
        Row(f"requests that got lost, of {count}", float((answers == 0).sum()), "", 0),
        Row("requests that were answered twice", float((answers > 1).sum()), "", 0),
        Row("wrong answers", float(len(faults)), "", 0),
        Row("time of a request", seconds / count * 1e6, "us"),
    ]


def change(core: ov.Core, over: threading.Event) -> None:
    """Unplug a device and plug it in again until it is over."""
    is_gone = False
    while not over.wait(0.05):
        is_gone = not is_gone
        core.set_property("SIMULATED.1", {"SIMULATED_UNPLUGGED": is_gone})


def parsed() -> onnx.ModelProto:
    """The model: y = -x."""
    return onnx.parser.parse_model(MODEL)


SUBJECTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {"multi": multi}

if __name__ == "__main__":
    sys.exit(main())
