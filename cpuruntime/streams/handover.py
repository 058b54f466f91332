"""Where tasks, streams and memory change hands: regions that a signal must not split.

A signal handler, such as Ctrl-C's, may raise in the main thread, and may start an inference itself. CPython runs it
only where a call returns, a function begins or a loop jumps back, never between plain statements: assignments,
comparisons, `del`, and `+=` on a list or deque. So the functions here call nothing before their end. An interrupt
strikes before their first statement, when nothing was done, or at the end, when all is done or can be done by a second
call; other threads may run in between, so each statement leaves a state that they understand. Code that must not be
split calls one of them; a `finally` calls it again when an interrupt struck before it began.

`StreamExecutor.submit` and `run` rely on that: after an interrupt a task's `_stream` is the stream that was lent to it,
and `placed` says whether a stream or the queue has the task.
"""

from __future__ import annotations

from bisect import insort
from typing import Any

# A stream is a LedStream and a task a Task; this module imports neither, because the public objects use it, which load
# no kernels.
Entry = tuple[int, float, int, Any]
"""A task in the queue: order, deadline, number, task."""


def enqueue(queue: list[Entry], entry: Entry, waiting: Any, notifications: tuple[Any, ...]) -> None:
    """Puts a task in the queue; the callback pool, which has the deque `waiting`, is to call functions at its end."""
    waiting += notifications
    entry[3].placed = True
    insort(queue, entry)


def hand_over(stream: Any, task: Any, idle: list[Any], waiting: Any, notifications: tuple[Any, ...]) -> None:
    """Gives the leader a task that was begun on this thread; else as `enqueue`. Its job starts without the GIL."""
    job = task._job
    waiting += notifications
    if job is not None and task.whole:
        job.fields[job.TASK] = task._address
        task._steps = job.steps
        stream.retained = ((task._signals, task.memory), stream.retained[0])
        stream.flight[0] = stream.IN_FLIGHT
        idle += (stream,)
    else:
        if job is not None:
            job.fields[job.TASK] = 0
        stream.task = task
    task.placed = True
    stream.lent = None
    if job is None:
        stream.ring_bell(stream.bell, 0, 0)
    else:
        stream.ring_with_job(stream.address, job.address, 0)


def give_first(stream: Any, queue: list[Entry], idle: list[Any], index: int) -> bool:
    """Gives the first task of the queue to the leader of a stream at a place in `idle`; whether there are both."""
    if stream.flight[0] != stream.IDLE or not queue or idle[index : index + 1] != [stream]:
        return False
    stream.task = queue[0][3]
    del queue[0]
    del idle[index]
    stream.ring_bell(stream.bell, 0, 0)
    return True


def give_back(stream: Any, task: Any, scheduler: Any) -> None:
    """Makes a stream idle that was lent to a task. Called again after an interrupt, does what is left."""
    if stream.lent is task:
        stream._pin_caller = False
        stream.lent = None
        scheduler.idle += (stream,)
    # Not before: what is queued, or closes the executor, while the stream is not idle is left to this thread.
    if scheduler.queue:
        scheduler.dispatch()
    if scheduler.closed:
        stream.ring()


def rebind(
    request: Any, arrays: list[Any], addresses: list[int], index: int, array: Any, address: int, bound: object
) -> None:
    """Binds memory to a place of a request: no address is left of memory that is gone. `bound` is for a new address."""
    is_new = addresses[index] != address
    if is_new:
        request.repeat[0] = 0
    arrays[index] = array
    addresses[index] = address
    if is_new:
        request._bound = bound


def end_run(bindings: Any, key: str, run: Any, error: BaseException | None, nanoseconds: int) -> None:
    """Makes a public request idle, if `run` is its inference; only one of several threads does so."""
    running = bindings.running
    if key in running and running[key] is run:
        run.error = error
        bindings.times[1] = nanoseconds
        del running[key]
        run.is_over = run.polled


def collect(in_flight: dict[int, Any], idle: Any, index: int, run: Any, errors: Any) -> None:
    """Makes a request of a queue idle, if `run` is its inference, and stores the error."""
    if index in in_flight and in_flight[index] is run:
        del in_flight[index]
        if run.error is not None:
            errors += (run.error,)
        idle += (index,)
