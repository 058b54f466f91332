"""Measures devices over devices: the end of a burst, the cost of a request, first answers, and what changes lose.

    python bench/devices.py multi
    python bench/devices.py auto

`multi`: a burst of 100 requests on a fast and a ten times slower device, by each policy; a request on MULTI, with one
device and with two, against CPU; two halves of the CPU against all of it; and requests while a device is unplugged and
plugged in again and again, each of which must answer once and rightly.
`auto`: the first answer while the chosen device compiles for seconds, against CPU; requests of four threads while the
model changes over to that device; and a request on AUTO with one device against CPU.
Exits with 1 when a limit is not met.
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
PRODUCTS = """<ir_version: 8, opset_import: ["" : 17]>
products (float[256, 256] x) => (float[256, 256] y) { a = MatMul (x, x) b = Tanh (a) y = MatMul (b, x) }"""
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
    add("--rounds", type=positive, default=3, help="repetitions, of which the best counts (default: 3)")
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
    for device in ("MULTI:CPU", "MULTI:CPU(1),NULL(1)"):
        rows += [shown(row) for row in overhead(device, options.rounds, 4.0)]
    rows += [shown(row) for row in halves(options.rounds)]
    return rows + [shown(row) for row in unplugged(options.requests)]


def auto(options: argparse.Namespace) -> list[Row]:
    """All about AUTO."""
    rows = [shown(first_answer(options.rounds))]
    rows += [shown(row) for row in changed_over(options.rounds)]
    return rows + [shown(row) for row in overhead("AUTO", options.rounds, 1.0)]


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


def overhead(device: str, rounds: int, limit: float) -> list[Row]:
    """Microseconds that a device adds to a request on CPU; both are measured in turns, and the best counts."""
    core, config = ov.Core(), {"NUM_STREAMS": 1}
    in_order = {"SCHEDULE_POLICY": "DEVICE_PRIORITY"}  # the CPU has them all
    models = [core.compile_model(parsed(), "CPU", config), core.compile_model(parsed(), device, config | in_order)]
    rows = []
    measures = {"infer()": in_infer, "start_async() and wait()": in_async, "AsyncInferQueue": in_queue}
    for title, measure in measures.items():
        runs = [measure(model) for model in models]
        best = [min(times) for times in zip(*([run() for run in runs] for _ in range(rounds * 200)))]
        rows.append(Row(f"{device} beyond {best[0]:.1f} us of CPU, {title}", best[1] - best[0], "us", limit))
    return rows


def halves(rounds: int) -> list[Row]:
    """Requests a second of two CPU devices on half of the cores each, as a part of what one of all cores computes."""
    core = ov.Core()
    core.set_property("CPU", {"CPU_INSTANCES": 2})
    model = onnx.parser.parse_model(PRODUCTS)
    throughput = {"PERFORMANCE_HINT": "THROUGHPUT"}
    models = [core.compile_model(model, device, throughput) for device in ("CPU", "MULTI:CPU.0,CPU.1")]
    x = np.random.default_rng(0).standard_normal((256, 256), np.float32)
    whole, divided = (one([x])[0] for one in models)
    seconds = [min(times) for times in zip(*([in_flight(one, x) for one in models] for _ in range(rounds * 3)))]
    return [
        Row("results of two halves of the CPU that differ", float((whole != divided).sum()), "", 0),
        Row("time of 400 requests on two halves of the CPU", seconds[1] / seconds[0], "of that on CPU"),
    ]


def in_flight(model: ov.CompiledModel, x: np.ndarray) -> float:
    """Seconds of 400 requests by a queue."""
    queue = ov.AsyncInferQueue(model)
    began = time.perf_counter()
    for _ in range(400):
        queue.start_async([x])
    queue.wait_all()
    return time.perf_counter() - began


def first_answer(rounds: int) -> Row:
    """Milliseconds that AUTO adds to CPU's first answer while the chosen device compiles; in turns, the best count."""
    core = ov.Core()
    core.set_property("SIMULATED.0", {"SIMULATED_COMPILE_MS": 5000})
    x = np.ones((1, 16), np.float32)
    best = {"CPU": float("inf"), "AUTO:SIMULATED.0,CPU": float("inf")}
    for _ in range(rounds * 5):
        for device in best:
            began = time.perf_counter()
            with core.compile_model(parsed(), device) as model:
                model([x])
                best[device] = min(best[device], (time.perf_counter() - began) * 1e3)
    alone, together = best.values()
    return Row(f"first answer of AUTO beyond {alone:.1f} ms of CPU", together - alone, "ms", 10.0)


def changed_over(rounds: int) -> list[Row]:
    """Requests of four threads, before, while and after another device takes over."""
    core, asked, right = ov.Core(), [0] * 4, [0] * 4
    core.set_property("SIMULATED.0", {"SIMULATED_COMPILE_MS": 300})

    def ask(model: ov.CompiledModel, thread: int, over: threading.Event) -> None:
        request, number = model.create_infer_request(), 0
        while not over.is_set():
            number += 1
            asked[thread] += 1
            x = np.full((1, 16), thread * 1_000_000 + number, np.float32)
            if number % 2:
                result = request.infer([x])[0]
            else:
                request.start_async([x])
                request.wait()
                result = request.get_output_tensor().data
            right[thread] += bool((result == -x).all())

    devices = set()
    for _ in range(rounds):
        model, over = core.compile_model(parsed(), "AUTO:SIMULATED.0,CPU"), threading.Event()
        threads = [threading.Thread(target=ask, args=(model, number, over)) for number in range(4)]
        for thread in threads:
            thread.start()
        devices |= {*model.get_property("EXECUTION_DEVICES")}
        model.wait_until_optimized()
        time.sleep(0.2)
        over.set()
        for thread in threads:
            thread.join()
        devices |= {*model.get_property("EXECUTION_DEVICES")}
        print("\n".join(line for line in model.explain().decisions if "served" in line))
    return [
        Row("change-over from (CPU) to SIMULATED.0: devices that served", float(len(devices)), ""),
        Row(f"requests without the right answer, of {sum(asked)}", float(sum(asked) - sum(right)), "", 0),
    ]


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


def timed(function: Callable[[], object], calls: int = 40) -> float:
    """Microseconds of a call; so few that other processes leave some of the repetitions alone."""
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


SUBJECTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {"multi": multi, "auto": auto}

if __name__ == "__main__":
    sys.exit(main())
