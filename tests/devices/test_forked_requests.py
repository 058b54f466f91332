"""Requests and queues in a forked child: what was in flight in the parent is over there, with an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.complaints import complaints

TESTS = Path(__file__).resolve().parents[1]

PREAMBLE = f"""
import asyncio, logging, os, signal, sys, threading, warnings
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads
logging.disable()  # callbacks are slow on a busy machine
import numpy as np
import cpuruntime as ov
from support.onnx_models import one_input
from cpuruntime.testing.probes import device_of, state_of, wait_over
from support.stream_tasks import Gate

x = np.ones((2, 3), np.float32)

def compile_model(**config):
    return ov.Core().compile_model(one_input(), "CPU", {{"NUM_STREAMS": 1, **config}})

def hold(compiled):
    "Keeps the only stream until the gate is opened."
    device = device_of(compiled)
    return Gate(getattr(device, "models", [device])[0].executor)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def attempt(name, function, *arguments):
    try:
        say(name, function(*arguments))
    except ov.Error as error:
        say(name, "told" if "made before the process forked" in str(error) else error)

def in_child(*calls):
    "Makes the calls, each a name, a function and arguments, in a forked child, and waits for that."
    child = os.fork()
    if not child:
        signal.alarm(20)  # ends it, if it hangs
        for call in calls:
            attempt(*call)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "the child hung"
"""


def run(script: str) -> list[str]:
    """The lines that a script prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE + script], capture_output=True, text=True, timeout=80
    )
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("target", ["", "LATENCY_TARGET_MS=10_000"])
@pytest.mark.parametrize("callback", [False, True])
def test_a_request_in_flight(target: str, callback: bool) -> None:
    lines = run(f"""
compiled = compile_model({target})
request = compiled.create_infer_request()
seen = []
if {callback}:
    request.set_callback(seen.append, "called")
gate = hold(compiled)
request.start_async(x)
async def wait():
    await request
in_child(
    ("wait", request.wait),
    ("wait_for", request.wait_for, 60_000),
    ("busy", request.is_busy),
    ("await", lambda: asyncio.run(wait())),
    ("start", request.start_async),
    ("infer", request.infer),
    ("callbacks", len, seen),
)
gate.open()
request.wait()
say("parent", len(seen), float(request.results[0][0, 0]))
""")
    told = ["wait told", "wait_for told", "busy False", "await told", "start told", "infer told", "callbacks 0"]
    assert lines == [*told, f"parent {int(callback)} -1.0"]


@pytest.mark.parametrize("target", ["", "LATENCY_TARGET_MS=10_000"])
@pytest.mark.parametrize("callback", [False, True])
def test_a_full_queue(target: str, callback: bool) -> None:
    lines = run(f"""
compiled = compile_model({target})
queue = ov.AsyncInferQueue(compiled, 2)
seen = []
if {callback}:
    queue.set_callback(lambda *_: seen.append(1), on_error=lambda *_: seen.append(1))
gate = hold(compiled)
for _ in queue:
    queue.start_async(x)
for first in (("start", queue.start_async), ("index", queue.get_idle_request_id), ("ready", queue.is_ready)):
    in_child(first, ("all", queue.wait_all), ("again", queue.wait_all), ("next", queue.start_async),
             ("callbacks", len, seen))
gate.open()
queue.wait_all()
queue.start_async(x)
queue.wait_all()
say("parent", len(seen))
""")
    then = ["all told", "again None", "next told", "callbacks 0"]
    told = ["start told", *then, "index told", *then, "ready True", *then]
    assert lines == [*told, f"parent {3 * callback}"]


def test_one_that_is_over_is_over_in_the_child() -> None:
    lines = run("""
compiled = compile_model()
quiet, told = compiled.create_infer_request(), compiled.create_infer_request()
told.set_callback(lambda _: None, None)
queue = ov.AsyncInferQueue(compiled, 2)
for request in (quiet, told):
    request.start_async(x)
    wait_over(request)
queue.start_async(x)
wait_over(queue[0])
result = lambda request: float(request.results[0][0, 0])
in_child(("quiet", quiet.wait), ("quiet", result, quiet), ("told", told.wait), ("told", result, told),
         ("queue", queue.wait_all), ("queue", result, queue[0]))
""")
    assert lines == ["quiet None", "quiet -1.0", "told None", "told -1.0", "queue None", "queue -1.0"]


@pytest.mark.parametrize("streams", [0, 1])
def test_a_fork_in_a_callback(streams: int) -> None:
    lines = run(f"""
compiled = compile_model(NUM_STREAMS={streams})
request, queue = compiled.create_infer_request(), ov.AsyncInferQueue(compiled, 2)
request.set_callback(lambda _: in_child(("request", request.wait)), None)
request.start_async(x)
request.wait()
def callback(one, _):
    in_child(("queue", one.wait), ("result", lambda: float(one.results[0][0, 0])),
             ("idle", lambda: list(state_of(queue).idle)), ("errors", lambda: list(state_of(queue).errors)))
queue.set_callback(callback)
queue.start_async(x)
queue.wait_all()
""")
    assert lines == ["request None", "queue None", "result -1.0", "idle [1]", "errors []"]


def test_a_fork_while_another_thread_is_in_a_callback() -> None:
    lines = run("""
compiled = compile_model()
queue = ov.AsyncInferQueue(compiled, 1)
entered, leave = threading.Event(), threading.Event()
queue.set_callback(lambda *_: (entered.set(), leave.wait(30)))
queue.start_async(x)
entered.wait(30)
in_child(("request", queue[0].wait), ("queue", queue.wait_all), ("start", queue.start_async))
leave.set()
queue.wait_all()
""")
    assert lines == ["request told", "queue told", "start told"]


def test_a_fork_in_a_signal_handler_while_the_thread_waits() -> None:
    lines = run("""
compiled = compile_model()
request, queue = compiled.create_infer_request(), ov.AsyncInferQueue(compiled, 1)
request.set_callback(lambda _: None, None)
queue.set_callback(lambda *_: None)
gate = hold(compiled)
request.start_async(x)
queue.start_async(x)
parent = os.getpid()
def fork(*_):
    child = os.fork()
    if not child:
        signal.alarm(20)
        return
    assert os.waitpid(child, 0)[1] == 0, "the child hung"
    gate.open()
signal.signal(signal.SIGUSR1, fork)
main = threading.main_thread().ident
for name, wait in (("request", request.wait), ("queue", queue.start_async)):
    threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1)).start()
    attempt(name, wait)
    if os.getpid() != parent:
        os._exit(0)
    queue.wait_all()
    gate = hold(compiled)
    queue.start_async(x)
gate.open()
queue.wait_all()
""")
    assert lines == ["request told", "request None", "queue told", "queue None"]


def test_a_callback_of_another_thread_does_not_run_in_the_child() -> None:
    lines = run("""
from cpuruntime.streams import running_callbacks
entered, leave = threading.Event(), threading.Event()
other = compile_model().create_infer_request()
other.set_callback(lambda _: (entered.set(), leave.wait(30)), None)
other.start_async(x)
entered.wait(30)
say("parent", len(running_callbacks.running))
in_child(("names", running_callbacks.names))
leave.set()
other.wait()
""")
    assert lines == ["parent 1", "names "]


def test_the_reference_device() -> None:
    lines = run("""
from cpuruntime.devices.reference import plugin as reference
entered, leave, evaluate = threading.Event(), threading.Event(), reference.evaluate
def held(*arguments):
    entered.set()
    leave.wait(30)
    return evaluate(*arguments)
reference.evaluate = held
request = ov.Core().compile_model(one_input(), "REFERENCE").create_infer_request()
request.start_async(x)
entered.wait(30)
in_child(("wait", request.wait), ("start", request.start_async), ("infer", request.infer))
leave.set()
request.wait()
say("parent", float(request.results[0][0, 0]))
""")
    assert lines == ["wait told", "start told", "infer told", "parent -1.0"]


def test_a_latency_target_is_no_excuse() -> None:
    """What the parent was about to do with its admission, and how full that was, does not matter in the child."""
    lines = run("""
compiled = compile_model(LATENCY_TARGET_MS=10_000)
request = compiled.create_infer_request()
device = device_of(compiled)
held, go = threading.Event(), threading.Event()
def hold_mutex():
    with device.gate.lock:
        for variant in device.gate.admission.variants:
            variant.service = 10**12
        held.set()
        go.wait(60)
thread = threading.Thread(target=hold_mutex)
thread.start()
held.wait()
in_child(("infer", request.infer), ("start", request.start_async), ("explain", lambda: len(compiled.explain().rows)))
go.set()
thread.join()
""")
    assert lines == ["infer told", "start told", "explain 1"]


DEVICES = ["MULTI:CPU(1),REFERENCE(1)", "AUTO:REFERENCE,CPU", "BATCH:REFERENCE(2)", "MULTI:[HETERO:CPU,REFERENCE],CPU"]


@pytest.mark.parametrize("device", DEVICES)
def test_devices_over_devices_say_so_in_the_child_and_go_on_in_the_parent(device: str) -> None:
    lines = run(f"""
with ov.Core().compile_model(one_input(), {device!r}) as compiled:
    compiled.wait_until_optimized()
    requests = [compiled.create_infer_request() for _ in range(4)]
    for request in requests:
        request.start_async(x)
    in_child(("infer", lambda: requests[0].infer(x)), ("compiled", lambda: compiled(x)))
    for request in requests:
        request.wait()
    say("parent", (compiled(x)[0] == -x).all())
""")
    assert lines == ["infer told", "compiled told", "parent True"]


def test_a_request_that_infers_in_one_step_infers_no_more() -> None:
    lines = run("""
from cpuruntime.testing.probes import make_quick
request = compile_model().create_infer_request()
for _ in range(2):
    request.infer(x)
make_quick(request)
in_child(("infer", request.infer), ("start", request.start_async))
say("parent", float(request.infer()[0][0, 0]))
""")
    assert lines == ["infer told", "start told", "parent -1.0"]


def test_a_fork_while_the_main_thread_is_not_to_be_interrupted_leaves_ctrl_c_to_the_child() -> None:
    lines = run("""
from cpuruntime.host.interrupts import uninterrupted
begun = threading.Event()
def fork():
    begun.wait()
    in_child(("child", lambda: signal.getsignal(signal.SIGINT) is signal.default_int_handler))
forker = threading.Thread(target=fork)
forker.start()
@uninterrupted
def work():
    begun.set()
    forker.join()
    in_child(("child of the main thread", lambda: signal.getsignal(signal.SIGINT) is signal.default_int_handler))
signal.signal(signal.SIGINT, signal.default_int_handler)
work()
""")
    assert lines == ["child True", "child of the main thread False"]
