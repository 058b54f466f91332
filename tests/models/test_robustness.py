"""A convolutional model under stress: many threads, interrupts, failing callbacks, dropped models, forks, early exits.

Each test is a process of its own, so that its memory and its end can be judged.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.judge import Net, check, onnx_runtime

import cpuruntime as ov

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 16

PREAMBLE = """
import gc, os, signal, sys, threading, time
sys.path.insert(0, {root!r})
import numpy as np
import psutil
import cpuruntime as ov

data = np.load({folder!r} + "/data.npz")
images, expected = data["images"], data["results"]
core = ov.Core()

def compile_model(streams=2, threads=2, name="small"):
    settings = {{"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads}}
    return core.compile_model({folder!r} + "/" + name + ".onnx", "CPU", settings)

def is_right(request, index):
    return np.array_equal(request.get_output_tensor().data, expected[index % len(images)])

def image(index):
    return images[index % len(images)]

def memory():
    gc.collect()
    return psutil.Process().memory_info().rss

def say(*words):
    print(*words, flush=True)
"""


def small_network() -> Net:
    """Convolutions of several kinds, a residual, a concatenation and a product."""
    n = Net()
    x = n("Relu", n.conv(n.input(1, 3, 20, 20), 3, 24, 5, strides=[2, 2]))
    y = n("Add", n.conv(x, 24, 24, 3, pads=[1] * 4), x)
    z = n("Concat", n("MaxPool", y, kernel_shape=[2, 2]), n.conv(x, 24, 10, 2, group=2), axis=1)
    z = n("GlobalAveragePool", n("Sigmoid", n.conv(z, 34, 40, 3)))
    n.output(n("Gemm", n("Flatten", z), n.weights(40, 11), n.weights(11)))
    return n


def large_network() -> Net:
    """Thirty steps of some milliseconds each."""
    n = Net()
    x = n.conv(n.input(1, 3, 256, 256), 3, 64, 3)
    for _ in range(30):
        x = n.conv(x, 64, 64, 3, pads=[1] * 4)
    n.output(n("GlobalAveragePool", x))
    return n


def dynamic_network() -> Net:
    """Convolutions and a concatenation, of images of any size."""
    n = Net()
    x = n("Relu", n.conv(n.input(1, 3, "height", "width"), 3, 20, 3, pads=[1] * 4))
    x = n("Concat", x, n.conv(x, 20, 12, 3, pads=[1] * 4), axis=1)
    n.output(n("GlobalAveragePool", x))
    return n


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, and images with the right results, which are the same bits on any streams."""
    path = tmp_path_factory.mktemp("robustness")
    model = small_network().model()
    images = np.random.default_rng(3).standard_normal((IMAGES, 1, 3, 20, 20), np.float32)
    compiled = ov.Core().compile_model(model, "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})
    results = np.stack([compiled(image)[0] for image in images])
    check(list(results), [onnx_runtime(model, {"x0": image})[0] for image in images])
    (path / "small.onnx").write_bytes(model.SerializeToString())
    (path / "large.onnx").write_bytes(large_network().model().SerializeToString())
    (path / "dynamic.onnx").write_bytes(dynamic_network().model().SerializeToString())
    np.savez(path / "data.npz", images=images, results=results)
    return path


class Script:
    """A Python process; one that hangs is aborted, and its status says so."""

    def __init__(self, folder: Path, body: str) -> None:
        program = PREAMBLE.format(root=str(ROOT), folder=str(folder)) + textwrap.dedent(body)
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-W", "error", "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._guard = threading.Timer(90, self.process.send_signal, [signal.SIGABRT])  # faulthandler shows the stacks
        self._guard.start()

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def finish(self) -> tuple[int, list[str], str]:
        """Its exit status, the lines it printed and its standard error."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with self.process:
            lines = [line.rstrip("\n") for line in self.process.stdout]
            errors = self.process.stderr.read()
            status = self.process.wait()
        self._guard.cancel()
        return status, lines, errors


def run(folder: Path, body: str) -> list[str]:
    """The lines that a script prints, which ends cleanly."""
    status, lines, errors = Script(folder, body).finish()
    assert (status, errors) == (0, ""), f"{lines}\n{errors}"
    return lines


@pytest.mark.parametrize(("streams", "threads"), [(2, 2), (1, 2), (1, 1), (0, 1)])
def test_ten_thousand_inferences_over_eight_requests_from_four_threads(
    folder: Path, streams: int, threads: int
) -> None:
    lines = run(
        folder,
        f"""
        compiled = compile_model({streams}, {threads})
        requests = [compiled.create_infer_request() for _ in range(8)]
        wrong, done = [], []

        def work(mine, first, count):
            for step in range(count):
                for k, request in enumerate(mine):
                    request.start_async(image(first + step + k))
                for k, request in enumerate(mine):
                    request.wait()
                    if not is_right(request, first + step + k):
                        wrong.append((first, step))
                done.append(len(mine))

        def burst(inferences):
            threads = [
                threading.Thread(target=work, args=(requests[2 * t : 2 * t + 2], 5 * t, inferences // 8))
                for t in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return memory()

        before = burst(2000)
        after = burst(8000)
        say(sum(done), len(wrong), (after - before) >> 20)
        """,
    )
    done, wrong, grown = map(int, lines[-1].split())
    assert (done, wrong) == (10_000, 0)
    assert grown < 3


def test_nothing_is_allocated_by_an_inference(folder: Path) -> None:
    """Neither Python objects nor memory of the process: one inference in flight on each stream, in three ways."""
    lines = run(
        folder,
        """
        import tracemalloc
        compiled = compile_model()
        requests = [compiled.create_infer_request() for _ in range(2)]
        for index, request in enumerate(requests):
            request.set_input_tensor(ov.Tensor(image(index)))

        def burst(count):
            for _ in range(count):
                for request in requests:
                    request.start_async()
                for request in requests:
                    request.wait()
                requests[0].infer(share_outputs=True)
                compiled(image(1))

        burst(500)
        tracemalloc.start()
        burst(200)
        gc.collect()
        objects = tracemalloc.get_traced_memory()[0]
        burst(2000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - objects
        tracemalloc.stop()
        before = memory()
        burst(3000)
        say(grown, (memory() - before) >> 10, is_right(requests[1], 1))
        """,
    )
    objects, kilobytes, right = lines[-1].split()
    assert int(objects) < 8000  # a byte for each inference
    assert int(kilobytes) <= 512
    assert right == "True"


def test_shapes_that_come_and_go_leave_no_memory_behind(folder: Path) -> None:
    lines = run(
        folder,
        """
        compiled = compile_model(2, 2, "dynamic")
        requests = [compiled.create_infer_request() for _ in range(2)]

        def visit_all():
            for size in range(3, 63):
                for request in requests:
                    request.start_async(np.ones((1, 3, size, 40), np.float32))
                for request in requests:
                    request.wait()
            return memory()

        seen = [visit_all() >> 20 for _ in range(8)]
        say(*seen)
        say(seen[-1] - seen[3])
        """,
    )
    assert int(lines[-1]) < 3, lines


INTERRUPTED = """
compiled = compile_model({streams}, 2)
request = compiled.create_infer_request()
queue = ov.AsyncInferQueue(compiled, 4)
bad = []
queue.set_callback(lambda one, index: None if is_right(one, index) else bad.append(index))

def over():
    for wait in (queue.wait_all, request.wait):
        try:
            wait()
        except ov.CancelledError:
            pass

for _ in range({interrupts}):
    try:
        say("ready")
        step = 0
        while True:
            step += 1
            queue.start_async(image(step), step)
            request.infer(image(step))
            queue.start_async(image(step + 1), step + 1)
            request.start_async(image(step))
            request.wait()
            if not is_right(request, step):
                bad.append(-step)
    except KeyboardInterrupt:
        over()
        for index in range(8):
            queue.start_async(image(index), index)
        queue.wait_all()
        request.infer(image(3))
        say("right" if is_right(request, 3) and not bad else bad)
"""


@pytest.mark.parametrize("streams", [1, 2])
def test_ctrl_c_in_the_middle_loses_nothing(folder: Path, streams: int) -> None:
    interrupts = 20
    script = Script(folder, INTERRUPTED.format(streams=streams, interrupts=interrupts))
    for interrupt in range(interrupts):
        assert script.line() == "ready", script.finish()
        time.sleep(0.005 + interrupt / 1000)  # so that it strikes while work is under way; any moment will do
        script.process.send_signal(signal.SIGINT)
        assert script.line() == "right", script.finish()
    assert script.finish() == (0, [], "")


def test_ctrl_c_ends_a_program(folder: Path) -> None:
    script = Script(
        folder,
        """
        compiled = compile_model(2, 2, "large")
        queue = ov.AsyncInferQueue(compiled, 8)
        say("running")
        while True:
            queue.start_async(np.zeros((1, 3, 256, 256), np.float32))
        """,
    )
    assert script.line() == "running"
    time.sleep(0.2)
    script.process.send_signal(signal.SIGINT)
    status, _, errors = script.finish()
    assert status == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert errors.endswith("KeyboardInterrupt\n")


def test_a_callback_that_raises_harms_nothing_else(folder: Path) -> None:
    lines = run(
        folder,
        """
        compiled = compile_model()
        queue = ov.AsyncInferQueue(compiled, 4)
        good = []

        def callback(request, index):
            if index % 7 == 3:
                raise ValueError(f"inference {index}")
            good.append(is_right(request, index))

        queue.set_callback(callback)
        raised = 0
        for index in range(2000):
            try:
                queue.start_async(image(index), index)
            except ValueError:
                try:
                    queue.wait_all()
                except ValueError as error:
                    raised += str(error).startswith("inference ")
                queue.start_async(image(index), index)
        try:
            queue.wait_all()
        except ValueError:
            pass
        queue.wait_all()
        say(raised > 50, len(good), all(good))

        request = compiled.create_infer_request()
        request.set_callback(lambda number: 1 // number, 0)
        for _ in range(100):
            request.start_async(image(5))
            try:
                request.wait()
            except ZeroDivisionError:
                raised += 1
        request.set_callback(lambda number: None, 1)
        request.start_async(image(5))
        request.wait()
        say(raised >= 150, is_right(request, 5))
        """,
    )
    assert lines == ["True 1714 True", "True True"]


def test_a_compiled_model_dropped_while_requests_run(folder: Path) -> None:
    lines = run(
        folder,
        """
        threads = threading.active_count()

        def drop(rounds):
            good = True
            for round in range(rounds):
                compiled = compile_model(1 + round % 2, 2)
                requests = [compiled.create_infer_request() for _ in range(4)]
                for index, request in enumerate(requests):
                    request.start_async(image(index))
                del compiled
                for index, request in enumerate(requests):
                    request.wait()
                    good &= is_right(request, index)
                    request.infer(image(index + 1))
                    good &= is_right(request, index + 1)
            return good

        def abandon(rounds):
            "The requests go too, while they run."
            for _ in range(rounds):
                compiled = compile_model(2, 2)
                requests = [compiled.create_infer_request() for _ in range(4)]
                for index, request in enumerate(requests):
                    request.start_async(image(index))
                del compiled, requests, request

        good = drop(30)
        abandon(30)
        before = memory()
        good &= drop(100)
        abandon(100)
        end = time.monotonic() + 100
        while threading.active_count() > threads and time.monotonic() < end:
            time.sleep(0.01)
        say(good, threading.active_count() - threads, (memory() - before) >> 20)
        """,
    )
    good, threads, grown = lines[-1].split()
    assert (good, threads) == ("True", "0")
    assert int(grown) < 12


def test_a_closed_model_finishes_what_runs(folder: Path) -> None:
    lines = run(
        folder,
        """
        with compile_model() as compiled:
            requests = [compiled.create_infer_request() for _ in range(4)]
            for index, request in enumerate(requests):
                request.start_async(image(index))
        for index, request in enumerate(requests):
            request.wait()
            say(is_right(request, index))
        for call in (requests[0].infer, requests[0].start_async, compiled.create_infer_request):
            try:
                call()
            except ov.Error as error:
                say(type(error).__name__)
        """,
    )
    assert lines == ["True"] * 4 + ["Error"] * 3


def test_a_forked_child_is_told_and_compiles_anew(folder: Path) -> None:
    lines = run(
        folder,
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        compiled = compile_model()
        request = compiled.create_infer_request()
        request.infer(image(0))
        child = os.fork()
        if not child:
            try:
                request.infer(image(0))
            except ov.Error as error:
                say(error)
            again = compile_model().create_infer_request()
            again.infer(image(1))
            say("child", is_right(again, 1))
            sys.exit(5)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        request.infer(image(2))
        say("parent", is_right(request, 2))
        """,
    )
    assert lines[0].startswith("This compiled model was made before the process forked")
    assert lines[1:] == ["child True", "5", "parent True"]


@pytest.mark.parametrize(
    ("ending", "status"),
    [("", 0), ("sys.exit(3)", 3), ("raise ValueError('mine')", 1), ("del compiled, requests", 0)],
)
def test_a_process_with_running_requests_ends(folder: Path, ending: str, status: int) -> None:
    script = Script(
        folder,
        f"""
        compiled = compile_model(2, 2, "large")
        requests = [compiled.create_infer_request() for _ in range(40)]
        for request in requests:
            request.start_async(np.zeros((1, 3, 256, 256), np.float32))
        del request
        say("end")
        {ending}
        """,
    )
    found, lines, errors = script.finish()
    assert (found, lines) == (status, ["end"])
    assert errors == "" if status != 1 else errors.endswith("ValueError: mine\n")
