"""How processes with streams end, are interrupted and fork."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.complaints import complaints

TESTS = Path(__file__).resolve().parents[1]

PREAMBLE = f"""
import os, random, signal, sys, threading, time
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
from cpuruntime.errors import CancelledError, Error
from cpuruntime.streams import base
from cpuruntime.streams.executor import create_executor
from support.stream_tasks import Call, Delay, Neighbours, Run

def interrupt_main(after):
    def send():
        time.sleep(after)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    threading.Thread(target=send, daemon=True).start()

def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)

def check(executor):
    "All streams work, one by one and together."
    work = Neighbours(16, 4)
    for _ in range(20):
        expected = work.fill(3)
        executor.run(Run(work.job))
        assert work.result.tolist() == expected.tolist()
    meeting = threading.Barrier(len(executor.streams))
    tasks = [Call(lambda stream: meeting.wait(30)) for _ in executor.streams]
    for task in tasks:
        executor.submit(task)
    assert all(task.wait(30) for task in tasks)
    assert [task.errors for task in tasks] == [[None]] * len(tasks), [task.errors for task in tasks]

LONG = 20_000  # steps of 10 ms: nobody waits for their end
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Runs a script; kills it when it takes longer than any of them can, but less than LONG."""
    line = [sys.executable, "-W", "error", "-X", "faulthandler", "-c", PREAMBLE + script]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    guard = threading.Timer(100, process.kill)
    guard.start()
    output, errors = process.communicate()
    guard.cancel()
    return subprocess.CompletedProcess(process.args, process.returncode, output, complaints(errors))


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1)])
def test_exit_with_work_in_flight(shape: tuple[int, int]) -> None:
    done = run(f"""
executor = create_executor(*{shape}, pin=False)
tasks = [Run(Delay(10, LONG).job) for _ in range(4)]
for task in tasks:
    task.start(executor, lambda: os.write(1, b"callback\\n"))
print("end", flush=True)
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "end\n" + "callback\n" * 4


def test_exit_while_a_daemon_thread_runs_an_inference() -> None:
    done = run("""
executor = create_executor(1, 2, pin=False)
work = Delay(10, LONG)
def infer():
    try:
        executor.run(Run(work.job))
    except CancelledError:
        pass
threading.Thread(target=infer, daemon=True).start()
until(lambda: work.begun)
print("end", flush=True)
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_exit_by_an_exception() -> None:
    done = run("""
executor = create_executor(2, 1, pin=False)
for _ in range(4):
    executor.submit(Run(Delay(10, LONG).job))
print("end", flush=True)
raise ValueError("the user's own")
""")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("ValueError: the user's own\n")


def test_exit_by_an_interrupt() -> None:
    done = run("""
executor = create_executor(2, 1, pin=False)
tasks = [Run(Delay(10, LONG).job) for _ in range(4)]
for task in tasks:
    executor.submit(task)
interrupt_main(0.05)
print("end", flush=True)
tasks[-1].wait()
""")
    assert done.returncode == -signal.SIGINT
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("KeyboardInterrupt\n")


def test_a_callback_that_never_returns_delays_the_exit_only_so_long() -> None:
    done = run("""
base.EXIT_PATIENCE = 0.2
executor = create_executor(1, 1, pin=False)
entered = threading.Event()
def forever():
    entered.set()
    threading.Event().wait()
Run(Neighbours(4, 1).job).start(executor, forever)
entered.wait()
print("end", flush=True)
""")
    assert done.returncode == 0
    assert done.stderr == "callbacks had not returned 0.2 seconds after the end of the program: unknown\n"


def test_a_stream_that_is_busy_for_long_delays_the_exit_only_so_long() -> None:
    done = run("""
base.EXIT_PATIENCE = 0.2
executor = create_executor(1, 1, pin=False)
entered = threading.Event()
def forever(stream):
    entered.set()
    threading.Event().wait()
executor.submit(Call(forever))
entered.wait()
print("end", flush=True)
""")
    assert done.returncode == 0
    assert done.stderr == "streams were still busy 0.2 seconds after the end of the program\n"


def test_an_interrupt_during_run_comes_after_it_and_loses_nothing() -> None:
    done = run("""
executor = create_executor(1, 2, pin=False)
work = Delay(1, 200)
interrupt_main(0.05)
try:
    executor.run(Run(work.job))
except KeyboardInterrupt:
    print(work.job.completed)
check(executor)
print("end", flush=True)
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "200\nend\n"


def test_an_interrupt_ends_a_wait_and_not_the_task() -> None:
    done = run("""
executor = create_executor(1, 1, pin=False)
work = Delay(10, LONG)
task = Run(work.job)
executor.submit(task)
until(lambda: work.begun)
interrupt_main(0.05)
try:
    task.wait()
except KeyboardInterrupt:
    print("interrupted", task.errors)
executor.cancel(task)
print(task.wait(30), [type(error).__name__ for error in task.errors])
check(executor)
print("end", flush=True)
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "interrupted []\nTrue ['CancelledError']\nend\n"


def test_an_interrupt_withdraws_a_run_that_waits_for_a_stream() -> None:
    done = run("""
executor = create_executor(1, 1, pin=False)
work = Delay(10, LONG)
busy, queued = Run(work.job), Run(Neighbours(4, 1).job)
executor.submit(busy)
until(lambda: work.begun)
interrupt_main(0.05)
try:
    executor.run(queued)
except KeyboardInterrupt:
    print("interrupted", queued.streams)
executor.cancel(busy)
busy.wait()
check(executor)
print("end", flush=True)
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "interrupted []\nend\n"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="older interpreters interrupt between any two instructions")
def test_a_storm_of_interrupts_loses_no_stream_and_no_task() -> None:
    done = run("""
executor = create_executor(2, 1, pin=False)
chance = random.Random(7)
stop = threading.Event()
main = threading.main_thread().ident
caught = 0
armed = False
enough = threading.Event()
def strike(*_):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, strike)
def storm():
    while not enough.wait(chance.random() * 0.002):
        signal.pthread_kill(main, signal.SIGINT)
thrower = threading.Thread(target=storm)

work = [Neighbours(16, 4) for _ in range(4)]
tasks = [Run(w.job) for w in work]
thrower.start()
while caught < 500:
    try:
        armed = True
        for task in tasks:
            # A task that an interrupt left behind has to be over before it is used again.
            task.wait()
            if chance.random() < 0.5:
                executor.submit(task)
            else:
                executor.run(task)
        for task in tasks:
            task.wait()
    except KeyboardInterrupt:
        caught += 1
armed = False
enough.set()
thrower.join()
for task in tasks:
    assert task.wait(30), "lost"
check(executor)
executor.stop()
print("end", flush=True)
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "end\n"


def test_a_forked_child_is_told_and_ends() -> None:
    done = run("""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
executor = create_executor(2, 2, pin=False)
work = Delay(10, LONG)
running, other = Run(work.job), Run(Neighbours(4, 1).job)
executor.submit(running)
until(lambda: work.begun)
child = os.fork()
if not child:
    for call in (lambda: executor.submit(other), lambda: executor.run(other), running.wait):
        try:
            call()
        except Error as error:
            print(str(error).split(",")[0], flush=True)
    executor.stop()
    check(create_executor(1, 2, pin=False))
    check(create_executor(0))
    print("child ends", flush=True)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
executor.cancel(running)
running.wait()
check(executor)
print("end", flush=True)
""")
    assert (done.returncode, done.stderr) == (0, "")
    told = "This compiled model was made before the process forked\n"
    assert done.stdout == told * 3 + "child ends\n7\nend\n"


def test_an_executor_made_in_a_callback() -> None:
    """An executor made in a callback uses the processors that the user allows, not the one the callback runs on."""
    done = run("""
executor = create_executor(1, 1)
made = []
task = Run(Neighbours(4, 1).job)
task.start(executor, lambda: made.append(create_executor(len(os.sched_getaffinity(os.getpid())))))
task.wait_called()
print([stream.cpus for stream in made[0].streams] == [(cpu,) for cpu in sorted(os.sched_getaffinity(0))])
check(made[0])
print("end", flush=True)
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "True\nend\n"
